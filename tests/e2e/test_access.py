"""An Ollama behind a gateway with TLS of its own that wants a token; both change meanwhile."""

import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.kube.certificate import write_certificate
from support.kube.controlplane import ControlPlane
from support.kube.mounted import swap
from support.ollama.gateway_server import GatewayServer
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.child import READY_S, free_port
from support.process.operator import COMMAND, Models, Operator, bare, reason, wait_until

pytestmark = pytest.mark.real

FIRST, SECOND = "canary4711one", "canary4711two"


class Place:
    """The gateway, and the folder in which the operator finds what it needs for it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.secret = folder, folder / "secret"
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.gateway = GatewayServer(port, tls=self.tls, token=FIRST)
        self.flags = {
            "ca": f"--ollama-ca-file={self.secret / 'ca.crt'}",
            "header": f"--ollama-header-file={self.secret / 'headers'}",
        }

    def identity(self, name: str) -> bytes:
        """Have the gateway show another certificate from now on; return it."""
        (self.folder / name).mkdir()
        certificate, key = write_certificate(self.folder / name, ("localhost",))
        self.tls.load_cert_chain(certificate, key)
        return certificate.read_bytes()


@pytest.fixture
def place(tmp_path: Path, ollama: OllamaServer) -> Iterator[Place]:
    it = Place(tmp_path, ollama.port)
    swap(it.secret, "1", ca_crt=it.identity("one"), headers=_header(FIRST))
    with it.gateway:
        yield it


def _header(token: str) -> bytes:
    return f"Authorization: Bearer {token}\n".encode()


def test_a_token_and_a_ca_change_in_mid_run(
    cluster: ControlPlane, registry: Registry, place: Place
) -> None:
    """The operator goes on with the new ones, and never says what the token is."""
    models, metrics = Models(cluster, "access"), f"127.0.0.1:{free_port()}"
    registry.publish("behind")
    registry.publish("later")
    flags = (*place.flags.values(), f"--metrics-bind-address={metrics}", "--log-level=debug")
    with Operator(cluster.kubeconfig, place.gateway.url, *flags) as operator:
        models.want("behind", "behind:latest", interval="1s")
        models.ready("behind")

        def told(what: str) -> int:
            return sum(line["msg"] == what for line in operator.logs())

        place.gateway.token = SECOND
        status = models.until("behind", lambda s: reason(s) == "NotOllama")
        message = json.dumps(status)
        assert "it asks for credentials. Give the operator a token with --ollama-header" in message
        ca = place.identity("two")  # for connections from now on
        swap(place.secret, "2", ca_crt=ca, headers=_header(SECOND))
        models.ready("behind")
        assert told("file read again") == 2

        swap(place.secret, "3", ca_crt=b"nothing", headers=b"")
        wait_until(
            lambda: told("file cannot be used, keeping what it said") == 2,
            lambda: str(operator.logs()[-5:]),
        )
        models.want("later", "later:latest")
        models.ready("later")

        said = [operator.log.read_text(), models.kubectl("get", "om,events", "-o", "yaml")]
        said += [httpx.get(f"http://{metrics}/metrics", trust_env=False).text]
        assert [text[:200] for text in said if "canary4711" in text] == []
        models.clear()
    assert {each.get("authorization") for each in place.gateway.headers} == {
        f"Bearer {FIRST}",
        f"Bearer {SECOND}",
    }


@pytest.mark.parametrize(
    ("left_out", "message", "hint"),
    [
        ("", "is Ollama 0.", ""),
        ("ca", "shows a certificate that is not trusted", "--ollama-ca-file"),
        ("header", "it asks for credentials", "--ollama-header-file"),
    ],
)
def test_the_doctor_goes_the_same_way(
    cluster: ControlPlane, place: Place, left_out: str, message: str, hint: str
) -> None:
    """With the flags of `run`; without one of them it says which is missing."""
    flags = [flag for name, flag in place.flags.items() if name != left_out]
    url = f"--ollama-api-url={place.gateway.url}"
    done = subprocess.run(
        [COMMAND, "doctor", f"--kubeconfig={cluster.kubeconfig}", url, "--output=json", *flags],
        check=False,
        capture_output=True,
        text=True,
        env=bare(place.folder),
        timeout=READY_S,
    )
    (found,) = [each for each in json.loads(done.stdout)["checks"] if each["check"] == "ollama"]
    assert message in found["message"]
    assert hint in found["hint"]
    assert "canary4711" not in done.stdout + done.stderr
