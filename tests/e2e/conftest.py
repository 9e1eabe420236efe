"""The real Kubernetes API, started once for all tests of a run; and one operator a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kube.controlplane import ControlPlane, controlplane
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.jaeger import Jaeger
from support.process.operator import Models, Operator, apply_crd, clear, release

_CRD = Path(__file__).parents[2] / "config" / "crd"
_shared: list[ControlPlane] = []  # the cluster of this run, once there is one
_LONGEST = ("test_leader", "test_operator", "test_webhook")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: side by side, all wait for the last to end."""
    items.sort(key=lambda item: item.path.stem not in _LONGEST)


@pytest.fixture(scope="session")
def cluster() -> Iterator[ControlPlane]:
    """Run a real Kubernetes API that knows our custom resources."""
    with controlplane() as plane:
        apply_crd(plane, _CRD)
        _shared.append(plane)
        yield plane
        _shared.clear()


@pytest.fixture(scope="module", autouse=True)
def _leave_nothing() -> Iterator[None]:
    """Let no object outlive its module: the operator of the next one would care for it."""
    yield
    for plane in _shared:
        release(plane)


@pytest.fixture(scope="session")
def jaeger() -> Iterator[Jaeger]:
    """Run a real Jaeger; all tests share it, so each asks for traces of its own."""
    with Jaeger() as jaeger:
        yield jaeger


@pytest.fixture(scope="module")
def operator(cluster: ControlPlane, ollama: OllamaServer, registry: Registry) -> Iterator[Operator]:
    """Run one operator for a module's tests; each leaves it running, and Ollama too."""
    # Its small layers are those of every other model, which so have two seconds to come, not five.
    registry.publish("keeper")
    ollama.pull("keeper")
    with Operator(cluster.kubeconfig, ollama.url) as operator:
        yield operator
        clear(cluster)
        assert operator.bugs() == []
        assert operator.stop() == 0


@pytest.fixture(scope="module")
def models(cluster: ControlPlane, operator: Operator, request: pytest.FixtureRequest) -> Models:  # noqa: ARG001 - it runs
    """Return the objects of a namespace that is the module's own."""
    return Models(cluster, request.module.__name__.rpartition(".")[2].replace("_", "-"))
