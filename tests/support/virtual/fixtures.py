"""The fixtures of tests in virtual time: a world whose clock jumps, and what is around it."""

import logging
import sys
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from pathlib import Path

import pytest
import structlog
import trio.testing
from hypothesis import settings
from structlog._config import BoundLoggerLazyProxy

from support.virtual.commandline import KUBECONFIG, Run, command_line
from support.virtual.spans import Spans, recording
from support.virtual.world import World, world

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", settings.default, deadline=None)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Render no logs: a quarter of the time would go into pretty lines that nobody reads.

    And undo what a test that runs a command sets up for the whole process.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer()],
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Virtual time: whenever all tasks wait, the clock jumps to the next moment that matters."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture
async def w() -> AsyncGenerator[World]:
    """Build a world whose operator runs."""
    async with world() as it:
        it.start()
        yield it


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Record, and hand out what was."""
    with recording() as spans:
        yield spans


@pytest.fixture
def ollama_op(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the command line as the shell does."""
    yield command_line(monkeypatch, capsys)
    for module in tuple(sys.modules.values()):
        if isinstance(log := getattr(module, "log", None), BoundLoggerLazyProxy):
            vars(log).pop("bind", None)  # it would write to the output of this test for ever


@pytest.fixture
def run(ollama_op: Run, kubeconfig: Path) -> Run:
    """Run an operator with these flags; it has to refuse, or never ends."""
    return partial(ollama_op, "run", f"--kubeconfig={kubeconfig}")


@pytest.fixture
def kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Write one of a cluster at which nobody listens, for a process that is in no pod."""
    monkeypatch.setattr("ollama_op.base.settings.NAMESPACE_FILE", tmp_path / "no namespace")
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG)
    return path
