"""The API reference at `/docs`, in a real browser."""

from selenium.webdriver.common.by import By

from support.process.chromium import Browser
from support.virtual.fake_api import FakeApi, item

ANSWER = ".live-responses-table tbody .response-col_status"


def listed(page: Browser) -> None:
    """Open `GET /api/v1/models`, send it, and wait for the answer."""
    block = page.at("[id$=listModels]")
    block.find_element(By.CSS_SELECTOR, ".opblock-summary-control").click()
    page.wait(lambda: page.all(".execute"))
    page.at(".execute").click()
    page.wait(lambda: page.all(ANSWER))


def test_requests_can_be_tried(page: Browser, api: FakeApi) -> None:
    """Swagger UI loads from here alone; the key goes into its field and into the request."""
    api.put(item("gemma3:4b"))
    api.key = "s3cret"
    page.get(f"{page.base}/docs")
    page.wait(lambda: page.all(".opblock"))
    page.at(".btn.authorize").click()
    page.wait(lambda: page.all(".auth-container input"))
    page.at(".auth-container input").send_keys("s3cret")
    page.at(".auth-btn-wrapper .authorize").click()
    page.at(".btn-done").click()
    listed(page)
    assert page.text(ANSWER).startswith("200")
    assert "gemma3" in page.text(".live-responses-table tbody .response-col_description")
    assert page.js("JSON.stringify(localStorage)") == "{}"


def test_the_key_of_the_tab_is_known(page: Browser, api: FakeApi) -> None:
    """Who signed in on the page need not do it again."""
    api.key = "s3cret"
    page.execute_script("sessionStorage.setItem('ollama-op.key', 's3cret')")
    page.get(f"{page.base}/docs")
    page.wait(lambda: page.all(".opblock"))
    listed(page)
    assert page.text(ANSWER).startswith("200")


def test_problems_have_their_place(page: Browser) -> None:
    """The address in a problem's `type` leads to its explanation."""
    page.get(f"{page.base}/docs/problems#model-not-found")
    assert page.text("h3:target") == "model-not-found"
    page.wait(lambda: page.at("h3:target").is_displayed())
