"""What a person sees and can do at `/`, in a real browser."""

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from support.process.chromium import Browser
from support.virtual.fake_api import FakeApi, Refused, item, pulling

GEMMA = item("gemma3:4b", formattedSize="3.1 GiB")
LLAMA = pulling("llama3.2:1b", 10)
QWEN = item(
    "qwen3:32b",
    "Failed",
    reason="InsufficientStorage",
    message="No space left on the server.",
    retrying=True,
)
AWAY = Refused(503, "kubernetes-unavailable", "Kubernetes does not answer", "Kubernetes is away.")


def opened(page: Browser) -> Browser:
    """Open the page and wait until it is live."""
    page.get(page.base)
    page.wait(lambda: page.js("document.body.dataset.state") == "live", "the page to be live")
    return page


def row(page: Browser, model: str, part: str) -> str:
    """Return what a part of a model's row says."""
    return page.text(f'tr[data-key="ai/{model}"] {part}')


def test_a_key_is_asked_for_once(page: Browser, api: FakeApi) -> None:
    """A wrong key is refused in words; the right one lasts for the tab, and is in no address."""
    api.key = "s3cret"
    api.put(GEMMA)
    page.get(page.base)
    page.wait(lambda: page.focused() == "key")
    page.keys("wrong", Keys.ENTER)
    page.wait(lambda: "not accepted" in page.text("#key-error"))
    page.keys("s3cret", Keys.ENTER)
    page.wait(lambda: page.titles() == ["gemma3:4b"])
    assert page.focused() == "filter"
    page.refresh()
    page.wait(lambda: page.titles() == ["gemma3:4b"])
    assert "s3cret" not in str(page.js("performance.getEntries().map((each) => each.name)"))
    assert page.js("JSON.stringify(localStorage)") == "{}"
    page.at("#sign-out").click()
    page.wait(lambda: page.at("#key").is_displayed())
    assert page.js("sessionStorage.length") == 0
    page.wait(lambda: page.titles() == [])


def test_a_token_of_kubernetes_is_sent_as_one(page: Browser, api: FakeApi) -> None:
    """What has the form of a token goes as a bearer token, everything else as a key."""
    token = f"ey{'ab' * 8}.ey{'cd' * 8}.{'e-_' * 4}"
    api.key = f"Bearer {token}"
    api.put(GEMMA)
    page.get(page.base)
    page.wait(lambda: page.focused() == "key")
    page.keys(token, Keys.ENTER)
    page.wait(lambda: page.titles() == ["gemma3:4b"])


def test_a_key_that_is_withdrawn_signs_out(page: Browser, api: FakeApi) -> None:
    """What was shown with a key goes when the key does."""
    api.put(GEMMA)
    opened(page)
    api.key = "other"
    api.hang_up()
    page.wait(lambda: page.at("#key").is_displayed())
    assert page.titles() == []


def test_progress_is_live(page: Browser, api: FakeApi) -> None:
    """Bar, numbers, state and counts follow the stream; only quarters and states are spoken."""
    api.put(LLAMA, GEMMA)
    opened(page)
    bar = 'tr[data-key="ai/llama3.2-1b"] progress'
    assert page.js("document.querySelector(arguments[0]).value", bar) == 10
    assert page.at(bar).accessible_name == "Download of llama3.2:1b"
    assert page.text("#counts") == "2 models: 1 ready · 1 pulling"
    assert page.text("#status") == ""
    api.put(pulling("llama3.2:1b", 12))
    page.wait(lambda: row(page, "llama3.2-1b", ".percent") == "12 %")
    assert "of 1.2 GiB · 31.0 MiB/s" in row(page, "llama3.2-1b", ".numbers")
    assert page.text("#status") == ""
    api.put(pulling("llama3.2:1b", 51))
    page.wait(lambda: page.text("#status") == "llama3.2:1b: 50 % downloaded.")
    api.put(item("llama3.2:1b", formattedSize="1.2 GiB"))
    page.wait(lambda: page.text("#status") == "llama3.2:1b is ready.")
    assert row(page, "llama3.2-1b", ".size") == "1.2 GiB"
    assert not page.at(bar).is_displayed()


