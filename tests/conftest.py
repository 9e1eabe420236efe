"""The real Ollama and the registry behind it, started once for all tests of a run."""

from collections.abc import Iterator

import pytest

from support.ollama import OllamaServer
from support.registry import Faults, Registry


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
    """Let no fault of one test reach the next."""
    yield
    if "registry" in request.fixturenames:
        registry: Registry = request.getfixturevalue("registry")
        registry.faults = Faults()
