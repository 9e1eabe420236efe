"""Plugins are programs that the tests write, and they really run."""

import base64
import json
import os
import stat
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from ollama_op.base.errors import LoginFailed
from ollama_op.kube import plugin
from ollama_op.kube.access import Access
from ollama_op.kube.credentials import Credentials, log_in
from ollama_op.kube.kubeconfig import ClusterEntry, Exec, UserEntry, Variable
from support.kube.certificate import write_certificate

VERSION = "client.authentication.k8s.io/v1"
SECRET = "hunter2"  # noqa: S105 - it is here to be looked for
TOKEN, OLD, NONE = "t", "old", "/none"


def login(access: Access, before: Credentials | None = None) -> Credentials:
    """Log in, in real time: a process has no other."""
    return anyio.run(log_in, access, before)


def script(folder: Path, body: str) -> Exec:
    """Write a plugin."""
    path = folder / "plugin"
    path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return Exec(command=str(path), api_version=VERSION)


def printing(folder: Path, **status: Any) -> Exec:
    return script(folder, f"print({answer(**status)!r})")


def answer(**status: Any) -> str:
    return json.dumps({"apiVersion": VERSION, "kind": "ExecCredential", "status": status})


CLUSTER = ClusterEntry("https://kube")


def access(plugin: Exec | None, cluster: ClusterEntry = CLUSTER, **user: Any) -> Access:
    return Access(
        "the kubeconfig x", "here", "user 'me'", cluster, UserEntry(plugin=plugin, **user)
    )


def headers(credentials: Credentials) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in credentials.headers]


def test_a_token_and_when_it_ends(tmp_path):
    """The common case: EKS, GKE, AKS, OIDC."""
    asked = printing(tmp_path, token=TOKEN, expirationTimestamp="2026-01-01T00:00:00Z")
    found = login(access(asked))
    assert headers(found) == [("Authorization", "Bearer t")]
    assert found.expires_at is not None
    assert found.expires_at.isoformat() == "2026-01-01T00:00:00+00:00"


def test_a_certificate_leaves_no_file(tmp_path, monkeypatch):
    """Neither in the temp folder nor where shared memory is: a key there is anybody's loot."""
    certificate, key = write_certificate(tmp_path, ("me",))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    shared = Path("/dev/shm")  # noqa: S108 - it is looked at only
    before = set(shared.iterdir()) if shared.is_dir() else set()
    asked = printing(
        tmp_path,
        clientCertificateData=certificate.read_text(),
        clientKeyData=key.read_text(),
    )
    found = login(access(asked))
    assert found.identity.certificate == certificate.read_bytes()
    assert headers(found) == []
    assert list((tmp_path / "tmp").iterdir()) == []
    after = set(shared.iterdir()) if shared.is_dir() else set()
    assert not [each for each in after - before if "pem" in each.name or "ollama" in each.name]


def test_where_memory_has_no_files_a_folder_is_removed_at_once(tmp_path, monkeypatch):
    """Only its owner may enter it."""
    certificate, key = write_certificate(tmp_path, ("me",))
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    user = {
        "client_certificate_data": base64.b64encode(certificate.read_bytes()).decode(),
        "client_key_data": base64.b64encode(key.read_bytes()).decode(),
    }
    login(access(None, **user))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_environment_is_that_of_kubectl(tmp_path, monkeypatch):
    """The operator's own, the plugin's own, and what it may know of the cluster."""
    (tmp_path / "ca").write_text("CA")
    monkeypatch.setenv("INHERITED", "yes")
    asked = script(
        tmp_path,
        "env = {k: os.environ.get(k) for k in ('INHERITED', 'OWN', 'KUBERNETES_EXEC_INFO')}\n"
        f"open({str(tmp_path / 'seen')!r}, 'w').write(json.dumps([sys.argv[1:], env]))\n"
        f"print({answer(token=TOKEN)!r})",
    )
    asked = Exec(
        command=asked.command,
        args=("a", "b"),
        env=(Variable("OWN", "1"),),
        api_version=VERSION,
        provide_cluster_info=True,
    )
    cluster = ClusterEntry("https://kube", certificate_authority=str(tmp_path / "ca"))
    with suppress(LoginFailed):  # the CA is none
        login(access(asked, cluster))
    arguments, env = json.loads((tmp_path / "seen").read_text())
    assert (arguments, env["INHERITED"], env["OWN"]) == (["a", "b"], "yes", "1")
    assert json.loads(env["KUBERNETES_EXEC_INFO"]) == {
        "apiVersion": VERSION,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://kube",
                "certificate-authority-data": "Q0E=",
                "config": None,
            },
        },
    }


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("sys.exit('first\\nno credentials')", "ended with exit code 1: no credentials"),
        ("sys.exit(7)", "ended with exit code 7: without a word"),
        ("print('hunter2')", "printed something that is not an ExecCredential"),
        ('print(\'{"kind": "List"}\')', "printed List of no apiVersion, not an ExecCredential"),
        (f"print({answer()!r})", "gave neither a token nor a certificate"),
        (f"print({answer(clientKeyData=SECRET)!r})", "gave only one of certificate and key"),
        (f"print({answer(token=TOKEN, expirationTimestamp='soon')!r})", "is not an ExecCredential"),
        (f"print({answer(clientKeyData=SECRET, clientCertificateData='x')!r})", "are not PEM"),
        (f"print({answer(token=TOKEN + chr(10) + 'x')!r})", "cannot be sent in a header"),
    ],
)
def test_what_a_plugin_does_wrong_is_told_with_its_name_and_time(tmp_path, body, words):
    """In one line, and without what it printed."""
    with pytest.raises(LoginFailed) as caught:
        login(access(script(tmp_path, body)))
    told = str(caught.value)
    assert words in told
    assert SECRET not in told
    assert told.startswith("user 'me': ") or (
        told.startswith("the plugin plugin ") and told.endswith(" s)")
    )


