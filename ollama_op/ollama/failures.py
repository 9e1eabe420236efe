"""What is told where Ollama did not answer: status, log and doctor have it from the error."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import httpx

from ollama_op.base.errors import NotOllama, OllamaError, OllamaUnreachable
from ollama_op.base.proxies import proxy_variable
from ollama_op.base.trouble import CA_FILE, OF_THE_WAY, Trouble, Unanswered, explained

TRUSTING: Final = "ollama_op.trusting"  # extension of a request: the file of CAs that are trusted
VIA: Final = "ollama_op.via"  # extension of a request: the proxy that it goes through, as shown


@contextmanager
def calling(where: str) -> Generator[None]:
    """Call the server `where`.

    Raises: OllamaUnreachable, NotOllama.
    """
    try:
        with explained():
            yield
    except Unanswered as error:
        raise _failure(where, error) from error


def _failure(where: str, error: Unanswered) -> OllamaError:
    trouble, request = error.trouble, error.request
    what, hint = trouble.what.format(error.detail), trouble.hint
    if request is None:
        return OllamaUnreachable(f"{where} {what}", hint)
    if trouble is Trouble.UNREADABLE:
        return NotOllama(f"{where}{through(request)} {what}", hint)
    if VIA in request.extensions and trouble in OF_THE_WAY:
        return OllamaUnreachable(f"{where} is not reached: {_proxy(request)} {what}", _way(request))
    if trouble is Trouble.UNTRUSTED and (path := request.extensions.get(TRUSTING)):
        what = f"{what}; {path} ({CA_FILE}) does not hold its CA"
        hint = f"put the CA of this certificate into {path}"
    return OllamaUnreachable(f"{where}{through(request)} {what}", hint)


def through(request: httpx.Request) -> str:
    """Name the proxy that a request went through, to follow the server's address."""
    via = request.extensions.get(VIA)
    return f" (through the proxy {via})" if via else ""


def _proxy(request: httpx.Request) -> str:
    """Name the proxy, and the variable that it is from."""
    variable = proxy_variable(str(request.url))
    return f"the proxy {request.extensions[VIA]} ({variable})"


def _way(request: httpx.Request) -> str:
    """Return what helps if the proxy itself is not reached."""
    url = request.url
    return f"correct {proxy_variable(str(url))}, or name {url.host} in NO_PROXY"