def test_an_unknown_total_shows_no_value(page: Browser, api: FakeApi) -> None:
    """A bar without a total says that something happens, not how far it is."""
    api.put(pulling("llama3.2:1b", None))
    opened(page)
    assert page.js("document.querySelector('#rows progress').hasAttribute('value')") is False


def test_at_most_four_drawings_a_second(page: Browser, api: FakeApi) -> None:
    """A storm of events redraws only the cells that differ, and not more often than one can see."""
    api.put(LLAMA, GEMMA)
    opened(page)
    page.execute_script("""
        window.seen = [];
        new MutationObserver((all) => seen.push(all.map((one) => one.target.className ||
            one.target.parentElement?.className))).observe(document.getElementById("rows"),
            { subtree: true, childList: true, characterData: true });
        window.began = performance.now();
    """)
    for percent in range(11, 61):
        api.put(pulling("llama3.2:1b", percent))
        page.js("new Promise((done) => setTimeout(done, 15))")
    page.wait(lambda: row(page, "llama3.2-1b", ".percent") == "60 %")
    seen, elapsed_ms = page.js("[seen, performance.now() - began]")
    assert 2 <= len(seen) <= elapsed_ms / 250 + 2
    assert {name for names in seen for name in names} <= {"percent", "numbers"}


def test_trouble_comes_first(page: Browser, api: FakeApi) -> None:
    """What has failed is on top, with plain words and a link to what helps; then by name."""
    api.put(LLAMA, QWEN, GEMMA, item("llama3.10:1b"))
    opened(page)
    assert page.titles() == ["qwen3:32b", "gemma3:4b", "llama3.2:1b", "llama3.10:1b"]
    assert page.text("#counts").endswith("1 retrying")
    assert row(page, "qwen3-32b", ".remark") == "No space left on the server."
    link = page.at('tr[data-key="ai/qwen3-32b"] .advice')
    assert link.accessible_name == "What to do about qwen3:32b"
    link.click()
    page.wait(lambda: page.current_url.endswith("/docs/reasons#InsufficientStorage"))
    assert page.text("h3:target") == "InsufficientStorage"


def test_who_needs_a_person_is_told_from_what_is_tried_again(page: Browser, api: FakeApi) -> None:
    """By the counts; and a button that cannot help is there, and does nothing."""
    wrong = item("latest:latest", "Failed", reason="InvalidName", stalled=True, refreshInVain=True)
    unknown = item("mistral:7c", "Failed", reason="ModelUnknown", stalled=True)
    api.put(GEMMA, QWEN, item("phi4:14b", "Failed", reason="PullFailed", retrying=True), wrong)
    opened(page)
    assert page.text("#counts") == "4 models: 1 ready · 2 retrying · 1 needs you"
    api.put(unknown)
    page.wait(lambda: page.text("#counts").endswith("2 retrying · 2 need you"))
    retry = {
        key: page.at(f'tr[data-key="ai/{key}"] button').get_attribute("aria-disabled")
        for key in ("latest-latest", "mistral-7c", "qwen3-32b", "gemma3-4b")
    }
    assert retry == {
        "latest-latest": "true",
        "mistral-7c": None,
        "qwen3-32b": None,
        "gemma3-4b": None,
    }


def test_rows_stay_under_the_pointer(page: Browser, api: FakeApi) -> None:
    """Order and removals wait until the pointer has left the table."""
    api.put(GEMMA, LLAMA, item("phi4:14b"))
    opened(page)
    ActionChains(page).move_to_element(page.at('[data-key="ai/phi4-14b"] .size')).perform()
    api.put(item("phi4:14b", "Failed", reason="PullFailed", message="No."))
    api.drop(GEMMA)
    page.wait(lambda: row(page, "gemma3-4b", ".word") == "Deleted")
    page.wait(lambda: row(page, "phi4-14b", ".word") == "Failed")
    assert page.titles() == ["gemma3:4b", "llama3.2:1b", "phi4:14b"]
    ActionChains(page).move_to_element(page.at(".brand")).perform()
    page.wait(lambda: page.titles() == ["phi4:14b", "llama3.2:1b"])


