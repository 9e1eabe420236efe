"""Run an ASGI application in process, behind httpx, with bodies that stream.

httpx's own ASGITransport collects the whole body before it returns, so that a watch never answers.
Here the application is a task, and the response is read while that task writes it.
"""

import math
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import httpx
from anyio.abc import TaskGroup

from ollama_op.base.asgi import App, Message

T = TypeVar("T")


class AppTransport(httpx.AsyncBaseTransport):
    """An httpx transport that calls `app` instead of a server.

    Enter it before use; leaving it cancels every request under way. It may be entered again
    inside, as `async with httpx.AsyncClient(transport=...)` does. The read timeout of a request
    is kept, so that a silent application looks like a silent server.

    Raises, from a request: httpx.ReadTimeout; httpx.ReadError where the application raises
    ConnectionError, which is how it cuts a connection; any other exception of the application
    as it is, for that is a bug.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._tasks: TaskGroup | None = None
        self._depth = 0

    async def __aenter__(self) -> Self:
        if self._depth == 0:
            self._tasks = await anyio.create_task_group().__aenter__()
        self._depth += 1
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._depth -= 1
        if self._depth == 0 and self._tasks is not None:
            tasks, self._tasks = self._tasks, None
            tasks.cancel_scope.cancel()
            await tasks.__aexit__(exc_type, exc_value, traceback)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Start the application and return once it has sent the response's head."""
        if self._tasks is None:
            raise RuntimeError("enter the AppTransport before using it")
        exchange = _Exchange(request, await request.aread())
        self._tasks.start_soon(exchange.run, self._app)
        return await exchange.response()


class _Exchange(httpx.AsyncByteStream):
    """One request and its response, between the application's task and the client's."""

    def __init__(self, request: httpx.Request, body: bytes) -> None:
        self._request = request
        self._body: bytes | None = body
        self._scope = anyio.CancelScope()
        self._head = anyio.Event()
        self._status, self._headers = 0, list[tuple[bytes, bytes]]()
        self._error: Exception | None = None
        # No buffer: a client that reads slowly slows the application, as a full socket does.
        self._write, self._read = anyio.create_memory_object_stream[bytes](0)
        timeout = request.extensions.get("timeout", {}).get("read")
        self._timeout_s = math.inf if timeout is None else timeout

    async def run(self, app: App) -> None:
        with self._scope, self._write:
            try:
                await app(self._asgi_scope(), self._receive, self._send)
            except Exception as error:  # noqa: BLE001  it is the client who must see it
                self._error = error
            finally:
                self._head.set()

    async def response(self) -> httpx.Response:
        try:
            await self._in_time(self._head.wait)
        except BaseException:
            await self.aclose()
            raise
        if self._error is not None or not self._status:
            await self.aclose()
            raise self._failure()
        return httpx.Response(self._status, headers=self._headers, stream=self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._in_time(self._read.receive)
        except anyio.EndOfStream:
            if self._error is not None:
                raise self._failure() from None
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self._scope.cancel()
        self._read.close()

    def _failure(self) -> Exception:
        match self._error:
            case None:
                return httpx.ReadError("the application did not answer", request=self._request)
            case ConnectionError() as error:
                return httpx.ReadError(str(error), request=self._request)
            case error:
                return error

    async def _in_time(self, wait: Callable[[], Awaitable[T]]) -> T:
        try:
            with anyio.fail_after(self._timeout_s):
                return await wait()
        except TimeoutError as error:
            raise httpx.ReadTimeout("the application is silent", request=self._request) from error

    async def _receive(self) -> Message:
        if self._body is None:
            await anyio.sleep_forever()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], list(message.get("headers", ()))
            self._head.set()
        elif chunk := message.get("body"):
            await self._write.send(chunk)

    def _asgi_scope(self) -> dict[str, Any]:
        url = self._request.url
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self._request.method,
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.partition(b"?")[0],
            "root_path": "",
            "query_string": url.query,
            "headers": [(k.lower(), v) for k, v in self._request.headers.raw],
            "server": (url.host, url.port),
            "client": ("in-process", 0),
        }
