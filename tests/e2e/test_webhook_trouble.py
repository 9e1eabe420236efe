"""What is broken or missing around the webhook, and a namespace that is going, on real parts."""

import base64
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from crd.v1alpha1 import FINALIZER
from ollama_op.base.rights import WEBHOOK_SECRET
from support.kube.controlplane import ControlPlane, controlplane
from support.kube.manifests import CONFIG, NAMESPACE, of_kind, rendered
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.child import free_port
from support.process.operator import RESOURCE, Models, Operator, apply_crd, wait_until
from support.virtual.door import create, hooks_at, put

pytestmark = pytest.mark.real

NOWHERE = "http://127.0.0.1:9"  # an Ollama that is never there: most of this needs none
ACCOUNT = "ollama-op"
SERVICE = f"--webhook-service=ollama-op-webhook.{NAMESPACE}"
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/{WEBHOOK_SECRET}"
RIGHTS = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
WORDS = "spec.interval: '1ms' is too short"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    """Run a Kubernetes API with the rights of config/default, and so without the webhook's."""
    with controlplane() as plane:
        apply_crd(plane, CONFIG / "crd")
        put(plane, of_kind(rendered("default"), "Namespace", "ServiceAccount", *RIGHTS))
        yield plane


@pytest.fixture
def port(cluster: ControlPlane) -> Iterator[int]:
    """Have the webhook asked at a port, until the test is over; nobody listens yet."""
    put(cluster, hooks_at(port := free_port(), rendered("webhook")))
    yield port
    cluster.kubectl("delete", "-k", CONFIG / "webhook", "--ignore-not-found")


def account(cluster: ControlPlane) -> Path:
    token = cluster.kubectl("-n", NAMESPACE, "create", "token", ACCOUNT).strip()
    return cluster.kubeconfig_for(ACCOUNT, token)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"]
)
def test_a_secret_with_broken_certificates_is_said_and_filled_anew(cluster, port, content) -> None:
    """The webhook comes up all the same."""
    keys = ("ca.crt", "ca.key", "tls.crt", "tls.key")
    data = dict.fromkeys(keys, base64.b64encode(content).decode())
    what = ("-n", NAMESPACE, "patch", "secret", WEBHOOK_SECRET)
    cluster.kubectl(*what, "--type=merge", "--patch", json.dumps({"data": data}))
    address = f"--webhook-bind-address=127.0.0.1:{port}"
    with Operator(cluster.kubeconfig, NOWHERE, address, SERVICE) as operator:
        assert WORDS in create(Models(cluster, "ai"), "bad", interval="1ms")
        said = [line["msg"] for line in operator.logs() if line["level"] == "warning"]
        assert "the Secret held no usable certificates" in said
        assert cluster.get(SECRET)["data"] != data
        assert operator.bugs() == []


def test_a_right_that_is_missing_is_named_in_one_line(cluster, port) -> None:
    """Verb and resource, with where they are granted; it serves as soon as they are."""
    address = f"--webhook-bind-address=127.0.0.1:{port}"
    config = account(cluster)
    with Operator(config, NOWHERE, address, SERVICE, probe="/healthz") as operator:

        def told() -> list[str]:
            return [
                f"{line['problem']} {line['hint']}"
                for line in operator.logs()
                if line["msg"].startswith("webhook certificates not kept")
            ]

        wait_until(told, operator.tail)
        (line,) = told()
        assert 'cannot get resource "secrets"' in line
        assert "config/components/webhook" in line
        put(cluster, of_kind(rendered("with-webhook"), *RIGHTS))
        wait_until(
            lambda: WORDS in create(Models(cluster, "ai"), "bad", interval="1ms"), operator.tail
        )
        assert operator.bugs() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "/validate", b"", 400),
        ("POST", "/validate", b"no JSON", 400),
        ("POST", "/mutate", b'{"kind": "Pod", "apiVersion": "v1"}', 400),
        ("POST", "/validate", b"[" * 100_000, 400),
        ("POST", "/else", b"{}", 404),
        ("GET", "/validate", b"", 405),
    ],
)
def test_what_is_no_question_is_told_so_and_logged_nowhere(asked, method, path, body, code) -> None:
    """Over TLS, as a scanner of the cluster's network would try it."""
    url, operator = asked
    insecure = ssl.create_default_context()
    insecure.check_hostname, insecure.verify_mode = False, ssl.CERT_NONE
    with httpx.Client(verify=insecure, trust_env=False) as client:
        answer = client.request(method, url + path, content=body)
    assert answer.status_code == code
    assert answer.headers["content-type"] == "text/plain"
    assert operator.bugs() == []


@pytest.fixture(scope="module")
def asked(cluster) -> Iterator[tuple[str, Operator]]:
    port = free_port()
    address = f"--webhook-bind-address=127.0.0.1:{port}"
    with Operator(cluster.kubeconfig, NOWHERE, address, SERVICE) as operator:
        yield f"https://127.0.0.1:{port}", operator


def test_a_namespace_that_is_being_deleted_is_left_in_good_order(
    cluster: ControlPlane, ollama: OllamaServer, registry: Registry
) -> None:
    """Nothing new gets in, and REST says why; what is there goes, with its model and finalizer."""
    registry.publish("going", seed=700)
    models, rest = Models(cluster, "going"), f"127.0.0.1:{free_port()}"
    flags = ("--enable-api-server", f"--api-server-bind-address={rest}")
    with Operator(account(cluster), ollama.url, *flags) as operator:
        models.apply("going", "going:latest")
        models.ready("going")
        assert models.get("going")["metadata"]["finalizers"] == [FINALIZER]
        cluster.kubectl("delete", "namespace", "going", "--wait=false")

        answer = httpx.post(
            f"http://{rest}/api/v1/models",
            json={"name": "late", "tag": "1", "namespace": "going"},
            trust_env=False,
        )
        assert answer.status_code == 422
        assert "namespace going is being terminated" in answer.json()["detail"]
        # Deleting what is in it is the namespace controller's part, which does not run here.
        events = len(models.events("going"))
        models.kubectl("delete", RESOURCE, "--all", "--wait=false")
        models.gone("going")
        assert "going:latest" not in ollama.digests()
        assert len(models.events("going")) == events  # those about the end are refused
        assert operator.bugs() == []
        said = [line["msg"] for line in operator.logs() if line["level"] == "warning"]
        assert said == ["rest api asks for no key"]
