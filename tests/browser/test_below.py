"""The page and the API reference behind a reverse proxy that has them below a path."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from support.ollama.gateway_server import GatewayServer
from support.process.chromium import Browser
from support.virtual.fake_api import FakeApi, item

BELOW = "/tools/ollama"
ANSWER = ".live-responses-table tbody .response-col_status"


@pytest.fixture
def below(page: Browser) -> Iterator[str]:
    """Stand a proxy before the API; return where the page is behind it."""
    behind = urlsplit(page.base).port
    assert behind is not None
    with GatewayServer(behind, below=BELOW) as proxy:
        before, page.base = page.base, proxy.url
        yield f"{proxy.url}{BELOW}"
        page.get("about:blank")
        page.foreign()
        page.base = before


def test_all_of_it_works_below_a_path(page: Browser, api: FakeApi, below: str) -> None:
    """The page lists, changes and explains; the reference sends its requests to the same place."""
    api.put(
        item("gemma3:4b"), item("qwen3:32b", "Failed", reason="InsufficientStorage", retrying=True)
    )
    page.get(f"{below}/")
    page.wait(lambda: page.titles() == ["qwen3:32b", "gemma3:4b"])
    page.at("#rows [data-do=refresh]").click()
    page.wait(lambda: any(path.endswith("/refresh") for _, path in api.requests))

    page.at(".advice:not([hidden])").click()
    page.wait(lambda: page.current_url == f"{below}/docs/reasons#InsufficientStorage")
    page.wait(lambda: page.all(".guide h3"))
    page.at(".brand").click()
    page.wait(lambda: page.current_url == f"{below}/")
    page.at("nav a").click()
    page.wait(lambda: page.all(".opblock"))
    page.at("[id$=listModels] .opblock-summary-control").click()
    page.wait(lambda: page.all(".execute"))
    page.at(".execute").click()
    page.wait(lambda: page.all(ANSWER))
    assert page.text(ANSWER).startswith("200")