def test_a_program_that_cannot_run_is_told(tmp_path):
    """A script for an interpreter that is not there, for example."""
    asked = script(tmp_path, "")
    Path(asked.command).write_text("#!/no/such/interpreter\n")
    with pytest.raises(LoginFailed, match="cannot be started: No such file or directory"):
        login(access(asked))


def test_a_plugin_that_does_not_end_is_stopped(tmp_path, monkeypatch):
    """And told, with the time that it had."""
    monkeypatch.setattr(plugin, "PLUGIN_LIMIT_S", 0.2)
    with pytest.raises(LoginFailed, match=r"the plugin plugin did not end within 0\.2 s"):
        login(access(script(tmp_path, "time.sleep(600)")))


def test_a_plugin_is_stopped_with_all_that_it_has_started(tmp_path):
    """Or each login that is given up, at the process' end for example, would leave some behind."""
    started = tmp_path / "started"
    asked = script(
        tmp_path,
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(tmp_path / 'new')!r}, 'w').write(str(child.pid))\n"
        f"os.rename({str(tmp_path / 'new')!r}, {str(started)!r})\n"
        "child.wait()",
    )

    async def give_up() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log_in, access(asked), None)
            while not started.exists():  # noqa: ASYNC110 - a process has no event
                await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()

    anyio.run(give_up)
    pid, deadline = int(started.read_text()), time.monotonic() + 60
    while _is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


# --- what is sent


def test_impersonation_is_a_matter_of_headers():
    """The operator acts as whom its kubeconfig says, and not as whom it logs in."""
    found = login(
        access(
            None,
            token=TOKEN,
            impersonate="alice",
            as_uid="1",
            as_groups=("a", "b"),
            as_user_extra={"Example.com/Scope": ("x", "ü")},
        )
    )
    assert headers(found) == [
        ("Authorization", "Bearer t"),
        ("Impersonate-User", "alice"),
        ("Impersonate-Uid", "1"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-example.com%2Fscope", "x"),
        ("Impersonate-Extra-example.com%2Fscope", "ü"),
    ]


def test_a_token_file_wins_over_a_token_while_it_can_be_read(tmp_path):
    """And its last line may end with a line feed, as `kubectl create secret` leaves it."""
    file = tmp_path / "token"
    file.write_text("new\n")
    user = {"token": "old", "token_file": str(file)}
    found = login(access(None, **user))
    assert (headers(found), found.from_files) == ([("Authorization", "Bearer new")], True)
    file.unlink()
    assert headers(login(access(None, **user))) == [("Authorization", "Bearer old")]


def test_no_token_is_sent_without_encryption():
    """As with kubectl; whoever listens could use it."""
    plain = access(None, ClusterEntry("http://kube"), token=SECRET)
    assert headers(login(plain)) == []


def test_a_missing_file_is_told_by_its_name():
    """The path is what helps; that it once was there does not."""
    with pytest.raises(LoginFailed, match="user 'me': cannot read /none: No such file"):
        login(access(None, token_file=NONE))


def test_an_encrypted_key_asks_nobody_for_a_password(tmp_path):
    """OpenSSL would ask on the terminal, and wait."""
    certificate, _ = write_certificate(tmp_path, ("me",))
    encrypted = (
        "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
        "DEK-Info: AES-128-CBC,00000000000000000000000000000000\n\nAAAA\n"
        "-----END EC PRIVATE KEY-----\n"
    )
    user = {
        "client_certificate_data": base64.b64encode(certificate.read_bytes()).decode(),
        "client_key_data": base64.b64encode(encrypted.encode()).decode(),
    }
    began = time.monotonic()
    with pytest.raises(LoginFailed, match="not PEM, or not of each other"):
        login(access(None, **user))
    assert time.monotonic() - began < 60


def test_the_same_identity_keeps_its_connections(tmp_path):
    """A new token is no reason to connect anew; a new certificate is."""
    first = login(access(printing(tmp_path, token=OLD)))
    second = login(access(printing(tmp_path, token=TOKEN)), first)
    assert second.tls is first.tls
    certificate, _ = write_certificate(tmp_path, ("me",))
    trusting = ClusterEntry("https://kube", certificate_authority=str(certificate))
    assert (login(access(None, trusting), second)).tls is not first.tls