def test_the_filter(page: Browser, api: FakeApi) -> None:
    """It looks at names and states, says how many are shown, and how to see all again."""
    api.put(GEMMA, LLAMA, QWEN)
    opened(page)
    page.at("#filter").send_keys("FAIL")
    assert page.titles() == ["qwen3:32b"]
    assert page.text("#counts").endswith("(1 shown)")
    page.at("#filter").send_keys("ure")
    assert page.titles() == []
    assert page.text("#nothing-text") == "No model matches “FAILure”."
    page.at("#clear").click()
    assert len(page.titles()) == 3
    assert page.focused() == "filter"


def test_deleting_with_the_keyboard_only(page: Browser, api: FakeApi) -> None:
    """Tab, Enter and Escape do it; the safe answer has the focus; the next row gets it after."""
    api.put(GEMMA, LLAMA, QWEN)
    opened(page)
    for _ in range(30):
        page.keys(Keys.TAB)
        if page.focused() == "Delete gemma3:4b":
            break
    page.keys(Keys.ENTER)
    page.wait(lambda: page.at("#delete").is_displayed())
    assert page.text("#delete-title") == "Delete gemma3:4b?"
    assert page.js("document.activeElement.textContent") == "Keep it"
    page.keys(Keys.ESCAPE)
    page.wait(lambda: page.focused() == "Delete gemma3:4b")
    assert not [each for each in api.requests if each[0] == "DELETE"]
    page.keys(Keys.ENTER, Keys.TAB, Keys.ENTER)
    page.wait(lambda: ("DELETE", "/api/v1/models/gemma3-4b") in api.requests)
    page.wait(lambda: row(page, "gemma3-4b", ".word") == "Deleting")
    page.wait(lambda: page.focused() == "Refresh llama3.2:1b")
    api.drop(GEMMA)
    page.wait(lambda: page.titles() == ["qwen3:32b", "llama3.2:1b"])
    assert page.focused() == "Refresh llama3.2:1b"


def test_a_vanishing_row_hands_on_the_focus(page: Browser, api: FakeApi) -> None:
    """Who works in a row that somebody else deletes goes on in the next, or can add one."""
    api.put(GEMMA, LLAMA)
    opened(page)
    page.execute_script("document.querySelector('[data-key=\"ai/gemma3-4b\"] button').focus()")
    api.drop(GEMMA)
    page.wait(lambda: page.focused() == "Refresh llama3.2:1b")
    api.drop(LLAMA)
    page.wait(lambda: page.at("#empty").is_displayed())
    assert page.js("document.activeElement.textContent") == "Add model"


def test_reconnecting_keeps_what_is_known(page: Browser, api: FakeApi) -> None:
    """A banner says from when the data is; the stream is resumed by its last id."""
    api.put(GEMMA, LLAMA)
    opened(page)
    api.put(pulling("llama3.2:1b", 30))
    page.wait(lambda: row(page, "llama3.2-1b", ".percent") == "30 %")
    api.down = True
    api.hang_up()
    page.wait(lambda: page.at("#banner").is_displayed())
    assert page.text("#banner-text").startswith("Showing data from ")
    assert page.text("#live-text") == "reconnecting"
    assert page.titles() == ["gemma3:4b", "llama3.2:1b"]
    api.down = False
    api.put(pulling("llama3.2:1b", 70))
    page.at("#retry-now").click()
    page.wait(lambda: row(page, "llama3.2-1b", ".percent") == "70 %")
    assert not page.at("#banner").is_displayed()
    assert api.last_ids == [None, "3"]


