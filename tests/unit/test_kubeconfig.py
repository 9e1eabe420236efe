import base64
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_op.base.parsing import ConfigError
from ollama_op.kube import access
from ollama_op.kube.access import find_access

Object = dict[str, Any]
HTTPS = {"server": "https://kube:6443"}
EXEC = {
    "apiVersion": "client.authentication.k8s.io/v1",
    "command": "cat",
    "interactiveMode": "Never",
}
SECRET = "hunter2"  # noqa: S105 - it is here to be looked for


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let there be nothing but what a test writes."""
    for name in ("KUBECONFIG", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(access, "ACCOUNT", tmp_path / "account")


def config(cluster: Object | None = None, user: Object | None = None, name: str = "here") -> Object:
    """Return a kubeconfig with one context; all entries have its name."""
    return {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": HTTPS if cluster is None else cluster}],
        "users": [{"name": name, "user": user or {}}],
    }


def write(path: Path, content: Object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


def several(monkeypatch: pytest.MonkeyPatch, *paths: Path | str) -> None:
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, paths)))


# --- which file


def test_of_two_files_the_first_wins(tmp_path, monkeypatch):
    """As with kubectl; otherwise the operator would work on another cluster than its user sees."""
    first = write(tmp_path / "a", config({"server": "https://first"}, {"token": "first"}))
    second = write(tmp_path / "b", config({"server": "https://second"}, {"token": "second"}))
    several(monkeypatch, first, second)
    found = find_access(None)
    assert (found.server, found.user.token) == ("https://first", "first")
    assert found.where == f"the kubeconfig {first}:{second}"


def test_entries_of_one_name_are_not_mixed(tmp_path, monkeypatch):
    """A user of the first file gets no key of the second file's."""
    first = write(tmp_path / "a", config(user={"token": "first"}))
    second = write(tmp_path / "b", config(user={"as": "alice"}))
    several(monkeypatch, first, second)
    assert find_access(None).user.impersonate == ""


def test_what_the_first_file_lacks_the_second_has(tmp_path, monkeypatch):
    """The current context, for example, or the user; a file that is not there is passed over."""
    whole = config(user={"token": SECRET})
    second = write(tmp_path / "b", {"current-context": "here", "users": whole.pop("users")})
    del whole["current-context"]
    first = write(tmp_path / "a", whole)
    several(monkeypatch, tmp_path / "none", first, "", second)
    assert find_access(None).user.token == SECRET


def test_a_path_is_relative_to_the_file_it_stands_in(tmp_path, monkeypatch):
    """Not to the folder that the operator was started in, and not to the first file."""
    (tmp_path / "two" / "bin").mkdir(parents=True)
    plugin = tmp_path / "two" / "bin" / "plugin"
    plugin.write_text("#!/bin/sh\n")
    plugin.chmod(0o755)
    (tmp_path / "two" / "ca.crt").write_text("")
    first = write(tmp_path / "one" / "a", {"current-context": "here"})
    second = write(
        tmp_path / "two" / "b",
        config(
            {**HTTPS, "certificate-authority": "ca.crt"},
            {"exec": {**EXEC, "command": "./bin/plugin"}},
        ),
    )
    several(monkeypatch, first, second)
    found = find_access(None)
    assert found.cluster.certificate_authority == str(tmp_path / "two" / "ca.crt")
    assert found.plugin is not None
    assert found.plugin.command == str(plugin)


def test_the_flag_names_one_file_whatever_is_in_its_name(tmp_path, monkeypatch):
    """KUBECONFIG is not read then, and a colon parts nothing."""
    several(monkeypatch, tmp_path / "none")
    assert find_access(write(tmp_path / "a:b", config())).server == HTTPS["server"]


def test_the_default_is_in_the_home_folder(tmp_path):
    """As kubectl has it."""
    write(tmp_path / ".kube" / "config", config())
    assert find_access(None).server == HTTPS["server"]


