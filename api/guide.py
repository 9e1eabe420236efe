"""Pages of text for the browser; `just guide` renders docs/reasons.md as one.

The page is part of the package, since a "What to do" link must work where there is no internet.
Only what that file uses of Markdown is known here: headings, paragraphs, code and links.
"""

import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

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
<link rel="icon" href="/page/icon.svg">
<link rel="stylesheet" href="/page/style.css">
<link rel="stylesheet" href="/page/guide.css">
<script src="/page/theme.js"></script>
</head>
<body>
<a class="skip" href="#main">Skip to text</a>
<header class="bar">
<a class="brand" href="/">ollama-op</a>
<nav aria-label="Pages"><a href="/">Models</a> <a href="/docs">API docs</a></nav>
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
    """Make a page of a Markdown text. Headings of the third level are its anchors."""
    blocks = [block.strip() for block in re.split(r"\n\s*\n|(?<=\n)(?=#)", markdown)]
    article: list[str] = []
    contents: list[str] = []
    title = ""
    for level, text in (part for block in blocks if block for part in _parts(block)):
        article.append(_element(level, text))
        if level == 1:
            title = text
        elif level == 2:  # noqa: PLR2004
            contents.append(f"<p>{inline(text)}</p>")
        elif level:
            contents.append(f'<a href="#{html.escape(text)}">{html.escape(text)}</a>')
    return frame(title, contents, article)


def main() -> None:
    """Write the pages beside the other files of the page."""
    for name in NAMES:
        source = (SOURCES / f"{name}.md").read_text(encoding="utf-8")
        (PAGES / f"{name}.html").write_text(render(source), encoding="utf-8")


def _parts(block: str) -> list[tuple[int, str]]:
    """Split a block into its heading, if any, and the text under it, which has level 0."""
    heading = re.match(r"(#{1,3}) (.+)\n?", block)
    if not heading:
        return [(0, block)]
    rest = block[heading.end() :].strip()
    return [(len(heading[1]), heading[2].strip()), *([(0, rest)] if rest else [])]


def _element(level: int, text: str) -> str:
    if not level:
        return f"<p>{inline(text)}</p>"
    anchor = f' id="{html.escape(text)}"' if level == 3 else ""  # noqa: PLR2004
    return f"<h{level}{anchor}>{inline(text)}</h{level}>"


def inline(text: str) -> str:
    """Render code and links within a text."""
    text = html.escape(text, quote=False)
    return _LINK.sub(r'<a href="\2">\1</a>', _CODE.sub(r"<code>\1</code>", text))


if __name__ == "__main__":
    main()
