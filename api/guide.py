"""The frame of pages of text for the browser, which docs/guide.py fills as well."""

import html
import re
from collections.abc import Iterable
from typing import Final

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


def inline(text: str) -> str:
    """Render code and links within a text; the page is in /docs/, wherever that is."""
    text = html.escape(text, quote=False)
    return _LINK.sub(r'<a href="..\2">\1</a>', _CODE.sub(r"<code>\1</code>", text))
