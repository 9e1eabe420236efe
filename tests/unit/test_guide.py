import re

import guide
import pytest

SOURCE = guide.SOURCE.read_text(encoding="utf-8")
SERVED = guide.SERVED.read_text(encoding="utf-8")


def test_the_reasons_in_the_browser_are_up_to_date() -> None:
    """`just guide` has been run since the text was last changed."""
    assert guide.render(SOURCE) == SERVED


def test_headings_are_anchors_and_text_is_no_markup() -> None:
    """A reason is found by its name; what looks like HTML is shown as it is."""
    page = guide.render(
        "# Reasons\n\n## Well\n\n### Available\nIt is `<there>` & <b>answers</b>.\n"
    )
    assert '<h3 id="Available">Available</h3>' in page
    assert '<a href="#Available">Available</a>' in page
    assert "It is <code>&lt;there&gt;</code> &amp; &lt;b&gt;answers&lt;/b&gt;." in page


def test_a_symptom_is_found_as_on_github() -> None:
    """Its heading is of several words."""
    page = guide.render("# Reasons\n\n## Start here\n\n### No status at all\nIt is blank.\n")
    assert '<p><a href="#start-here">Start here</a></p>' in page
    assert '<h3 id="no-status-at-all">No status at all</h3>' in page


@pytest.mark.parametrize(
    ("link", "rendered"),
    [
        ("[it](#available)", '<a href="#Available">it</a>'),
        ("[webhook.md](webhook.md#turning-it-on)", "webhook.md"),
    ],
)
def test_links_stay_on_the_page(link: str, rendered: str) -> None:
    """What is written for GitHub leads to the same anchor; other files are not served."""
    page = guide.render(f"# Reasons\n\n### Available\nSee {link}.\n")
    assert f"<p>See {rendered}.</p>" in page


def test_commands_are_shown_as_they_are_typed() -> None:
    """And can be scrolled where they are too long, by the keyboard too."""
    page = guide.render("# Reasons\n\n```sh\nkubectl get om -A | grep '<x>'\n```\n")
    assert '<pre tabindex="0"><code' in page
    assert "kubectl get om -A | grep '&lt;x&gt;'\n" in page


def test_every_anchor_is_of_one_place() -> None:
    """And every link of the page has one."""
    ids = re.findall(r' id="([^"]+)"', SERVED)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', SERVED)) <= set(ids)
