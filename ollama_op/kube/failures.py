"""What goes wrong with a call of the Kubernetes API: no answer, or an answer that says no."""

from collections.abc import Mapping
from typing import Final

import httpx
import msgspec

from crd.v1alpha1 import UNREADABLE
from ollama_op.base.errors import (
    Conflict,
    Expired,
    KubeError,
    KubeUnreachable,
    NotFound,
    NotPermitted,
    Rejected,
    Unauthenticated,
)
from ollama_op.base.proxies import shown_proxy
from ollama_op.base.trouble import OF_THE_WAY, Trouble, Unanswered

LONGEST_RETRY_AFTER_S: Final = 300.0
# How the API server says that the test in a JSON patch does not hold; what breaks the schema is a
# 422 as well, in other words.
TEST_FAILED: Final = "the server rejected our request due to an error in our request"
_NETWORK: Final = "see routes, firewalls and a VPN between here and the API server"
_PROXY: Final = "correct proxy-url in the kubeconfig or HTTPS_PROXY, or name the server in NO_PROXY"
_LOG: Final = "see the log of the API server, and of what stands before it"
HINTS: Final[Mapping[Trouble, str]] = {
    Trouble.REFUSED: "see whether the cluster runs, and `server` in the kubeconfig",
    Trouble.NO_ROUTE: _NETWORK,
    Trouble.NO_CONNECTION: _NETWORK,
    Trouble.NO_ANSWER: "see the load of the API server",
    Trouble.NO_NAME: "correct `server` in the kubeconfig",
    Trouble.NO_DNS: Trouble.NO_DNS.hint,
    Trouble.UNTRUSTED: "set certificate-authority in the kubeconfig to the CA of this certificate",
    Trouble.OTHER_NAME: "correct `server` in the kubeconfig, or set tls-server-name",
    Trouble.EXPIRED: Trouble.EXPIRED.hint,
    Trouble.NO_TLS: "correct `server` in the kubeconfig",
    Trouble.TLS_ENDED: _LOG,
    Trouble.PROXY_REFUSES: _PROXY,
    Trouble.PROXY_ASKS: _PROXY,
}


def as_kube_error(error: BaseException, proxy: str | None = None) -> KubeUnreachable:
    """Turn whatever kr8s, httpx or the socket raises into the error that says what it means."""
    found = Unanswered(error)
    trouble, url = found.trouble, found.request and found.request.url
    at = f" at {url.scheme}://{url.netloc.decode()}" if url else ""
    who = f"the Kubernetes API{at}"
    if trouble in HINTS:
        what = trouble.what.format(found.detail)
        if proxy and trouble in OF_THE_WAY:
            what = f"is not reached: the proxy {shown_proxy(proxy)} {what}"
            return KubeUnreachable(f"{who} {what}", hint=_PROXY)
        told = KubeUnreachable(f"{who}{_by(proxy)} {what}", hint=HINTS[trouble])
        told.is_silence = trouble is Trouble.NO_ANSWER
        return told
    if trouble is Trouble.UNREADABLE:
        return KubeUnreachable(f"the Kubernetes API's answer cannot be read: {error!r}", hint=_LOG)
    broke = f"the connection to the Kubernetes API broke{_by(proxy)}: {error}"
    return KubeUnreachable(broke, hint=_LOG)


def _by(proxy: str | None) -> str:
    return f" through the proxy {shown_proxy(proxy)}" if proxy else ""


# --- an answer that says no


def answer_error(answer: httpx.Response) -> KubeError:
    """Return the error for an answer that is no success."""
    retry_after = answer.headers.get("retry-after", "")
    wait_s = float(retry_after) if retry_after.isdecimal() else 0.0
    wait_s = min(wait_s, LONGEST_RETRY_AFTER_S)
    code = answer.status_code
    return status_error(code, _words(answer), retry_after_s=wait_s, body=answer.content)


def _words(answer: httpx.Response) -> str:
    """Return what the server says about its refusal, or at least what its code means."""
    if answer.has_redirect_location:
        return f"redirected to {answer.headers['location']}, so it is not the Kubernetes API"
    try:
        message = msgspec.json.decode(answer.content, type=_Status).message.strip()
    except UNREADABLE:
        message = ""
    return message or answer.reason_phrase or "no reason given"


class _Status(msgspec.Struct):
    message: str = ""


def status_error(
    code: int, message: str, *, retry_after_s: float = 0, body: bytes = b""
) -> KubeError:
    """Turn an HTTP status, or the code of a watch's ERROR event, into its error."""
    kinds: Mapping[int, type[KubeError]] = {
        401: Unauthenticated,
        403: NotPermitted,
        404: NotFound,
        409: Conflict,
        410: Expired,
        429: KubeUnreachable,
    }
    if TEST_FAILED in message:
        return Conflict(f"HTTP {code}: {message}", body=body)
    kind = kinds.get(code, Rejected if 400 <= code < 500 else KubeUnreachable)  # noqa: PLR2004
    return kind(f"HTTP {code}: {message}", retry_after_s=retry_after_s, body=body)
