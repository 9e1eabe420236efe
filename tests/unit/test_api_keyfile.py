import hashlib
import os

import anyio
import pytest

from api import keyfile
from api.access import Keys
from api.keyfile import InvalidKeyFileError, load, parse, reload

HASH = hashlib.sha256(b"secret").hexdigest()


def test_a_key_file_is_yaml_or_json():
    """Scopes and namespaces are optional, and narrow a key."""
    text = f"""
keys:
- name: ci
  sha256: {HASH}
  scopes: [read]
  namespaces: [ai, web]
- {{name: admin, sha256: "{HASH}"}}
"""
    ci, admin = parse(text.encode())
    assert (ci.name, ci.writes, ci.namespaces) == ("ci", False, frozenset({"ai", "web"}))
    assert (admin.name, admin.writes, admin.namespaces) == ("admin", True, None)
    assert Keys([ci]).find(b"secret") is ci
    assert parse(f'{{"keys": [{{"name": "x", "sha256": "{HASH}"}}]}}'.encode())[0].name == "x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; write an object with fields"),
        ("c2VjcmV0", "is a text; write an object with fields"),  # a key alone, without `keys:`
        ("keys: []", "keys"),
        ("keys: [{name: x}]", "sha256"),
        ("keys: [{name: x, sha256: secret}]", "sha256: is no SHA-256; write the 64 hex"),
        (f"keys: [{{name: x, sha256: {HASH}, scopes: [admin]}}]", "write read or write"),
        (f"keys: [{{name: x, sha256: {HASH}, scopes: []}}]", "scopes"),
        (f"keys: [{{name: x, sha256: {HASH}, key: y}}]", "keys[0].key: is not known here"),
        (f"keys: [{{name: x, sha256: {HASH}, namespaces: [A]}}]", "namespaces[0]: is no name of a"),
        (f"keys: [{{name: x, sha256: {HASH}}}, {{name: x, sha256: {HASH}}}]", "same name"),
        ("keys: [", "no YAML (line 1)"),
        ("!!python/object/apply:os.system ['x']", "no YAML"),
    ],
)
def test_a_key_file_that_is_none_is_told_without_its_values(text, words):
    """A key that was pasted instead of its hash is not repeated."""
    with pytest.raises(InvalidKeyFileError) as caught:
        parse(text.encode())
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("form", ["{}", "{}  -", "sha256:{}", '"{}\\n"', "|\n    {}\n"])
def test_a_key_whose_file_ends_with_a_line_feed_works(end, form):
    """So do files of `echo` and of `create secret --from-file`; a header has no such end."""
    digest = hashlib.sha256(f"secret{end}".encode()).hexdigest()
    (key,) = parse(f"keys:\n- name: x\n  sha256: {form.format(digest)}".encode())
    assert Keys([key]).find(b"secret") is key
    assert Keys([key]).find(b"secre") is None


def test_a_hash_in_capitals_is_the_same():
    """Some tools print it so."""
    (key,) = parse(f"keys: [{{name: x, sha256: {HASH.upper()}}}]".encode())
    assert Keys([key]).find(b"secret") is key


def test_bytes_that_are_no_text_are_no_key_file():
    """As when the wrong file was mounted."""
    with pytest.raises(InvalidKeyFileError):
        parse(b"\xff\xfe\x00")


def test_a_file_that_is_not_there_or_too_long_is_told(tmp_path):
    """By the system's own word."""
    with pytest.raises(InvalidKeyFileError, match="No such file"):
        load(tmp_path / "none")
    (tmp_path / "long").write_bytes(b"#" * (keyfile.MAX_BYTES + 1))
    with pytest.raises(InvalidKeyFileError, match="1 MiB"):
        load(tmp_path / "long")


@pytest.fixture
def anyio_backend() -> str:
    """Files are read in threads, which virtual time does not wait for."""
    return "asyncio"


def _write(folder, name, secret) -> None:
    digest = hashlib.sha256(secret).hexdigest()
    (folder / name).write_text(f"keys: [{{name: x, sha256: {digest}}}]")


async def test_a_mounted_secret_that_moves_is_read_again(tmp_path, monkeypatch):
    """Kubernetes swaps a link; a file that is broken meanwhile changes nothing."""
    monkeypatch.setattr(keyfile, "POLL_S", 0.01)
    for name, secret in (("one", b"first"), ("two", b"second")):
        (tmp_path / name).mkdir()
        _write(tmp_path / name, "keys.yaml", secret)
    (tmp_path / "data").symlink_to("one")
    path = tmp_path / "data" / "keys.yaml"
    keys = Keys()
    keys.loaded = load(path)

    async def until(secret: bytes) -> None:
        with anyio.fail_after(60):
            while keys.find(secret) is None:  # noqa: ASYNC110 - a file has no event
                await anyio.sleep(0.01)

    changes: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keyfile.follow, path, keys, lambda: changes.append(1))
        await until(b"first")
        await anyio.sleep(0.05)
        (tmp_path / "new").symlink_to("two")
        os.replace(tmp_path / "new", tmp_path / "data")  # noqa: PTH105 - as the kubelet does
        await until(b"second")
        assert keys.find(b"first") is None
        await anyio.sleep(0.05)
        assert changes == [1]
        tasks.cancel_scope.cancel()


async def test_what_changed_before_it_was_followed_is_taken_in_too(tmp_path):
    """A key that was withdrawn while the operator waited for Kubernetes is valid no longer."""
    _write(tmp_path, "keys.yaml", b"first")
    path, keys = tmp_path / "keys.yaml", Keys()
    keys.loaded = load(path)
    _write(tmp_path, "keys.yaml", b"second")
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keyfile.follow, path, keys, tasks.cancel_scope.cancel)
    assert (keys.find(b"first") is None, keys.find(b"second") is None) == (True, False)


async def test_a_broken_file_keeps_the_old_keys(tmp_path):
    """Nobody is locked out by a typing mistake."""
    _write(tmp_path, "keys.yaml", b"first")
    keys = Keys()
    await reload(tmp_path / "keys.yaml", keys)
    (tmp_path / "keys.yaml").write_text("keys: [")
    await reload(tmp_path / "keys.yaml", keys)
    assert keys.find(b"first") is not None
