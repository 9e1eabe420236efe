"""Why Ollama did not answer, or something else did: words, and what to do, for all who tell of it.

Status, log and doctor have them from the error.

httpx says so in an error of its own, behind which is the one of the socket, of TLS or of DNS.
"""

import errno
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final

import httpx

from ollama_op.errors import NotOllama, OllamaError, OllamaUnreachable
from ollama_op.proxies import proxy_variable

CA_FILE: Final = "--ollama-ca-file"
TRUSTING: Final = "ollama_op.trusting"  # extension of a request: the file of CAs that are trusted
VIA: Final = "ollama_op.via"  # extension of a request: the proxy that it goes through, as shown
NETWORK: Final = "see routes, firewalls and network policies between the operator and Ollama"


class Trouble(Enum):
    """What went wrong, with `{}` for details, and the one thing to do."""

    REFUSED = "refused the connection", "start Ollama, or set --ollama-api-url"
    NO_ROUTE = "cannot be reached: {}", NETWORK
    NO_CONNECTION = "does not answer: no connection in time", NETWORK
    NO_ANSWER = (
        "does not answer: connected, but no answer in time",
        "see Ollama's log, and its load",
    )
    NO_NAME = (
        "has a host name that cannot be resolved: DNS knows no such name",
        "correct --ollama-api-url; in a cluster it is http://SERVICE.NAMESPACE:11434",
    )
    NO_DNS = (
        "has a host name that cannot be resolved: DNS does not answer",
        "see that DNS runs, and that network policies let port 53 through",
    )
    UNTRUSTED = (
        "shows a certificate that is not trusted: {}",
        f"give the operator the certificate's CA with {CA_FILE}",
    )
    OTHER_NAME = (
        "shows a certificate for another name: {}",
        "set --ollama-api-url to a name that is in the certificate",
    )
    EXPIRED = "shows a certificate that is not valid now: {}", "renew the certificate"
    NO_TLS = "does not speak TLS", "write http:// in --ollama-api-url, or correct its port"
    TLS_ENDED = "ended TLS: {}", "see the log of what ends TLS before Ollama"
    BROKEN = "broke the connection", "see Ollama's log"
    PROXY_REFUSES = (
        "is not reached: the proxy answers {}",
        "see the proxy's log, or name Ollama in NO_PROXY",
    )
    PROXY_ASKS = (
        "is not reached: the proxy asks for credentials",
        "write them into HTTPS_PROXY or HTTP_PROXY, or name Ollama in NO_PROXY",
    )
    UNREADABLE = "gives an answer that cannot be read: {}", "see what stands before Ollama"
    # Answers in Ollama's place; these words follow those that describe the answer.
    ASKS = "it asks for credentials", "give the operator a token with --ollama-header-file"
    PROXY_WANTS = (
        "a proxy asks for credentials",
        "write them into HTTPS_PROXY or HTTP_PROXY, or name Ollama in NO_PROXY",
    )
    FORBIDS = "it does not let the operator in", "see the rules of what stands before Ollama"
    SENDS_ON = "it sends elsewhere", "set --ollama-api-url to {}"
    SENDS_TO_LOGIN = (
        "it sends elsewhere, as logins do",
        "give the operator a token with --ollama-header-file",
    )
    WANTS_TLS = "it wants TLS", "write https:// in --ollama-api-url"
    NOTHING_BEHIND = (
        "a gateway has no Ollama behind it",
        "see the gateway's log, and whether Ollama runs behind it",
    )
    WEB_PAGE = (
        "a web server or a login is there",
        "correct --ollama-api-url, or give the operator a token with --ollama-header-file",
    )
    NO_SUCH_PATH = (
        "something else is there",
        "see what stands before Ollama; --ollama-api-url may lead elsewhere",
    )
    ELSE = (
        "something else is there",
        "see what stands before Ollama: a gateway, a proxy or a login page",
    )

    def __init__(self, what: str, hint: str) -> None:
        self.what, self.hint = what, hint


