"""config/with-webhook and its like as they are applied, but for where the webhook is asked."""

import base64
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_op.admission.trust import ADMISSION_GROUP, WEBHOOK_KINDS
from support.kube.certificate import write_certificate
from support.kube.controlplane import ControlPlane, controlplane
from support.kube.manifests import CONFIG, NAMESPACE, named, rendered
from support.process.child import free_port
from support.process.operator import Models, Operator, wait_until
from support.virtual.door import create, hooks_at, put

pytestmark = pytest.mark.real

NOWHERE = "http://127.0.0.1:9"  # an Ollama that is never there: none of this needs one
NAME = "ollama-op-webhook"
SERVICE = f"{NAME}.{NAMESPACE}"
WORDS = "The OllamaModel \"bad\" is invalid: spec.interval: '1ms' is too short; at least 1s\n"
BY_POLICY = "ValidatingAdmissionPolicy"


@pytest.fixture
def cluster() -> Iterator[ControlPlane]:
    """Run a Kubernetes API with config/default, as most have it before they try the webhook."""
    with controlplane() as plane:
        plane.kubectl("apply", "-k", CONFIG / "default")
        yield plane


def overlaid(cluster: ControlPlane, folder: str, *flags: str) -> Operator:
    """Apply a folder, but for what is cert-manager's; return an operator as its account."""
    port = free_port()
    objects = [each for each in rendered(folder) if "cert-manager" not in each["apiVersion"]]
    put(cluster, hooks_at(port, objects))
    token = cluster.kubectl("-n", NAMESPACE, "create", "token", "ollama-op").strip()
    address = f"--webhook-bind-address=127.0.0.1:{port}"
    return Operator(cluster.kubeconfig_for("ollama-op", token), NOWHERE, address, *flags)


def refused(models: Models) -> str:
    """Try to create what is invalid, until the webhook is asked; return what kubectl says."""
    said = ""

    def is_refused() -> bool:
        nonlocal said
        said = create(models, "bad", interval="1ms")
        return "failed calling webhook" not in said and BY_POLICY not in said

    wait_until(is_refused, lambda: said)
    return said


def test_a_mistake_is_told_once_and_by_who_knows_more(cluster: ControlPlane) -> None:
    """After config/default had its policies refuse; and they do again when the webhook goes."""
    models = Models(cluster, "ai")
    with overlaid(cluster, "with-webhook", f"--webhook-service={SERVICE}") as operator:
        assert refused(models) == WORDS
        said = create(models, "moving", tag="latest")
        assert said.count("Warning: ") == 1
        assert "Warning: spec.tag: latest moves" in said
        assert operator.bugs() == []
    assert "failed calling webhook" in create(models, "bad", interval="1ms")
    cluster.kubectl("delete", "-k", CONFIG / "webhook", "--ignore-not-found")
    cluster.kubectl("apply", "-k", CONFIG / "default")
    wait_until(
        lambda: f"{BY_POLICY} 'ollama-op-models'" in create(models, "bad", interval="1ms"),
        lambda: "the policies do not refuse",
    )


class Mounted:
    """A Secret of cert-manager, mounted as a kubelet does it: all of it changes at once."""

    def __init__(self, cluster: ControlPlane, folder: Path) -> None:
        certificate = named(rendered("with-webhook-cert-manager"), "Certificate", NAME)
        self._spec = certificate["spec"]
        self._cluster, self._folder, self._round = cluster, folder, 0
        self.path = folder / "mounted"
        self.path.mkdir()

    def issue(self) -> bytes:
        """Make a certificate for the Certificate's names, and have it trusted; return it as DER."""
        self._round += 1
        data = self.path / f"..{self._round}"
        data.mkdir()
        for made in write_certificate(self._folder, tuple(self._spec["dnsNames"])):
            made.rename(data / ("tls.key" if "KEY" in made.read_text() else "tls.crt"))
        (self.path / "..next").symlink_to(data.name)
        (self.path / "..next").rename(self.path / "..data")
        for name in ("tls.crt", "tls.key"):
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        pem = (self.path / "tls.crt").read_text()
        self._inject(pem)
        return ssl.PEM_cert_to_DER_cert(pem)

    def _inject(self, pem: str) -> None:
        bundle = base64.b64encode(pem.encode()).decode()
        step = {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": bundle}
        for plural in WEBHOOK_KINDS:
            what = f"{plural}.{ADMISSION_GROUP.partition('/')[0]}/{NAME}"
            self._cluster.kubectl("patch", what, "--type=json", "--patch", json.dumps([step]))


def test_certificates_of_cert_manager_are_served_and_followed(cluster, tmp_path) -> None:
    """As the kubelet mounts them; the operator asks Kubernetes for nothing of the webhook's."""
    models, mounted = Models(cluster, "ai"), Mounted(cluster, tmp_path)
    flag = f"--webhook-cert-dir={mounted.path}"
    operator = overlaid(cluster, "with-webhook-cert-manager", flag)
    port = int(operator.command[-2].rpartition(":")[2])

    def served() -> bytes:
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port)))

    first = mounted.issue()
    with operator:
        assert served() == first
        assert refused(models) == WORDS
        second = mounted.issue()
        wait_until(lambda: served() == second, lambda: "still the first certificate")
        assert refused(models) == WORDS
        said = [line["msg"] for line in operator.logs()]
        assert "webhook certificate renewed" in said
        assert not [line for line in said if "not kept" in line or "denie" in line]
