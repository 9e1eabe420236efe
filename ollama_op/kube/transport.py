"""How calls of the Kubernetes API are sent: each with the credentials that it carries."""

from typing import Final

import httpx

from ollama_op.base.pool import Pool
from ollama_op.kube.credentials import Credentials

CREDENTIALS: Final = "ollama_op.credentials"  # the extension of a request that holds them


class Authenticated(httpx.AsyncBaseTransport):
    """Sends requests with the credentials that each carries.

    A certificate belongs to a connection: with another one come new connections, and the old ones
    are closed once nothing is under way on them.
    """

    def __init__(self, proxy: str | None) -> None:
        self._proxy = proxy
        self._pool: Pool | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        sent, before = _signed(request), self._pool
        tls = request.extensions[CREDENTIALS].tls
        if before is not None and before.tls is tls:
            return await before.send(sent)
        self._pool = Pool(tls, self._proxy)
        try:
            return await self._pool.send(sent)
        finally:
            if before is not None:
                await before.retire()

    async def aclose(self) -> None:
        """Close what is open."""
        if self._pool is not None:
            await self._pool.retire()


def _signed(request: httpx.Request) -> httpx.Request:
    """Return a copy with credentials: whoever shows a request, or an error with one, shows none."""
    extensions = dict(request.extensions)
    credentials: Credentials = extensions.pop(CREDENTIALS)
    if credentials.identity.server_name:
        extensions["sni_hostname"] = credentials.identity.server_name
    return httpx.Request(
        request.method,
        request.url,
        headers=[*request.headers.raw, *credentials.headers],
        stream=request.stream,
        extensions=extensions,
    )
