"""Whose word an answer is: Ollama's own, or that of something which stands before it.

Gateways, meshes, proxies and login pages answer in Ollama's place, often with a status that Ollama
uses too. So a status alone says nothing. An answer is Ollama's if it is JSON of the type that the
endpoint has, or JSON with a string `error`. All others are NotOllama, and nothing is concluded
from them about any model.

Source: Ollama, docs/api.md and server/routes.go. Ollama answers every success with HTTP 200.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

import httpx
import msgspec

from crd.v1alpha1 import UNREADABLE
from ollama_op.errors import NotOllama, Refused

T = TypeVar("T")


class _Problem(msgspec.Struct):
    error: str


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


def refusal(answer: httpx.Response) -> Refused | NotOllama:
    """Return the error for a whole answer that is no success: Ollama's own no, or another's."""
    try:
        words = _problem.decode(answer.content).error
    except UNREADABLE:
        words = ""
    if not words or answer.is_redirect:
        return foreign(answer, answer.content)
    return Refused(answer.status_code, words)


def foreign(answer: httpx.Response, body: bytes) -> NotOllama:
    """Return the error for an answer that is not in Ollama's form; `body` is what came of it."""
    url = answer.request.url
    where = url.copy_with(userinfo=b"", path="/", query=None, fragment=None)
    return NotOllama(
        f"{str(where).rstrip('/')} answered {url.path} with HTTP {answer.status_code} and"
        f" {_kind(answer, body)}, which is not Ollama's",
        _hint(answer),
    )


def _hint(answer: httpx.Response) -> str:
    """Say the one thing to do."""
    match answer.status_code:
        case 401:
            return "give the operator a token with --ollama-header-file"
        case 407:
            return "write the proxy's credentials into HTTP_PROXY, or name Ollama in NO_PROXY"
        case _ if answer.is_redirect:
            return "set --ollama-api-url to the address that Ollama itself has"
        case _:
            return "see what stands before Ollama: a gateway, a proxy or a login page"


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
