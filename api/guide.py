"""Pages of text for the browser; `just guide` renders docs/reasons.md as one.

The page is part of the package, since a "What to do" link must work where there is no internet.
It is served without any other, so its links stay within it.
"""

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from markdown_it.token import Token

SOURCES: Final = Path(__file__).parents[1] / "docs"
PAGES: Final = Path(__file__).parent / "page"
NAMES: Final = ("reasons",)

_CODE: Final = re.compile(r"`([^`]+)`")
_LINK: Final = re.compile(r"\[([^\]]+)\]\((/[^)\s]*)\)")

_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · ollama-op</title>
<link rel="icon" href="../page/icon.svg">
<link rel="stylesheet" href="../page/style.css">
<link rel="stylesheet" href="../page/guide.css">
<script src="../page/theme.js"></script>
</head>
<body>
<a class="skip" href="#main">Skip to text</a>
<header class="bar">
<a class="brand" href="../">ollama-op</a>
<nav aria-label="Pages"><a href="../">Models</a> <a href="../docs">API docs</a></nav>
<button type="button" class="quiet" data-theme-toggle aria-label="Theme">◐
<span></span></button>
</header>
<main id="main" class="guide">
<nav class="contents" aria-label="Contents">
{contents}
</nav>
<article>
{article}
</article>
</main>
</body>
</html>
"""


def frame(title: str, contents: Iterable[str], article: Iterable[str]) -> str:
    """Make a page with links at its side; `contents` and `article` are elements of HTML."""
    return _PAGE.format(
        title=html.escape(title), contents="\n".join(contents), article="\n".join(article)
    )


def render(markdown: str) -> str:
    """Make a page of a Markdown text: its headings are anchors, those below the title contents."""
    from markdown_it import MarkdownIt  # noqa: PLC0415 - only who renders needs it

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
    """Write the pages beside the other files of the page."""
    for name in NAMES:
        source = (SOURCES / f"{name}.md").read_text(encoding="utf-8")
        (PAGES / f"{name}.html").write_text(render(source), encoding="utf-8")


def _anchor(heading: str) -> str:
    """Name a heading: a reason by itself, anything else as GitHub does."""
    if heading.isalnum():
        return heading
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _led(tokens: Iterable["Token"], anchors: Mapping[str, str]) -> Iterator["Token"]:
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


def inline(text: str) -> str:
    """Render code and links within a text; the page is in /docs/, wherever that is."""
    text = html.escape(text, quote=False)
    return _LINK.sub(r'<a href="..\2">\1</a>', _CODE.sub(r"<code>\1</code>", text))


if __name__ == "__main__":
    main()
