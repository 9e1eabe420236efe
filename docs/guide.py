"""Renders docs/reasons.md as a page for the browser: `just guide`.

The page is part of the package, since a "What to do" link must work where there is no internet.
It is served without any other, so its links stay within it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from api.guide import frame, inline

SOURCE: Final = Path(__file__).with_name("reasons.md")
SERVED: Final = Path(__file__).parents[1] / "api/page/reasons.html"


def render(markdown: str) -> str:
    """Make a page of a Markdown text: its headings are anchors, those below the title contents."""
    parser = MarkdownIt("commonmark", {"html": False})
    tokens = parser.parse(markdown)
    headings = [
        (token, text.content)
        for token, text in pairwise(tokens)
        if token.type == "heading_open" and text.content
    ]
    contents: list[str] = []
    for token, text in headings[1:]:
        token.attrSet("id", _anchor(text))
        link = f'<a href="#{_anchor(text)}">{inline(text)}</a>'
        contents.append(f"<p>{link}</p>" if token.tag == "h2" else link)
    anchors = {_anchor(text).lower(): _anchor(text) for _, text in headings}
    for token in tokens:
        if token.children:
            token.children = [*_led(token.children, anchors)]
    # What is wider than a narrow screen is scrolled, by the keyboard too.
    article = parser.renderer.render(tokens, parser.options, {}).replace(
        "<pre>", '<pre tabindex="0">'
    )
    return frame(headings[0][1], contents, [article.strip()])


def main() -> None:
    """Write the page beside the other files that are served."""
    SERVED.write_text(render(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")


def _anchor(heading: str) -> str:
    """Name a heading: a reason by itself, anything else as GitHub does."""
    if heading.isalnum():
        return heading
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _led(tokens: Iterable[Token], anchors: Mapping[str, str]) -> Iterator[Token]:
    """Lead links to where they lead here: a page that is not served stays as its name alone."""
    is_away = False
    for token in tokens:
        if token.type == "link_open":
            href = str(token.attrs["href"])
            is_away = not href.startswith("#")
            if not is_away:
                token.attrSet("href", f"#{anchors[href[1:]]}")
        if not (is_away and token.type.startswith("link_")):
            yield token


if __name__ == "__main__":
    main()
