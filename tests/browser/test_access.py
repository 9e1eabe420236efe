"""Who sees little, hears the page, uses a keyboard, or has a small screen."""

import pytest
from selenium.webdriver.common.by import By

from support.process.chromium import Browser
from support.virtual.fake_api import FakeApi, item, pulling

LONG = item(
    "hf.co/Organisation/A-Very-Long-Model-Name-GGUF:Q4_K_M",
    "Failed",
    reason="ModelUnknown",
    message="The registry has no hf.co/Organisation/A-Very-Long-Model-Name-GGUF:Q4_K_M.",
    stalled=True,
)

# Each text of the page whose contrast with what is behind it is less than 4.5 to 1.
FAINT = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const colour = rgba(getComputedStyle(node).backgroundColor);
    if (colour[3] > 0) return colour;
  }
  return [255, 255, 255, 255];
};
return [...document.querySelectorAll("body *")].filter((node) => {
  const words = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
  if (!words || !node.checkVisibility() || node.closest("script, noscript")) return false;
  const pair = [rgba(getComputedStyle(node).color), behind(node)].map(light).sort((a, b) => b - a);
  return (pair[0] + 0.05) / (pair[1] + 0.05) < 4.5;
}).map((node) => node.outerHTML.slice(0, 120));
"""

SMALL = """
return [...document.querySelectorAll("button, input, .bar a")]
  .filter((node) => node.checkVisibility() && node.getBoundingClientRect().height < 43.9)
  .map((node) => node.outerHTML.slice(0, 120));
"""


@pytest.fixture
def full(page: Browser, api: FakeApi) -> Browser:
    """Show a page with something of everything."""
    paused = {**item("phi4:14b"), "suspend": True}
    deleting = {**item("mistral:7b"), "deleting": True}
    queued = item("mixtral:8x7b", "Pending", reason="Queued", message="Waiting.")
    api.put(item("gemma3:4b"), pulling("llama3.2:1b", 42), LONG, paused, deleting, queued)
    page.get(page.base)
    page.wait(lambda: len(page.titles()) == 6)
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(full: Browser, scheme: str) -> None:
    """Contrast is at least 4.5 to 1, in light and in dark, in the table and in the dialogs."""
    full.media(prefers_color_scheme=scheme)
    ground = full.js("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(245, 247, 246)") == (scheme == "light")
    assert full.execute_script(FAINT) == []
    full.at('[data-key="ai/gemma3-4b"] [data-do="delete"]').click()
    full.wait(lambda: full.at("#delete").is_displayed())
    assert full.execute_script(FAINT) == []


def test_the_theme_can_be_chosen(full: Browser) -> None:
    """The button goes through auto, light and dark; the choice is kept."""
    for choice in ("light", "dark"):
        full.at("[data-theme-toggle]").click()
        assert full.at("[data-theme-toggle]").accessible_name == f"Theme: {choice}"
    full.refresh()
    assert full.js("getComputedStyle(document.body).backgroundColor") == "rgb(16, 21, 19)"


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/reasons", "/docs/problems"])
def test_nothing_is_cut_off_at_320_pixels(full: Browser, path: str) -> None:
    """Nothing has to be scrolled sideways, and what is to be touched is large enough."""
    full.size(320, 640)
    full.get(full.base + path)
    full.wait(lambda: path != "/" or len(full.titles()) == 6)
    full.wait(lambda: path != "/docs" or full.all(".opblock"))
    assert full.js("document.documentElement.scrollWidth") == 320
    if path == "/":
        assert full.execute_script(SMALL) == []


def test_the_table_is_one(full: Browser) -> None:
    """Caption, scopes and roles tell a screen reader what is what, on a small screen as well."""
    for width in (1280, 320):
        full.size(width, 640)
        assert full.at("table").aria_role == "table"
        assert full.at("table").accessible_name.startswith("Models that the operator keeps")
        assert {cell.aria_role for cell in full.all("#rows th")} == {"rowheader"}
        assert {cell.aria_role for cell in full.all("#rows td")} == {"cell"}
    assert {head.get_attribute("scope") for head in full.all("thead th")} == {"col"}


def test_everything_has_a_name(full: Browser) -> None:
    """No control is nameless, no name is given twice, no id is used twice."""
    controls = [
        each
        for each in full.find_elements(By.CSS_SELECTOR, "button, a[href], input, progress")
        if each.is_displayed()
    ]
    names = [each.accessible_name for each in controls]
    assert "" not in names
    buttons = [each.accessible_name for each in controls if each.tag_name == "button"]
    assert len(buttons) == len(set(buttons))
    ids = full.js("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    pointing = "[aria-labelledby], [aria-describedby], [aria-controls], label[for]"
    broken = full.execute_script(
        """
        const names = ["aria-labelledby", "aria-describedby", "aria-controls", "for"];
        return [...document.querySelectorAll(arguments[0])].flatMap((each) => names
            .flatMap((name) => (each.getAttribute(name) ?? "").split(" ").filter(Boolean))
            .filter((id) => !document.getElementById(id)));
        """,
        pointing,
    )
    assert broken == []


def test_the_skip_link_skips(full: Browser) -> None:
    """The first Tab shows it; Enter goes to the models."""
    full.keys("\ue004")
    assert full.js("document.activeElement.textContent") == "Skip to models"
    full.wait(lambda: full.js("document.activeElement.getBoundingClientRect().top >= 0"))
    full.keys("\ue007")
    full.wait(lambda: full.focused() == "Models")


def test_motion_can_be_turned_off(full: Browser) -> None:
    """Who wants no motion gets none."""
    full.media(prefers_reduced_motion="reduce")
    moving = full.js("""[...document.querySelectorAll("*")].filter((each) =>
        getComputedStyle(each).transitionDuration.split(", ").some((one) => one !== "0s") ||
        getComputedStyle(each).animationName !== "none").length""")
    assert moving == 0
