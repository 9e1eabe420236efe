"""What is in memory is a courtesy: a gateway that has no /api/ps holds up nothing on real parts."""

import math
from collections.abc import Iterator

import pytest

from support.kube.controlplane import ControlPlane
from support.ollama.gateway_server import GatewayServer
from support.ollama.registry import Faults, Registry
from support.ollama.server import OllamaServer
from support.process.operator import RESOURCE, Models, Operator
from support.virtual.gateway import FOREIGN, slow

pytestmark = pytest.mark.real

NO_ROUTE = FOREIGN["404 text"]
SOON_S = 45.0


@pytest.fixture(scope="module")
def gateway(ollama: OllamaServer) -> Iterator[GatewayServer]:
    """Stand a gateway before Ollama."""
    with GatewayServer(ollama.port) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def operator(
    cluster: ControlPlane, ollama: OllamaServer, registry: Registry, gateway: GatewayServer
) -> Iterator[Operator]:
    """Run one operator behind the gateway."""
    # Its small layers are those of every other model, which so have two seconds to come, not five.
    registry.publish("keeper")
    ollama.pull("keeper")
    with Operator(cluster.kubeconfig, gateway.url) as operator:
        yield operator
        gateway.let_through()
        cluster.kubectl("delete", RESOURCE, "--all", "-A", "--timeout=30s")
        assert operator.bugs() == []
        assert operator.stop() == 0


@pytest.mark.parametrize("unload", ["works", "hangs"])
def test_a_refresh_and_a_deletion_do_not_need_to_know_what_is_in_memory(
    registry: Registry, ollama: OllamaServer, gateway: GatewayServer, models: Models, unload: str
) -> None:
    """Without /api/ps for ever, and even if no unload is ever answered, both end within 45 s."""
    name = f"courtesy-{unload}"
    registry.publish(name, seed=401)
    models.want(name, f"{name}:latest")
    models.ready(name)
    ollama.load(name, keep_alive=-1)
    gateway.answer(NO_ROUTE, "GET /api/ps")
    if unload == "hangs":
        gateway.answer(slow(math.inf), "POST /api/generate")

    # So slow that Ollama tells of bytes to come, as it does of any model that fills memory.
    new = registry.publish(name, seed=402, size=1_000_000)
    registry.set_faults(name, Faults(rate=500_000))
    models.annotate(name, "refresh", "monday")
    status = models.until(name, lambda s: s.get("lastHandledRefresh") == "monday", within_s=SOON_S)
    assert new == status["digest"] == ollama.digests()[f"{name}:latest"]
    if unload == "works":
        assert f"{name}:latest" not in ollama.running()
    else:
        models.told(name, "UnloadFailed")

    models.delete(name)
    models.gone(name, within_s=SOON_S)
    assert f"{name}:latest" not in ollama.digests()