def test_a_pod_uses_its_own_account_unless_there_is_a_kubeconfig(tmp_path, monkeypatch):
    """The token is a file, which the kubelet renews."""
    (tmp_path / "account").mkdir()
    (tmp_path / "account" / "token").write_text("t")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    found = find_access(None)
    assert (found.server, found.who) == ("https://[fd00::1]:443", "the pod's own account")
    assert found.user.token_file == str(tmp_path / "account" / "token")
    write(tmp_path / ".kube" / "config", config())
    assert find_access(None).server == HTTPS["server"]


def test_the_context_may_be_pinned(tmp_path):
    """Nobody is led to another cluster by a `use-context` after the start."""
    both, other = config(), config({"server": "https://other"}, name="there")
    for key in ("contexts", "clusters", "users"):
        both[key] += other[key]
    path = write(tmp_path / "a", both | {"current-context": "there"})
    assert find_access(path, "here").server == HTTPS["server"]


# --- what is refused, in one line


REFUSED = {
    "no server": ({"server": ""}, {}, "has the cluster 'here' without a server"),
    "no address": (
        {"server": "kube:6443"},
        {},
        "has the cluster 'here' with the server 'kube:6443', which is no https:// or http://",
    ),
    "an address with a password": (
        {"server": f"ftp://me:{SECRET}@kube"},
        {},
        "with the server 'ftp://…@kube'",
    ),
    "socks": ({**HTTPS, "proxy-url": "socks5://p:1"}, {}, "proxy-url of the kind socks5://"),
    "server name and proxy": (
        {**HTTPS, "proxy-url": "http://p:1", "tls-server-name": "kube"},
        {},
        "cannot be used together",
    ),
    "CA twice": (
        {**HTTPS, "certificate-authority": "a", "certificate-authority-data": "Yg=="},
        {},
        "certificate-authority and certificate-authority-data",
    ),
    "CA of an insecure server": (
        {**HTTPS, "certificate-authority-data": "Yg==", "insecure-skip-tls-verify": True},
        {},
        "insecure-skip-tls-verify",
    ),
    "no CA file": ({**HTTPS, "certificate-authority": "none"}, {}, "certificate-authority"),
    "password": (HTTPS, {"username": "a", "password": SECRET}, "username and password"),
    "no key": (HTTPS, {"client-certificate-data": "Yg=="}, "without a client-key"),
    "no token file": (HTTPS, {"tokenFile": "none"}, "tokenFile"),
    "groups of nobody": (HTTPS, {"as-groups": ["a"]}, "without as"),
    "auth-provider": (HTTPS, {"auth-provider": {"name": "gcp"}}, "auth-provider 'gcp'"),
    "auth-provider without a token": (HTTPS, {"auth-provider": {"name": "oidc"}}, "no id-token"),
    "v1alpha1": (
        HTTPS,
        {"exec": {**EXEC, "apiVersion": "client.authentication.k8s.io/v1alpha1"}},
        "apiVersion client.authentication.k8s.io/v1alpha1",
    ),
    "no command": (HTTPS, {"exec": {**EXEC, "command": ""}}, "without a command"),
    "a terminal": (HTTPS, {"exec": {**EXEC, "interactiveMode": "Always"}}, "needs a terminal"),
    "no mode": (HTTPS, {"exec": {**EXEC, "interactiveMode": None}}, "no interactiveMode"),
    "no program": (HTTPS, {"exec": {**EXEC, "command": "no-such"}}, "plugin no-such, which is not"),
}


