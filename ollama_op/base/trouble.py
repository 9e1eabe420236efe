"""Why a server did not answer, or something else did: in words, for Ollama and for Kubernetes.

httpx says so in an error of its own, behind which is the one of the socket, of TLS or of DNS. No
other module reads them: others catch `Unanswered`. The hints are for Ollama; those for Kubernetes
are in `kube.failures`.
"""

import errno
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from enum import Enum
from typing import Final

import anyio
import httpx

CA_FILE: Final = "--ollama-ca-file"
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
OF_THE_WAY: Final = frozenset(
    {
        Trouble.REFUSED,
        Trouble.NO_ROUTE,
        Trouble.NO_CONNECTION,
        Trouble.NO_NAME,
        Trouble.NO_DNS,
    }
)
LOOKUP_S: Final = 1.0  # for a second lookup of a name, once no connection came in time
DNS_SILENT: Final = (socket.EAI_AGAIN, socket.EAI_FAIL)
# X509_V_ERR_*: a name or an address that is not in it; not yet valid, no longer valid.
_OTHER_NAME: Final = (62, 64)
_OUT_OF_DATE: Final = (9, 10)
_WAITS: Final = (ssl.SSLEOFError, ssl.SSLWantReadError, ssl.SSLWantWriteError)  # no word of TLS
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")


class Unanswered(Exception):
    """A call got no answer: why, with details for `{}`, and the request if httpx knows it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.trouble, self.detail = _explain(error)
        self.request = _request(error)


@contextmanager
def explained() -> Generator[None]:
    """Turn errors of httpx into ours.

    Raises: Unanswered.
    """
    try:
        yield
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise Unanswered(error) from error


@asynccontextmanager
async def blaming_dns(host: str, port: int) -> AsyncGenerator[None]:
    """Put an error of DNS behind a connection that did not come in time, if DNS is silent."""
    try:
        yield
    except httpx.ConnectTimeout as error:
        if await _is_dns_silent(host, port):
            silent = socket.gaierror(socket.EAI_AGAIN, "no answer in time")
            raise httpx.ConnectTimeout(str(error)) from silent
        raise


async def _is_dns_silent(host: str, port: int) -> bool:
    with anyio.move_on_after(LOOKUP_S):
        try:
            await anyio.getaddrinfo(host, port)
        except socket.gaierror as error:
            return error.errno in DNS_SILENT
        return False
    return True


def _request(error: BaseException) -> httpx.Request | None:
    try:
        return error.request if isinstance(error, httpx.RequestError) else None
    except RuntimeError:  # httpx has none to tell of
        return None


def _explain(error: BaseException) -> tuple[Trouble, str]:
    match error:
        case httpx.DecodingError() | httpx.TooManyRedirects():
            return Trouble.UNREADABLE, str(error)
        case httpx.ProxyError():
            asks = str(error).startswith("407")
            return (Trouble.PROXY_ASKS if asks else Trouble.PROXY_REFUSES), f"HTTP {error}"
        case httpx.RequestError():
            return _explain_request(error)
        case ssl.SSLError():
            return _explain_tls(error)
        case TimeoutError():
            return Trouble.NO_ANSWER, ""
        case OSError() | RuntimeError():
            return Trouble.BROKEN, ""
        case _:
            return Trouble.UNREADABLE, str(error)


def _explain_request(error: httpx.RequestError) -> tuple[Trouble, str]:
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
