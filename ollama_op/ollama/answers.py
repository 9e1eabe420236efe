"""Whose word an answer is: Ollama's own, or that of something which stands before it.

Gateways, meshes, proxies and login pages answer in Ollama's place, often with a status that Ollama
uses too. So a status alone says nothing. An answer is Ollama's if it is JSON of the type that the
endpoint has, or JSON with a string `error`. All others are NotOllama, and nothing is concluded
from them about any model.

Source: Ollama, docs/api.md and server/routes.go. Ollama answers every success with HTTP 200.
"""

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, TypeVar

import httpx
import msgspec

from crd.v1alpha1 import UNREADABLE
from ollama_op.base.errors import NotOllama, Refused, sanitise
from ollama_op.base.trouble import Trouble, Unanswered, explained
from ollama_op.ollama.failures import through

T = TypeVar("T")


# The model is as its maker wrote it, and this Ollama does not know what is in it.
_UNUSABLE: Final = re.compile(r'function "[^"]*" not defined|unknown model architecture')


class _Problem(msgspec.Struct):
    error: str


_BY_STATUS: Final[Mapping[int, Trouble]] = {
    401: Trouble.ASKS,
    403: Trouble.FORBIDS,
    407: Trouble.PROXY_WANTS,
    502: Trouble.NOTHING_BEHIND,
    503: Trouble.NOTHING_BEHIND,
    504: Trouble.NOTHING_BEHIND,
}

# Who asks for credentials, or lets nobody in: Ollama has no users. Only its cloud has, in these
# words, and only where a model is used.
_ACCESS: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, 407)
_CLOUD: Final = re.compile(
    r"unauthorized|.*\b(cloud|subscription|remote model)\b.*", re.IGNORECASE | re.DOTALL
)
_USES: Final = ("/api/show", "/api/generate", "/api/embed", "/api/pull")

_PHRASES: Final = frozenset(each.phrase.lower() for each in HTTPStatus)

_problem = msgspec.json.Decoder(_Problem)


def heard(answer: httpx.Response, form: Callable[[bytes], T]) -> T:
    """Return what Ollama says in a whole answer; `form` reads the body of a success.

    Raises: Refused if Ollama itself says no; NotOllama if something else answered.
    """
    if answer.status_code != HTTPStatus.OK:
        raise refusal(answer)
    try:
        return form(answer.content)
    except UNREADABLE as error:
        raise foreign(answer, answer.content) from error


def is_unusable(words: str) -> bool:
    """Return True if Ollama says that a model is whole, but made for another Ollama."""
    return _UNUSABLE.search(words) is not None


def refusal(answer: httpx.Response) -> Refused | NotOllama:
    """Return the error for a whole answer that is no success: Ollama's own no, or another's."""
    try:
        words = _problem.decode(answer.content).error
    except UNREADABLE:
        words = ""
    if not words or answer.is_redirect or _is_others(answer, words):
        return foreign(answer, answer.content)
    return Refused(answer.status_code, words)


def _is_others(answer: httpx.Response, words: str) -> bool:
    """Return True for words in Ollama's form that Ollama never says.

    It has no users of its own. And it says what is wrong, where frameworks write the name of a
    status.
    """
    if answer.status_code in _ACCESS:
        uses_model = answer.request.url.path.endswith(_USES)
        return not (uses_model and _CLOUD.fullmatch(words))
    return words.lower() in _PHRASES


def foreign(answer: httpx.Response, body: bytes) -> NotOllama:
    """Return the error for an answer that is not in Ollama's form; `body` is what came of it."""
    url = answer.request.url
    where = str(url.copy_with(userinfo=b"", path="/", query=None, fragment=None)).rstrip("/")
    trouble, to = _trouble(answer, body)
    return NotOllama(
        f"{where}{through(answer.request)} answered {url.path} with HTTP {answer.status_code} and"
        f" {_kind(answer, body)}, which is not Ollama's: {trouble.what}",
        trouble.hint.format(sanitise(to)),
    )


def _trouble(answer: httpx.Response, body: bytes) -> tuple[Trouble, str]:
    """Return what stands in Ollama's place, and where it sends."""
    code = answer.status_code
    if answer.is_redirect:
        return _redirect(answer)
    if code == HTTPStatus.BAD_REQUEST and b"https" in body.lower():
        return Trouble.WANTS_TLS, ""
    if code in _BY_STATUS:
        return _BY_STATUS[code], ""
    if code == HTTPStatus.NOT_FOUND:
        return Trouble.NO_SUCH_PATH, ""
    is_page = "html" in answer.headers.get("content-type", "")
    return (Trouble.WEB_PAGE if is_page and answer.is_success else Trouble.ELSE), ""


def _redirect(answer: httpx.Response) -> tuple[Trouble, str]:
    """Return where Ollama is, if the same path is there; anything else is a login."""
    asked = answer.request.url
    try:
        with explained():
            to = asked.join(answer.headers.get("location", ""))
    except (ValueError, Unanswered):
        return Trouble.SENDS_TO_LOGIN, ""
    if to == asked or to.query or not to.path.endswith(asked.path):
        return Trouble.SENDS_TO_LOGIN, ""
    base = to.copy_with(userinfo=b"", path=to.path.removesuffix(asked.path) or "/", fragment=None)
    return Trouble.SENDS_ON, str(base).rstrip("/")


def _kind(answer: httpx.Response, body: bytes) -> str:
    """Name what came, and repeat nothing of it: it may be anybody's secret."""
    if answer.is_redirect:
        return f"a redirect to {answer.headers.get('location', 'nowhere').partition('?')[0]}"
    media = answer.headers.get("content-type", "")
    if "html" in media:
        return "a web page"
    if not body.strip():
        return "no body"
    return "other JSON" if "json" in media else "another text"
