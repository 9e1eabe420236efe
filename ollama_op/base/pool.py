"""HTTP connections that can be replaced by others while some are in use."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx


class Pool:
    """Connections made with one TLS context. Retired, it closes when its last answer has ended."""

    def __init__(self, tls: ssl.SSLContext, proxy: str | None, **how: Any) -> None:
        self.tls = tls
        self._transport = httpx.AsyncHTTPTransport(verify=tls, proxy=proxy, trust_env=False, **how)
        self._users, self._is_retired = 0, False

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        self._users += 1
        try:
            answer = await self._transport.handle_async_request(request)
        except BaseException:
            await self._leave()
            raise
        answer.stream = _Watched(answer.stream, self._leave)
        return answer

    async def retire(self) -> None:
        """Close the connections, as soon as none is in use."""
        self._is_retired = True
        await self._close_if_unused()

    async def _leave(self) -> None:
        self._users -= 1
        await self._close_if_unused()

    async def _close_if_unused(self) -> None:
        if self._is_retired and not self._users:
            await self._transport.aclose()


class _Watched(httpx.AsyncByteStream):
    """The body of an answer, which says when it is done with."""

    def __init__(self, stream: Any, left: Callable[[], Awaitable[None]]) -> None:
        self._stream, self._left = stream, left
        self._is_open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        try:
            await self._stream.aclose()
        finally:
            await self._left()
