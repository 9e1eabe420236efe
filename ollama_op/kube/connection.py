"""kr8s' client of a cluster, logged in by us.

kr8s would log in on each 401 and 403 of each connection, close what other tasks use meanwhile, and
leave certificates and keys in the temp folder. Here all connections share one `Login`; the
credentials travel with each request, so a new login disturbs nothing that is under way.
"""

from typing import Final, Protocol

import httpx
from kr8s.asyncio import Api

from ollama_op.base.pool import Pool
from ollama_op.kube.credentials import Credentials

CREDENTIALS: Final = "ollama_op.credentials"  # the extension of a request that holds them


class LoggedIn(Protocol):
    """Provides credentials: `Login`, or what stands in for it."""

    @property
    def server(self) -> str:
        """The address of the API server."""

    @property
    def proxy(self) -> str | None:
        """The proxy that it is called through."""

    def problem(self) -> str:
        """Return why there are no credentials that work; "" if there are."""

    async def credentials(self) -> Credentials:
        """Return credentials. Raises: LoginFailed."""

    def refused(self, used: Credentials) -> bool:
        """Record a 401; return True if new credentials may help."""

    def accepted(self, used: Credentials) -> None:
        """Record any other answer."""


class Connection(Api):
    """A client of its own: trouble with one leaves the others alone."""

    def __init__(self, login: LoggedIn, use: str) -> None:
        # kr8s shares a client among equal arguments; the namespace makes these differ, and every
        # call names its own.
        super().__init__(url=login.server, kubeconfig=False, namespace=use, bypass_factory=True)
        self.login = login
        self.auth.server = login.server  # kr8s never logs in

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.aclose()

    async def _create_session(self) -> None:
        """Make the HTTP client, at the first call."""
        self._session = httpx.AsyncClient(
            base_url=self.login.server,
            headers={"User-Agent": self.__version__, "content-type": "application/json"},
            transport=Authenticated(self.login.proxy),
            timeout=None,  # noqa: S113 - each call brings its own
            follow_redirects=False,  # they lead to login pages, and credentials must not follow
        )


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
