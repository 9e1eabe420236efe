import logging
from collections.abc import AsyncGenerator, Iterator

import pytest
import structlog
import trio.testing
from hypothesis import settings

from support.spans import Spans, recording
from support.world import World, world

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
