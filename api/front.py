"""The front door: every request passes it, and the two that come most often need go no further.

Here it is found out who asks, what is counted is counted, and other origins are let in or not.
Then Litestar routes the request. That alone takes 60 µs, twice as long as all the rest with the
server; so the list of all models and a single one, asked for without a query, are answered here in
6 µs, from the same prepared bytes and after the same checks that the routes use.
"""

from collections.abc import Callable
from ipaddress import ip_address
from time import perf_counter
from typing import Any, Final, Protocol

import structlog

from api.access import ANYBODY, NO_CALLER, Caller, Failures, Keys
from api.cors import Cors
from api.problems import Kind, Problem
from api.telling import as_problem
from api.tokens import Tokens
from ollama_op.base.asgi import PREFIX, Answer, App, Message, Receive, Scope, Send
from ollama_op.base.errors import KubeError

log = structlog.get_logger(__name__)

API: Final = "/api/"
UNMATCHED: Final = "unmatched"

Hot = Callable[[str, bytes], tuple[str, Answer] | None]
"""From path and If-None-Match to route and answer, for those that need no more than that."""


class ObserveRequest(Protocol):
    """Is notified of each request: route template, method, status, seconds."""

    def __call__(self, route: str, method: str, code: int, duration_s: float, /) -> None:
        """Record one request."""


class Authenticator:
    """Knows whom to let in. Without keys and tokens that is everybody."""

    def __init__(
        self, keys: Keys, failures: Failures, tokens: Tokens | None = None, *, locked: bool
    ) -> None:
        self._keys, self._failures, self._tokens, self.is_locked = keys, failures, tokens, locked

    async def admit(self, headers: dict[bytes, bytes], address: str) -> Caller:
        """Return who sent these headers from this address.

        Raises: Problem 401, 429; KubeError where Kubernetes has to be asked.
        """
        if not self.is_locked:
            return ANYBODY
        key, bearer = headers.get(b"x-api-key"), headers.get(b"authorization")
        if key is None and (bearer is None or self._tokens is None):
            bare = "No key was sent." if bearer is None else "No key was sent as X-API-Key."
            raise self._unauthorized(bare)
        if wait_s := self._failures.wait_s(address):
            raise Problem(
                Kind.TOO_MANY_FAILURES,
                "Too many wrong keys came from this address.",
                headers={"retry-after": str(int(wait_s) + 1)},
            )
        caller = await self._find(key, bearer)
        if caller is None:
            self._failures.note(address, key or bearer or b"")
            raise self._unauthorized("That key is not valid.")
        return caller

    async def _find(self, key: bytes | None, bearer: bytes | None) -> Caller | None:
        if key is not None:
            return self._keys.find(key)
        scheme, _, token = (bearer or b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or self._tokens is None:
            return None
        return await self._tokens.find(token.strip())

    def _unauthorized(self, detail: str) -> Problem:
        schemes = 'ApiKey realm="ollama-op"' + (", Bearer" if self._tokens else "")
        return Problem(Kind.UNAUTHORIZED, detail, headers={"www-authenticate": schemes})


class Front:
    """The whole API, as an ASGI application."""

    def __init__(
        self,
        app: App,
        door: Authenticator,
        hot: Hot,
        *,
        observe: ObserveRequest,
        cors: Cors | None = None,
        local: bool = False,
    ) -> None:
        self._app, self._door, self._hot, self._observe, self._cors = app, door, hot, observe, cors
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        began = perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if self._cors is not None:
            if (answer := self._cors.preflight(scope["method"], headers)) is not None:
                await answer(scope, receive, send)
                return
            send = self._cors.wrapped(headers, send)
        route, code = await self._serve(scope, headers, receive, send)
        self._observe(route, scope["method"], code, perf_counter() - began)

    async def _serve(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> tuple[str, int]:
        path, method, route = scope["path"], scope["method"], UNMATCHED
        try:
            _require_plain(path)
            if self._local:
                _require_local(headers.get(b"host", b""))
            caller: Caller = NO_CALLER
            if path.startswith(API):
                client = scope.get("client")
                caller = await self._door.admit(headers, client[0] if client else "")
                self._require_own_page(method, headers)
                if method == "GET" and not scope["query_string"] and caller.sees_all:
                    found = self._hot(path, headers.get(b"if-none-match", b""))
                    if found is not None:
                        route, answer = found
                        await answer(scope, receive, send)
                        return route, answer.status
            return await self._route({**scope, "user": caller}, receive, send)
        except (Problem, KubeError) as error:
            problem = as_problem(error) if isinstance(error, KubeError) else error
            answer = problem.answer(path, scope.get(PREFIX, ""))
            await answer(scope, receive, send)
            return route, answer.status

    def _require_own_page(self, method: str, headers: dict[bytes, bytes]) -> None:
        """Refuse what a page of another origin lets a browser send, where no key stops it.

        Raises: Problem 403.
        """
        origin = headers.get(b"origin")
        if self._door.is_locked or origin is None or method in ("GET", "HEAD"):
            return
        if origin.partition(b"://")[2] == headers.get(b"host"):
            return
        if self._cors is None or not self._cors.allows(origin):
            raise Problem(Kind.FORBIDDEN, "Pages of other origins may not change anything here.")

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> tuple[str, int]:
        code = 0

        async def noting(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        # A HEAD is a GET whose body the server leaves out. A stream has no end to wait for.
        if scope["method"] == "HEAD" and not scope["path"].rstrip("/").endswith("/events"):
            scope["method"] = "GET"
        await self._app(scope, receive, noting)
        template: Any = scope.get("path_template")
        return template or UNMATCHED, code


def _require_plain(path: str) -> None:
    """Refuse what Litestar would route as if the slashes were not there: past the door.

    Raises: Problem 404.
    """
    if not path.startswith("/") or "//" in path:
        raise Problem(Kind.PATH_NOT_FOUND, Kind.PATH_NOT_FOUND.help)


def _require_local(host: bytes) -> None:
    """Refuse a name of which somebody else's DNS says that it is this machine.

    A page that a browser got from there would count as ours, and no key stops it.

    Raises: Problem 403.
    """
    name = host.decode("latin-1").rpartition("]")[0].removeprefix("[")  # of an IPv6 address
    name = name or host.decode("latin-1").partition(":")[0].lower().rstrip(".")
    if name in ("", "localhost") or name.endswith(".localhost"):
        return
    try:
        ip_address(name)
    except ValueError:
        raise Problem(
            Kind.FORBIDDEN,
            "Without a key this server is known as localhost or by an address only."
            " Give it a key, or start it with --api-server-insecure.",
        ) from None