# The more one of several attempts tells, the further ahead it is.
_ERRNO: Final[Mapping[int, Trouble]] = {
    errno.ECONNREFUSED: Trouble.REFUSED,
    errno.ETIMEDOUT: Trouble.NO_CONNECTION,
    errno.EHOSTUNREACH: Trouble.NO_ROUTE,
    errno.ENETUNREACH: Trouble.NO_ROUTE,
    errno.EADDRNOTAVAIL: Trouble.NO_ROUTE,
    errno.EACCES: Trouble.NO_ROUTE,
    errno.EPERM: Trouble.NO_ROUTE,
}
# No connection, which goes to the proxy if there is one.
_OF_THE_WAY: Final = frozenset(
    {
        Trouble.REFUSED,
        Trouble.NO_ROUTE,
        Trouble.NO_CONNECTION,
        Trouble.NO_NAME,
        Trouble.NO_DNS,
    }
)
DNS_SILENT: Final = (socket.EAI_AGAIN, socket.EAI_FAIL)
# X509_V_ERR_*: a name or an address that is not in it; not yet valid, no longer valid.
_OTHER_NAME: Final = (62, 64)
_OUT_OF_DATE: Final = (9, 10)
_WAITS: Final = (ssl.SSLEOFError, ssl.SSLWantReadError, ssl.SSLWantWriteError)  # no word of TLS
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")


def failure(where: str, error: httpx.RequestError) -> OllamaError:
    """Return the error of ours for a call of the server `where` that got no answer."""
    trouble, detail = _explain(error)
    what, hint = trouble.what.format(detail), trouble.hint
    try:
        request = error.request
    except RuntimeError:  # httpx has no request to tell of
        return OllamaUnreachable(f"{where} {what}", hint)
    if trouble is Trouble.UNREADABLE:
        return NotOllama(f"{where}{through(request)} {what}", hint)
    if VIA in request.extensions and trouble in _OF_THE_WAY:
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


def _explain(error: httpx.RequestError) -> tuple[Trouble, str]:
    match error:
        case httpx.DecodingError() | httpx.TooManyRedirects():
            return Trouble.UNREADABLE, str(error)
        case httpx.ProxyError():
            asks = str(error).startswith("407")
            return (Trouble.PROXY_ASKS if asks else Trouble.PROXY_REFUSES), f"HTTP {error}"
        case _:
            pass
    behind = list(_behind(error))
    for each in behind:
        if isinstance(each, socket.gaierror):
            return (Trouble.NO_DNS if each.errno in DNS_SILENT else Trouble.NO_NAME), ""
        if isinstance(each, ssl.SSLError) and not isinstance(each, _WAITS):
            return _explain_tls(each)
    match error:
        case httpx.ConnectTimeout():
            return Trouble.NO_CONNECTION, ""
        case httpx.TimeoutException():
            return Trouble.NO_ANSWER, ""
        case httpx.ConnectError():
            return _explain_connect(behind)
        case _:
            return Trouble.BROKEN, ""


def _explain_tls(error: ssl.SSLError) -> tuple[Trouble, str]:
    if not isinstance(error, ssl.SSLCertVerificationError):
        reason = error.reason or "UNKNOWN"
        return (Trouble.NO_TLS, "") if reason in _NOT_TLS else (Trouble.TLS_ENDED, reason)
    if error.verify_code in _OTHER_NAME:
        return Trouble.OTHER_NAME, error.verify_message
    if error.verify_code in _OUT_OF_DATE:
        return Trouble.EXPIRED, error.verify_message
    return Trouble.UNTRUSTED, error.verify_message


def _explain_connect(behind: list[BaseException]) -> tuple[Trouble, str]:
    """Find what the attempts say; a host may have several addresses, and each has its own end."""
    numbers = {each.errno for each in behind if isinstance(each, OSError) and each.errno}
    for number, trouble in _ERRNO.items():
        if number in numbers:
            return trouble, _system(number)
    return Trouble.NO_ROUTE, next((_system(number) for number in numbers), "no connection")


def _system(number: int) -> str:
    """Return the system's words, to stand in the middle of a sentence."""
    text = os.strerror(number)
    return text[0].lower() + text[1:]


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """Yield all errors behind one, those of several attempts too."""
    seen: set[int] = set()
    stack = [error]
    while stack:
        each = stack.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            stack += each.exceptions
        stack += [each.__context__, each.__cause__]
