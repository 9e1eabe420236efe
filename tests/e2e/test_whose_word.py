"""A gateway that answers in Ollama's place, and models that Ollama cannot show, on real parts."""

from collections.abc import Iterator

import pytest

from support.kube.controlplane import ControlPlane
from support.ollama.gateway_server import GatewayServer
from support.ollama.registry import Faults, Registry
from support.ollama.server import OllamaServer
from support.process.operator import RESOURCE, Models, Operator, condition, reason
from support.virtual.gateway import EVERY, FOREIGN

pytestmark = pytest.mark.real

REPAIR_S = 180  # half a minute between two questions, and a few downloads beside others
CHANGES = ("DELETE /api/delete", "POST /api/pull")


@pytest.fixture(scope="module")
def gateway(ollama: OllamaServer) -> Iterator[GatewayServer]:
    """Stand before Ollama."""
    with GatewayServer(ollama.port) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def operator(cluster: ControlPlane, gateway: GatewayServer) -> Iterator[Operator]:
    """Run an operator that reaches Ollama through the gateway, and no other way."""
    with Operator(cluster.kubeconfig, gateway.url) as operator:
        yield operator
        gateway.let_through()
        cluster.kubectl("delete", RESOURCE, "--all", "-A", "--timeout=30s")
        assert operator.bugs() == []


@pytest.fixture(autouse=True)
def _open(gateway: GatewayServer) -> Iterator[None]:
    """Let no answer of one test reach the next."""
    yield
    gateway.let_through()


def changes(gateway: GatewayServer) -> list[int]:
    """Count what was asked that changes models."""
    return [gateway.calls[each] for each in CHANGES]


def outage(gateway: GatewayServer, models: Models, *names: str) -> None:
    """Have the gateway answer for everything until each model says so."""
    gateway.answer(FOREIGN["503"], EVERY)
    for name in names:
        models.until(name, lambda s: reason(s) == "NotOllama")


def test_no_gateways_answer_costs_a_model_that_no_registry_has(
    registry: Registry, ollama: OllamaServer, gateway: GatewayServer, models: Models
) -> None:
    """After an outage, one answer after the other: nothing is deleted or pulled; then Ready."""
    names = [f"kept-{number}" for number in range(10)]
    for name in names:
        registry.publish(name, seed=1300)
        models.apply(name, f"{name}:latest")
    models.ready(*names)
    for name in names:
        registry.withdraw(name)
    before, digests = changes(gateway), ollama.digests()

    for answer in ("503", "502 empty", "404 HTML", "200 HTML"):
        outage(gateway, models, *names)
        gateway.let_through()
        gateway.answer(FOREIGN[answer], "POST /api/show")
        status = FOREIGN[answer].status
        for name in names:
            told = models.until(name, lambda s: f"/api/show with HTTP {status} " in s["error"])  # noqa: B023 - asked at once
            assert (condition(told, "Ready"), reason(told)) == ("Unknown", "NotOllama")
            assert told["digest"]
        gateway.let_through()
        models.ready(*names)

    assert changes(gateway) == before
    assert ollama.digests() == digests


def test_a_gateways_404_is_no_deletion(
    registry: Registry, ollama: OllamaServer, gateway: GatewayServer, models: Models
) -> None:
    """The object waits until Ollama itself has said so."""
    registry.publish("staying", seed=1301)
    models.apply("staying", "staying:latest")
    models.ready("staying")
    gateway.answer(FOREIGN["404 HTML"], "DELETE /api/delete")
    models.delete("staying")
    models.until("staying", lambda s: reason(s) == "DeletionBlocked")
    assert "staying:latest" in ollama.digests()
    gateway.let_through()
    models.gone("staying")
    assert "staying:latest" not in ollama.digests()


def test_models_that_cannot_be_shown_are_mended_or_told(
    registry: Registry, ollama: OllamaServer, gateway: GatewayServer, models: Models
) -> None:
    """Each in its way, side by side: only what the registry has is ever deleted, and only once."""
    for number, name in enumerate(("missing", "lost", "spoilt")):
        registry.publish(name, seed=1310 + number)
    for name in ("missing", "lost"):
        models.apply(name, f"{name}:latest")
    models.ready("missing", "lost")
    registry.withdraw("lost")
    for name in ("missing", "lost"):
        ollama.weights(name).unlink()
    before = changes(gateway)
    outage(gateway, models, "missing", "lost")
    gateway.let_through()

    registry.set_faults("spoilt", Faults(corrupt=True))
    models.apply("spoilt", "spoilt:latest")
    models.until("spoilt", lambda s: reason(s) == "DigestMismatch")
    registry.faults = Faults()
    registry.publish("unusable", seed=1320, template="{{ frobnicate .Prompt }}")
    registry.publish_index("index", seed=1321)
    for name in ("unusable", "index"):
        models.apply(name, f"{name}:latest")

    models.ready("missing", "spoilt", within_s=REPAIR_S)
    for name, why, words in (
        ("unusable", "ModelUnsupported", 'function "frobnicate" not defined'),
        ("index", "ModelUnsupported", "OCI index"),
        ("lost", "ModelUnknown", "ollama rm lost"),
    ):
        status = models.until(name, lambda s: condition(s, "Stalled") == "True", REPAIR_S)
        assert (reason(status), condition(status, "Ready")) == (why, "False")
        assert words in status["error"]
        assert f"{name}:latest" in ollama.digests()
    assert (
        models.get("unusable")["status"]["serverVersion"]
        == ollama.client.get("/api/version").json()["version"]
    )
    for name in ("unusable", "index"):
        assert registry.count("manifests", name) == 1
    assert registry.count("blobs", "missing") > 0
    assert changes(gateway)[0] - before[0] == 1  # the spoilt one
