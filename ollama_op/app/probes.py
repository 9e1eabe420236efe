"""/healthz and /readyz, for the kubelet."""

from typing import Protocol

from ollama_op.base.asgi import Message, Receive, Send


class Health(Protocol):
    """Knows whether the operator is ready."""

    def is_ready(self) -> bool:
        """Return True if the operator is ready."""

    def is_logged_in(self) -> bool:
        """Return False while Kubernetes does not know who calls."""


class Probes:
    """An ASGI application: alive while it answers at all, ready while `health` says so."""

    def __init__(self, health: Health) -> None:
        self._health = health

    async def __call__(
        self,
        scope: Message,
        receive: Receive,  # noqa: ARG002 - probes have no body
        send: Send,
    ) -> None:
        """Answer one probe."""
        status, text = self._answer(scope["path"])
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": f"{text}\n".encode()})

    def _answer(self, path: str) -> tuple[int, str]:
        match path:
            case "/healthz":
                return 200, "ok"
            case "/readyz" if self._health.is_ready():
                return 200, "ok"
            case "/readyz" if not self._health.is_logged_in():
                return 503, "not logged in to Kubernetes; the log says why"
            case "/readyz":
                return 503, "the watch of OllamaModels, or the webhook, is not established"
            case _:
                return 404, "only /healthz and /readyz are here"