@pytest.mark.parametrize(("cluster", "user", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_is_refused_in_one_line(tmp_path, cluster, user, words):
    """Before anything is called, with the file, and with something to do."""
    path = write(tmp_path / "a", config(cluster, user))
    with pytest.raises(ConfigError) as caught:
        find_access(path)
    assert str(caught.value).startswith(f"the kubeconfig {path} has ") or "asks for" in str(
        caught.value
    )
    assert words in str(caught.value)
    assert "\n" not in str(caught.value) + caught.value.hint
    assert caught.value.hint
    assert SECRET not in str(caught.value) + caught.value.hint


def test_a_missing_plugin_says_how_to_get_it(tmp_path):
    """The install hint stands in the kubeconfig; it may have several lines."""
    hint = "get it:\n  brew install it\x1b[2J"
    user = {"exec": {**EXEC, "command": "no-such", "installHint": hint}}
    with pytest.raises(ConfigError) as caught:
        find_access(write(tmp_path / "a", config(user=user)))
    assert caught.value.hint == "get it:   brew install it [2J"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (config(user={"token": 123}), "users[0].user.token is not text"),
        (config(user={"exec": {**EXEC, "args": "x"}}), "users[0].user.exec.args is not a list"),
        ({"clusters": {}}, "clusters is not a list"),
        (config(user={"exec": {**EXEC, "provideClusterInfo": "x"}}), "is not true or false"),
        (
            config() | {"users": [{"name": "here"}, {"name": "here"}]},
            "two entries with the name 'here'",
        ),
    ],
)
def test_a_value_of_another_kind_is_told_by_its_place(tmp_path, content, words):
    """And not repeated: it may be a secret."""
    with pytest.raises(ConfigError, match="cannot be read: ") as caught:
        find_access(write(tmp_path / "a", content))
    assert words in str(caught.value)
    assert "123" not in str(caught.value).replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: b\nusers: *hunter2\n", "line 2 is no YAML"),
        (b"a: b\n\n{{{{", "line 3 is no YAML"),
        (b"\xff\xfe\x00", "it is no text"),
        (b"a: \x00", "it is no text"),
        (b"hello", "it is no kubeconfig: it has no clusters, users and contexts"),
        (b"- a\n", "it is no kubeconfig: it has no clusters, users and contexts"),
        (None, "is a directory"),
    ],
)
def test_a_file_that_is_no_kubeconfig_says_why(tmp_path, content, words):
    """In words of our own, with the line, and without what it says."""
    path = tmp_path / "a"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        find_access(path)
    assert str(caught.value) == f"the kubeconfig {path} cannot be read: {words}"


def test_several_files_belong_into_the_variable(tmp_path):
    """The flag takes one, as that of kubectl does."""
    with pytest.raises(ConfigError) as caught:
        find_access(Path(f"{tmp_path}/a:{tmp_path}/b"))
    assert caught.value.hint == "name one file with --kubeconfig, and several in KUBECONFIG"


def test_what_is_null_is_not_there(tmp_path):
    """As for Go: plugins' installers write `env: null`."""
    user = {"exec": {**EXEC, "env": None, "args": None}, "as-groups": None}
    assert find_access(write(tmp_path / "a", config(user=user))).plugin is not None


def test_another_credential_comes_before_the_plugin(tmp_path):
    """As with kubectl: the plugin is not even looked for."""
    user = {"exec": {**EXEC, "command": "no-such"}, "token": "t"}
    assert find_access(write(tmp_path / "a", config(user=user))).plugin is None


def test_a_proxy_of_the_environment_counts_for_the_server_name(tmp_path, monkeypatch):
    """The pair is refused wherever the proxy comes from; NO_PROXY helps."""
    path = write(tmp_path / "a", config({**HTTPS, "tls-server-name": "kube"}))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    with pytest.raises(ConfigError, match="cannot be used together"):
        find_access(path)
    monkeypatch.setenv("NO_PROXY", "kube")
    assert find_access(path).proxy is None


def test_nothing_shows_a_secret(tmp_path):
    """Neither in a traceback nor in a log."""
    user = {
        "token": SECRET,
        "client-key-data": base64.b64encode(SECRET.encode()).decode(),
        "exec": {**EXEC, "env": [{"name": "KEY", "value": SECRET}]},
        "auth-provider": {"name": "oidc", "config": {"id-token": SECRET}},
    }
    del user["auth-provider"]
    cluster = {**HTTPS, "proxy-url": f"http://user:{SECRET}@proxy:3128"}
    found = find_access(write(tmp_path / "a", config(cluster, user)))
    assert SECRET not in repr(found)
    assert found.user.plugin is not None
    assert SECRET not in repr(found.user.plugin)
