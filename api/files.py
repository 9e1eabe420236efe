"""Files that the process serves by itself, read once: the page at `/`, and the API docs."""

from collections.abc import Mapping
from hashlib import sha256
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable
from mimetypes import guess_type
from typing import Any, Final

from litestar import Request
from litestar.di import NamedDependency
from litestar.handlers import get
from litestar.params import SkipValidation

from api.problems import Kind, Problem, problem_page
from api.view import matches
from ollama_op.base.asgi import Answer, Header

# Nothing from elsewhere, and no inline script.
_POLICY: Final = (
    b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    b" object-src 'none'"
)
CSP: Final[Header] = (b"content-security-policy", _POLICY)
# Swagger UI draws its arrows from data: addresses in its style sheet, and sets styles on elements
# from its script. Neither can load or run anything.
REFERENCE_CSP: Final[Header] = (
    b"content-security-policy",
    _POLICY + b"; img-src 'self' data:; style-src 'self' 'unsafe-inline'",
)
NO_REFERRER: Final[Header] = (b"referrer-policy", b"no-referrer")
SWAGGER: Final = {
    "swagger-ui-bundle.js": "javascripts/swagger-ui-bundle.js",
    "swagger-ui.css": "stylesheets/swagger-ui.css",
}

TRACE_URL_PLACE: Final = b"__TRACE_URL__"  # stands in the page where the address of a trace belongs

Files = Mapping[str, Answer]
"""Answers by path."""


def served(openapi: bytes, trace_url: str = "") -> Files:
    """Read all files; `openapi` is the API's description.

    `trace_url` is where the page links to for a trace, with `{trace_id}` in it.
    """
    found = {
        "/docs/problems": _answer("problems.html", problem_page()),
        "/openapi.json": _answer("openapi.json", openapi),
    }
    found |= {f"/page/{name}": _file(file) for name, file in _folder("page").items()}
    del found["/page/index.html"]
    found["/docs/reasons"] = found.pop("/page/reasons.html")
    index = (files("api") / "page" / "index.html").read_bytes()
    found["/"] = _answer("index.html", index.replace(TRACE_URL_PLACE, escape(trace_url).encode()))
    reference = (files("api") / "page" / "docs.html").read_bytes()
    found["/docs"] = _answer("docs.html", reference, csp=REFERENCE_CSP)
    swagger = files("mkdocs_swagger_ui_tag") / "swagger-ui"
    found |= {f"/docs/{name}": _file(swagger / path) for name, path in SWAGGER.items()}
    return found


@get(["/", "/docs", "/docs/{name:str}", "/page/{name:str}", "/openapi.json"])
async def get_file(
    request: Request[Any, Any, Any], static: NamedDependency[SkipValidation[Files]]
) -> Answer:
    """Serve a file."""
    answer = static.get(request.scope["path"])
    if answer is None:
        raise Problem(Kind.PATH_NOT_FOUND, "There is no such page.")
    etag = dict(answer.headers)[b"etag"]
    if_none_match = request.headers.get("if-none-match", "").encode("latin-1")
    if if_none_match and matches(if_none_match, etag):
        return Answer(304, headers=((b"etag", etag), (b"cache-control", b"no-cache")))
    return answer


def _folder(name: str) -> dict[str, Traversable]:
    return {file.name: file for file in (files("api") / name).iterdir() if file.is_file()}


def _file(file: Traversable) -> Answer:
    return _answer(file.name, file.read_bytes())


def _answer(name: str, body: bytes, *, csp: Header = CSP) -> Answer:
    kind = guess_type(name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    etag = f'"{sha256(body).hexdigest()[:16]}"'.encode()
    headers = ((b"content-type", kind.encode()), (b"etag", etag), (b"cache-control", b"no-cache"))
    return Answer(200, body, (*headers, csp, NO_REFERRER))
