"""One real node for all tests of a run; each module installs what it needs, and takes it away."""

from collections.abc import Iterator

import pytest

from support.node.cluster import Node, node
from support.ollama.registry import Registry

_MEASURED = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Node]:
    """Run a cluster of one node, without anything of ours."""
    with node() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def registry(cluster: Node) -> Iterator[Registry]:
    """Serve models where pods can reach them."""
    with Registry(cluster.host) as registry:
        yield registry


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> list[str]:
    """Collect figures, which are printed at the end of the run and judged nowhere."""
    return request.config.stash.setdefault(_MEASURED, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    for line in terminalreporter.config.stash.get(_MEASURED, []):
        terminalreporter.write_line(line)