def test_an_operator_that_cannot_answer_is_an_error(page: Browser, api: FakeApi) -> None:
    """Without any data the problem's title and detail are shown; Retry tries at once."""
    api.down = True
    page.get(page.base)
    page.wait(lambda: page.at("#failed").is_displayed())
    assert page.text("#failed-title") == "Operator is not ready"
    assert page.text("#failed-detail") == "It has only just started."
    assert page.at("#failed-help").get_attribute("href").endswith("/docs/problems#not-ready")
    api.down = False
    page.at("#retry").click()
    page.wait(lambda: page.at("#empty").is_displayed())


def test_an_empty_cluster_says_how_to_begin(page: Browser, api: FakeApi) -> None:
    """The empty page has a button, and the same for kubectl; a name with a tag may be pasted."""
    opened(page)
    assert "kind: OllamaModel" in page.text("#snippet")
    page.at("#empty [data-add]").click()
    assert page.focused() == "add-name"
    page.keys(Keys.ENTER)
    assert page.text("#add-name-error") == "This field is needed."
    page.keys("llama3.2:1b", Keys.ENTER)
    page.wait(lambda: page.titles() == ["llama3.2:1b"])
    assert ("POST", "/api/v1/models") in api.requests
    assert not page.at("#add").is_displayed()


def test_a_model_is_added_to_a_namespace(page: Browser, api: FakeApi) -> None:
    """The one that was named."""
    api.put(GEMMA)
    opened(page)
    page.at(".tools [data-add]").click()
    page.keys("llama3.2", Keys.TAB, "1b", Keys.TAB, "web", Keys.ENTER)
    page.wait(lambda: ("web", "llama3.2-1b") in api.models)


def test_a_refused_model_says_which_field(page: Browser, api: FakeApi) -> None:
    """What is wrong stands at its field, which has the focus; what was typed stays."""
    api.put(GEMMA)
    errors = [{"field": "tag", "message": "the tag has ' ', which Ollama does not take there"}]
    api.refusal = Refused(422, "invalid-model", "Not possible", "tag: …", errors=errors)
    opened(page)
    page.at(".tools [data-add]").click()
    page.keys("llama3.2", Keys.TAB, "1 b", Keys.ENTER)
    page.wait(lambda: page.text("#add-tag-error").startswith("The tag has"))
    assert page.focused() == "add-tag"
    assert page.at("#add-tag").get_attribute("aria-invalid") == "true"
    assert page.at("#add-name").get_attribute("value") == "llama3.2"


def test_the_error_of_a_field_goes_once_the_field_changes(page: Browser, api: FakeApi) -> None:
    """Whoever corrects a name is not told any more that it is wrong."""
    api.put(GEMMA)
    opened(page)
    page.at(".tools [data-add]").click()
    page.keys(Keys.ENTER)
    assert page.text("#add-name-error") == "This field is needed."
    page.keys("l")
    assert page.text("#add-name-error") == ""
    assert page.at("#add-name").get_attribute("aria-invalid") == "false"


def test_a_model_links_to_its_trace(page: Browser, api: FakeApi) -> None:
    """Where it has one, and nothing but an id goes into the address."""
    wrong = {**LLAMA, "traceID": "../../evil?x=1"}
    api.put({**GEMMA, "traceID": "0af7651916cd43dd8448eb211c80319c"}, wrong)
    opened(page)
    shown = [each for each in page.find_elements("css selector", ".trace") if each.is_displayed()]
    assert [each.get_attribute("href") for each in shown] == [
        "https://jaeger.example/trace/0af7651916cd43dd8448eb211c80319c?a&b"
    ]
    assert shown[0].get_attribute("aria-label") == "Trace of gemma3:4b"


