"""The flags of the REST API, and what the process refuses to begin with."""

import hashlib
from functools import partial

import pytest

from ollama_op.base.parsing import (
    Address,
    ConfigError,
    UsageError,
    parse_key,
    parse_namespace,
    parse_networks,
    parse_origins,
    parse_switch,
)
from ollama_op.base.settings import RestSettings
from support.virtual.commandline import Run


@pytest.fixture
def run(run: Run) -> Run:
    """Run an operator with the REST API as well."""
    return partial(run, "--enable-api-server")


@pytest.mark.parametrize(
    ("how", "fine"),
    [
        ({}, False),
        ({"enabled": False}, True),
        ({"bind_address": None}, True),
        ({"key": "k"}, True),
        ({"key": ""}, False),
        ({"key_file": "keys"}, True),
        ({"kubernetes_auth": True}, True),
        ({"insecure": True}, True),
        ({"bind_address": Address("127.0.0.1", 1)}, True),
        ({"bind_address": Address("127.1.2.3", 1)}, True),
        ({"bind_address": Address("::1", 1)}, True),
        ({"bind_address": Address("localhost", 1)}, True),
        ({"bind_address": Address("10.0.0.1", 1)}, False),
        ({"bind_address": Address("::", 1)}, False),
        ({"bind_address": Address("host.example", 1)}, False),
    ],
)
def test_a_door_for_everybody_has_to_be_asked_for(how, fine):
    """Without a key it is loopback only, or --api-server-insecure."""
    settings = RestSettings(**{"enabled": True} | how)
    if fine:
        settings.check()
    else:
        with pytest.raises(UsageError):
            settings.check()


def test_an_open_door_is_a_mistake_on_the_command_line(run):
    """Exit code 2, and what to do."""
    ended = run("--api-server-bind-address=:8082")
    error, hint = ended.error
    assert ended.code == 2
    assert error == "the REST API at :8082 could be used by everybody who can reach it"
    assert "--api-server-key-file" in hint


def test_a_key_file_that_is_none_is_told_at_the_start(run, tmp_path):
    """By name, and never with what is in it."""
    (tmp_path / "keys").write_text("keys: [{name: x, sha256: my-own-key}]")
    ended = run(
        f"--api-server-key-file={tmp_path / 'keys'}", "--api-server-bind-address=127.0.0.1:0"
    )
    error, hint = ended.error
    assert (ended.code, "keys[0].sha256" in error, "docs/rest.md" in hint) == (1, True, True)
    assert "my-own-key" not in error + hint


def test_a_busy_port_is_told(run):
    """With the flag that helps."""
    with Address("127.0.0.1", 0).bind() as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        ended = run(f"--api-server-bind-address={address}")
    assert (ended.code, ended.error) == (
        1,
        (
            f"cannot listen on {address} for the REST API: Address already in use",
            "set --api-server-bind-address to a free port, or to 0 for none",
        ),
    )


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--api-server-cors-origins=models.example", "no origin"),
        ("--api-server-trusted-proxies=proxy", "no address"),
        ("--api-server-insecure=maybe", "neither true nor false"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_refused(run, flag, words):
    """Exit code 2, with the value and what would do."""
    ended = run(flag)
    assert (ended.code, words in ended.error[0]) == (2, True)


def test_the_key_is_in_no_repr():
    """Whatever prints the settings one day."""
    assert "hunter2" not in repr(RestSettings(key="hunter2"))


@pytest.mark.parametrize("text", ["hunter2", "hunter2\n", "hunter2\r\n", "hunter2\n\n"])
def test_a_key_loses_the_line_feed_at_its_end(text):
    """No header could bring it, whoever made the Secret `--from-file`."""
    assert parse_key(text) == "hunter2"


@pytest.mark.parametrize("text", ["\n", " \n", "hun\nter2", "hunter2\x00"])
def test_a_key_that_no_header_can_have_is_refused(text):
    """Nobody could come in with it, or everybody; it is not repeated."""
    with pytest.raises(ConfigError) as caught:
        parse_key(text)
    assert "hun" not in str(caught.value)


@pytest.mark.parametrize("text", ["a.b", "A", "-a", "a" * 64, "a\n", ""])
def test_a_namespace_is_one_label(text):
    """Another one could never be, and the operator would wait for it in silence."""
    with pytest.raises(ConfigError, match="cannot be a namespace"):
        parse_namespace(text)
    assert parse_namespace("my-team") == "my-team"


def test_lists_and_switches_are_read():
    """Commas part; switches are Go's, and yes and no."""
    assert parse_origins("https://a.example, http://b:3000") == (
        "https://a.example",
        "http://b:3000",
    )
    assert parse_networks("10.0.0.0/8,::1") == ("10.0.0.0/8", "::1")
    assert [parse_switch(text) for text in ("T", "1", "false", "")] == [True, True, False, False]
    assert [parse_switch(text) for text in ("Yes", " on\n", "NO")] == [True, True, False]
    with pytest.raises(ConfigError):
        parse_networks("10.0.0.1/8")


def test_keys_are_known_by_their_hash_alone():
    """Also the one from the command line."""
    from ollama_op.rest.serving import load_keys  # noqa: PLC0415 - it imports Litestar

    keys = load_keys(RestSettings(key="k"))
    assert keys.fixed[0].sha256 == hashlib.sha256(b"k").digest()
    assert keys.find(b"k") is not None
