from collections.abc import AsyncGenerator

import pytest
import trio.testing

from support.world import World, world


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
