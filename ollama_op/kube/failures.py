"""What is told where the Kubernetes API did not answer, and what to do about it."""

import ssl
from collections.abc import Mapping
from typing import Final

import httpx
import kr8s

from ollama_op.base.errors import KubeUnreachable
from ollama_op.base.proxies import shown_proxy
from ollama_op.base.trouble import OF_THE_WAY, Trouble, explain, explain_tls

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


def as_kube_error(error: Exception, proxy: str | None = None) -> KubeUnreachable:
    """Turn whatever kr8s, httpx or the socket raises into the error that says what it means."""
    cause = error.__cause__ or error.__context__
    if isinstance(error, kr8s.APITimeoutError) and isinstance(cause, httpx.RequestError):
        error = cause  # it tells more
    trouble, detail = _explain(error)
    if trouble in HINTS:
        who, what = f"the Kubernetes API{_at(error)}", trouble.what.format(detail)
        if proxy and trouble in OF_THE_WAY:
            what = f"is not reached: the proxy {shown_proxy(proxy)} {what}"
            return KubeUnreachable(f"{who} {what}", hint=_PROXY)
        return KubeUnreachable(f"{who}{_by(proxy)} {what}", hint=HINTS[trouble])
    if isinstance(error, httpx.HTTPError | OSError | RuntimeError):
        broke = f"the connection to the Kubernetes API broke{_by(proxy)}: {error}"
        return KubeUnreachable(broke, hint=_LOG)
    return KubeUnreachable(f"the Kubernetes API's answer cannot be read: {error!r}", hint=_LOG)


def _explain(error: Exception) -> tuple[Trouble, str]:
    match error:
        case ssl.SSLError():
            return explain_tls(error)
        case httpx.RequestError():
            return explain(error)
        case kr8s.APITimeoutError() | TimeoutError():
            return Trouble.NO_ANSWER, ""
        case _:
            return Trouble.BROKEN, ""


def _by(proxy: str | None) -> str:
    return f" through the proxy {shown_proxy(proxy)}" if proxy else ""


def _at(error: Exception) -> str:
    """Return which server it was, where the error knows."""
    try:
        url = error.request.url if isinstance(error, httpx.RequestError) else None
    except RuntimeError:  # httpx has no request to tell of
        url = None
    return f" at {url.scheme}://{url.netloc.decode()}" if url else ""
