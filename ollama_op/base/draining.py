"""Reads what is left of a request's body before the answer to it is sent.

A client that is still sending, when the server answers and closes, sees a broken pipe instead of
the answer: the kernel resets a connection that is closed with bytes unread.
"""

from typing import Any, Final

import anyio

from ollama_op.base.asgi import App, Receive, Send

DRAIN_BYTES: Final = 16 << 20  # of a longer body nothing more is read
DRAIN_LIMIT_S: Final = 10.0


def drained(app: App) -> App:
    """Wrap an application so that each answer follows the whole body of its request."""

    async def serve_drained(scope: Any, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            await app(scope, receive, send)
            return
        body = _Body(receive, _length(headers))
        await app(scope, body.receive, body.before(send))

    return serve_drained


class _Body:
    def __init__(self, receive: Receive, length: int | None) -> None:
        self._receive, self._length = receive, length
        self._is_read = length == 0

    async def receive(self) -> Any:
        message = await self._receive()
        # A client that has left sends nothing more either.
        self._is_read = message["type"] != "http.request" or not message.get("more_body")
        return message

    def before(self, send: Send) -> Send:
        async def send_after(message: Any) -> None:
            if message["type"] == "http.response.start" and not self._is_read:
                await self._drain()
            await send(message)

        return send_after

    async def _drain(self) -> None:
        if self._length is not None and self._length > DRAIN_BYTES:
            return
        got = 0
        with anyio.move_on_after(DRAIN_LIMIT_S):
            while not self._is_read and got <= DRAIN_BYTES:
                got += len((await self.receive()).get("body", b""))


def _length(headers: dict[bytes, bytes]) -> int | None:
    text = headers.get(b"content-length", b"")
    return int(text) if text.isdigit() else None