def test_a_failed_action_raises_an_alert(page: Browser, api: FakeApi) -> None:
    """It says what failed and why, links to help, moves no row, and can be dismissed."""
    api.put(GEMMA, LLAMA)
    opened(page)
    api.refusal = AWAY
    button = page.at('[data-key="ai/gemma3-4b"] [data-do="refresh"]')
    before = button.location
    button.click()
    page.wait(lambda: page.at("#alert").is_displayed())
    assert page.text("[role=alert]#alert-text").startswith(
        "Refreshing gemma3:4b failed. Kubernetes is away."
    )
    assert page.at("#alert a").get_attribute("href").endswith("#kubernetes-unavailable")
    assert button.location == before
    page.at("#alert-close").click()
    assert not page.at("#alert").is_displayed()
    button.click()
    page.wait(lambda: page.text("#status") == "Refresh of gemma3:4b requested.")
    assert page.focused() == "Refresh gemma3:4b"


def test_a_paused_model_can_be_resumed(page: Browser, api: FakeApi) -> None:
    """A paused model says so, and has a button against it."""
    api.put({**GEMMA, "suspend": True, "reason": "Suspended"})
    opened(page)
    assert row(page, "gemma3-4b", ".word") == "Paused"
    page.at('[data-do="resume"]').click()
    page.wait(lambda: row(page, "gemma3-4b", ".word") == "Ready")


def test_what_others_wrote_is_only_text(page: Browser, api: FakeApi) -> None:
    """Markup in a name, a message or a problem is shown, never obeyed; nor is a foreign link."""
    evil = "<img src=x onerror=document.title='owned'>"
    hostile = item("gemma3:4b", "Failed", reason="javascript:alert(1)", message=evil, retrying=True)
    api.put({**hostile, "modelName": evil})
    api.refusal = Refused(503, "x", evil, evil)
    api.refusal.body["type"] = "https://example.org/#x"
    opened(page)
    page.at('[data-do="refresh"]').click()
    page.wait(lambda: evil in page.text("#alert-text"))
    assert page.js("document.querySelectorAll('main img, footer img, footer a').length") == 0
    assert page.titles() == [f"{evil}:4b"]
    assert not page.at(".advice").is_displayed()
    assert page.title == "Models · ollama-op"


def test_the_stream_may_be_cut_anywhere(page: Browser) -> None:
    """The parser takes any line ends, cuts and comments, and joins lines of data."""
    page.get(page.base)
    parsed = page.execute_async_script("""
        const done = arguments[0];
        const text = ": ping\\n\\nevent: model\\r\\nid: 7\\r\\ndata: {\\r\\ndata:}\\r\\n\\r\\n" +
            "id: 8\\n\\ndata: end\\r\\rdata: unfinished";
        import("/page/stream.js").then(({ parser, waitMs }) => {
            const all = [];
            for (let cut = 0; cut < text.length; cut++) {
                const events = [];
                const feed = parser((event) => events.push(event));
                feed(text.slice(0, cut));
                feed(text.slice(cut));
                all.push(JSON.stringify(events));
            }
            done([[...new Set(all)], [1, 2, 6, 50].map((n) => [waitMs(n, 0), waitMs(n, 1)])]);
        });
    """)
    first = '{"kind":"model","id":"7","data":"{\\n}"}'
    second = '{"kind":"message","id":null,"data":"end"}'
    assert parsed[0] == [f"[{first},{second}]"]
    assert parsed[1] == [[1000, 1000], [1000, 2000], [15000, 30000], [15000, 30000]]


def test_a_hidden_page_rests(page: Browser, api: FakeApi) -> None:
    """A tab that nobody sees holds no stream; it goes on where it was when seen again."""
    api.put(GEMMA)
    opened(page)
    first = page.current_window_handle
    before = len(api.last_ids)
    page.execute_script("""
        Object.defineProperty(document, "hidden", { value: true, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    """)
    api.put(QWEN)
    page.js("new Promise((done) => setTimeout(done, 400))")
    assert page.titles() == ["gemma3:4b"]
    page.execute_script("""
        delete document.hidden;
        document.dispatchEvent(new Event("visibilitychange"));
    """)
    page.wait(lambda: page.titles() == ["qwen3:32b", "gemma3:4b"])
    assert api.last_ids[before:] == ["1"]
    assert page.current_window_handle == first
