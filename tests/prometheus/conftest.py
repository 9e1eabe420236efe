import pytest
import trio.testing


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Virtual time, as in the unit tests."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
