"""What goes wrong with a call of the Kubernetes API: no answer, or an answer that says no."""

import re
from collections.abc import Mapping
from typing import Any, Final

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
    sanitise,
)
from ollama_op.base.proxies import shown_proxy
from ollama_op.base.trouble import OF_THE_WAY, Trouble, Unanswered

LONGEST_RETRY_AFTER_S: Final = 300.0
# How the API server says that the test in a JSON patch does not hold; what breaks the schema is a
# 422 as well, in other words.
TEST_FAILED: Final = "the server rejected our request due to an error in our request"
# How it says 403 about an object, and not about our account.
ADMISSION_PATH: Final = (
    "denied the request",
    "denied request: ",
    "exceeded quota",
    "being terminated",
)
# A policy has no field to name the field in; those of config/policy begin their words with it.
BY_POLICY: Final = re.compile(r" denied request: (spec\.[\w.]+): (.+)")
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


class _Cause(msgspec.Struct):
    field: str = ""
    message: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    reason: str = ""
    message: str = ""
    details: _Details | None = None


def answer_error(answer: httpx.Response) -> KubeError:
    """Return the error for an answer that is no success."""
    retry_after = answer.headers.get("retry-after", "")
    wait_s = float(retry_after) if retry_after.isdecimal() else 0.0
    try:
        status = msgspec.json.decode(answer.content, type=_Status)
    except UNREADABLE:
        status = _Status()
    return status_error(
        answer.status_code,
        _words(answer, status),
        retry_after_s=min(wait_s, LONGEST_RETRY_AFTER_S),
        reason=status.reason,
        fields=_fields(status),
        by_admission=any(words in status.message for words in ADMISSION_PATH),
    )


def _words(answer: httpx.Response, status: _Status) -> str:
    """Return what the server says about its refusal, or at least what its code means."""
    if answer.has_redirect_location:
        return f"redirected to {answer.headers['location']}, so it is not the Kubernetes API"
    return status.message.strip() or answer.reason_phrase or "no reason given"


def _fields(status: _Status) -> list[tuple[str, str]]:
    """Return which fields are refused, and in which words."""
    causes = (status.details.causes if status.details else None) or ()
    named = [(cause.field, cause.message) for cause in causes if cause.field]
    return [
        (field.removeprefix("spec."), sanitise(message))
        for field, message in named or BY_POLICY.findall(status.message)
    ]


def status_error(code: int, message: str, **about: Any) -> KubeError:
    """Turn an HTTP status, or the code of a watch's ERROR event, into its error."""
    kinds: Mapping[int, type[KubeError]] = {
        401: Unauthenticated,
        403: NotPermitted,
        404: NotFound,
        409: Conflict,
        410: Expired,
        429: KubeUnreachable,
    }
    kind = kinds.get(code, Rejected if 400 <= code < 500 else KubeUnreachable)  # noqa: PLR2004 - HTTP
    if TEST_FAILED in message:
        kind = Conflict
    return kind(f"HTTP {code}: {message}", **about)
