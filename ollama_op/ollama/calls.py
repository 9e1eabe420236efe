"""How a call of Ollama is sent: traced, in time, and failing with errors of our own."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, Final

import httpx

from ollama_op.base import tracing
from ollama_op.base.tracing import MODEL, Span, Value
from ollama_op.ollama.failures import calling

SEND_LIMIT_S: Final = 5.0
COPY = "/api/copy"  # whose body names two models
TIMEOUT: Final = httpx.Timeout(30, connect=SEND_LIMIT_S)
NO_END: Final = httpx.Timeout(None, connect=SEND_LIMIT_S)


class OllamaCalls:
    """Sends to one server, through a client whose base URL is that server's."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.where = _without_secrets(http.base_url)
        self._server: dict[str, Value] = {"server.address": http.base_url.host}
        if http.base_url.port is not None:
            self._server |= {"server.port": http.base_url.port}

    async def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        limits: httpx.Timeout = TIMEOUT,
    ) -> httpx.Response:
        """Send; return the whole answer, whatever its status.

        Raises: OllamaUnreachable, NotOllama.
        """
        with self._traced(method, path, body) as span, calling(self.where):
            answer = await self._http.request(
                method, path, json=body, timeout=limits, headers=_joining(span)
            )
            span.answered(answer.status_code, len(answer.content))
            return answer

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, body: Mapping[str, Any]
    ) -> AsyncGenerator[tuple[httpx.Response, Span]]:
        """Send; hand out the answer, yet to be read, and its span. There is no limit of time.

        Raises: OllamaUnreachable, NotOllama; also for what happens while it is read.
        """
        with self._traced(method, path, body) as span, calling(self.where):
            async with self._http.stream(
                method, path, json=body, timeout=NO_END, headers=_joining(span)
            ) as answer:
                span.answered(answer.status_code)
                yield answer, span

    def _traced(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> AbstractContextManager[Span]:
        about = {
            "http.request.method": method,
            "url.template": path,
            "url.full": f"{self.where}{path}",
            **self._server,
        }
        if body is not None:
            about[MODEL] = body["source"] if path == COPY else body["model"]
        return tracing.span(f"{method} {path}", about, kind="client")


def _joining(span: Span) -> dict[str, str]:
    """Return the header by which whatever is behind Ollama's address can join the trace."""
    return {"traceparent": span.traceparent} if span.traceparent else {}


def _without_secrets(url: httpx.URL) -> str:
    return str(url.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")
