"""The real parts, started once for all tests of a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.controlplane import ControlPlane, controlplane
from support.ollama import OllamaServer
from support.registry import Faults, Registry

_CRD = Path(__file__).parents[2] / "config" / "crd"


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


@pytest.fixture(scope="session")
def cluster() -> Iterator[ControlPlane]:
    """Run a real Kubernetes API that knows our custom resources."""
    with controlplane() as plane:
        _apply_crds(plane, _CRD)
        yield plane


@pytest.fixture(autouse=True)
def _heal(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let no fault of one test reach the next."""
    yield
    if "registry" in request.fixturenames:
        registry: Registry = request.getfixturevalue("registry")
        registry.faults = Faults()


def _apply_crds(plane: ControlPlane, folder: Path) -> None:
    files = sorted(path for path in folder.glob("*.yaml") if path.stem != "kustomization")
    for path in files:
        plane.kubectl("apply", "--server-side", "-f", path)
        plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", path)
