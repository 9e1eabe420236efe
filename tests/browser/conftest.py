import os
from collections.abc import Iterator

import pytest

from support.process.chromium import HINT, Browser, browser, installed
from support.virtual.fake_api import FakeApi, serving


@pytest.fixture(scope="session")
def served() -> Iterator[tuple[FakeApi, str]]:
    """Serve the page and a fake API once for all tests."""
    fake = FakeApi()
    with serving(fake) as base:
        yield fake, base


@pytest.fixture(scope="session")
def _chromium(served: tuple[FakeApi, str]) -> Iterator[Browser]:
    executables = installed()
    if executables is None:
        if os.environ.get("CI"):
            pytest.fail(f"no browser; {HINT}")
        pytest.skip(f"no browser; {HINT}")
    with browser(served[1], executables) as it:
        yield it


@pytest.fixture
def api(served: tuple[FakeApi, str]) -> FakeApi:
    """Give each test an API that knows nothing of the one before."""
    served[0].hang_up()
    served[0].reset()
    return served[0]


@pytest.fixture
def page(_chromium: Browser, api: FakeApi) -> Iterator[Browser]:
    """Give each test a browser that has been nowhere, and see that nothing went wrong unseen."""
    it = _chromium
    it.size(1280, 800)
    it.media()
    it.get(f"{it.base}/page/icon.svg")  # of the same origin, so that its storage can be emptied
    it.execute_script("sessionStorage.clear(); localStorage.clear()")
    it.complaints()
    it.foreign()
    yield it
    assert it.foreign() == []
    # An answer of 4xx or 5xx is written to the console by the browser itself; no page can help it.
    assert [text for text in it.complaints() if "Failed to load resource" not in text] == []
    it.get("about:blank")
    api.hang_up()
