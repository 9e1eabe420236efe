"""The real Ollama and the registry behind it, started once for all tests of a run."""

from collections.abc import Iterator

import pytest

from support.kube.controlplane import ControlPlane
from support.ollama.registry import Faults, Registry
from support.ollama.server import OllamaServer
from support.process.child import Process


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """Serve the models that `ollama` pulls, whatever registry their names say."""
    with Registry() as registry:
        yield registry


@pytest.fixture(scope="session")
def ollama(registry: Registry) -> Iterator[OllamaServer]:
    """Run a real Ollama; all tests share it, so each uses model names of its own."""
    with OllamaServer(registry) as ollama:
        yield ollama


@pytest.fixture(autouse=True)
def _heal(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let no fault of one test reach the next: what it has stopped, and not started, runs again."""
    shared = {"registry", "ollama", "cluster"} & set(request.fixturenames)
    parts = [request.getfixturevalue(name) for name in sorted(shared)]
    yield
    for part in parts:
        match part:
            case Registry() as registry:
                registry.faults = Faults()
            case OllamaServer(process=Process(pid=None)) as ollama:
                ollama.start()
            case ControlPlane(apiserver=Process(pid=None)) as cluster:
                cluster.start_apiserver()
