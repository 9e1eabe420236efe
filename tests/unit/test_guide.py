from api import guide


def test_the_reasons_in_the_browser_are_up_to_date() -> None:
    """`just guide` has been run since the text was last changed."""
    source = (guide.SOURCES / "reasons.md").read_text(encoding="utf-8")
    assert (guide.PAGES / "reasons.html").read_text(encoding="utf-8") == guide.render(source)


def test_headings_are_anchors_and_text_is_no_markup() -> None:
    """A reason is found by its name; what looks like HTML is shown as it is."""
    page = guide.render("# Reasons\n\n## Well\n\n### Available\nIt is `<there>` & answers.\n")
    assert '<h3 id="Available">Available</h3>' in page
    assert '<a href="#Available">Available</a>' in page
    assert "It is <code>&lt;there&gt;</code> &amp; answers." in page
