"""The client of Kubernetes: logged in, traced, and with errors of our own.

This is the one seam to kr8s, and nobody else imports it. Of kr8s only the API object and its
`call_api` are used, because what its objects and watches do on a bad day is not what an operator
needs. By itself it would log in on each 401 and 403 of each client, close what other tasks use
meanwhile, and leave certificates and keys in the temp folder. So it is not asked to judge answers:
all clients share one `Login`, and the credentials travel with each request, so that a new login
disturbs nothing that is under way.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeVar

import httpx
import msgspec
from kr8s import APITimeoutError
from kr8s.asyncio import Api

from crd.v1alpha1 import UNREADABLE
from ollama_op.base import tracing
from ollama_op.base.errors import KubeUnreachable, NotPermitted, Unauthenticated
from ollama_op.base.tracing import Span, Value
from ollama_op.kube.credentials import Credentials
from ollama_op.kube.failures import answer_error, as_kube_error
from ollama_op.kube.transport import CREDENTIALS, Authenticated

T = TypeVar("T")
Within = Callable[[], AbstractContextManager[object]]
"""What is entered for the call alone, and not while a login is waited for: a limit, for example."""

CONNECT_LIMIT_S: Final = 10.0  # of a stream, whose answer has a limit of its own
VERSION_LIMIT_S: Final = 10.0


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
        """Note a 401; return True if new credentials may help."""

    def accepted(self, used: Credentials) -> None:
        """Note any other answer."""


class KubeClient:
    """A client of its own for each use: trouble with one leaves the others alone.

    `transport` replaces the network.
    """

    def __init__(
        self, login: LoggedIn, use: str, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.login = login
        self._api = _Api(login, use, transport)

    async def request(
        self,
        method: str,
        *,
        warned: Callable[[list[str]], None] | None = None,
        within: Within = nullcontext,
        **call: Any,
    ) -> bytes:
        """Make one call and return the body of the answer; `warned` gets the server's warnings.

        Raises: KubeError.
        """
        with _traced(method, **call) as span:

            async def once(credentials: Credentials) -> bytes:
                with within():
                    async with self._exchange(method, credentials, **call) as answer:
                        with self._explained():
                            body = await answer.aread()
                        span.answered(answer.status_code, len(body))
                        if warned is not None:
                            warned(answer.headers.get_list("warning"))
                        return body

            return await self._authenticated(once)

    @asynccontextmanager
    async def stream(
        self, method: str, *, silence_s: float | None = None, **call: Any
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Make one call and yield the parts of its body as they come.

        Raises: KubeError, also while the body is read: then one that `is_silence` if nothing came
        for `silence_s`.
        """
        call["timeout"] = httpx.Timeout(CONNECT_LIMIT_S, read=silence_s)
        async with AsyncExitStack() as stack:

            async def once(credentials: Credentials) -> httpx.Response:
                exchange = self._exchange(method, credentials, **call)
                return await stack.enter_async_context(exchange)

            answer = await self._authenticated(once)
            yield await stack.enter_async_context(aclosing(self._parts(answer)))

    async def version(self) -> str:
        """Return the version of Kubernetes; "?" where it is not told.

        Raises: KubeError.
        """
        try:
            answer = await self.request("GET", version="", base="/version", timeout=VERSION_LIMIT_S)
            return msgspec.json.decode(answer, type=_Version).git_version
        except UNREADABLE:
            raise KubeUnreachable(
                f"{self.login.server} does not answer as Kubernetes does"
            ) from None
        except Unauthenticated:
            raise
        except NotPermitted:  # it knows who called, and that was the question
            return "?"

    async def close(self) -> None:
        """Close what is open."""
        await self._api.close()

    async def _authenticated(self, call: Callable[[Credentials], Awaitable[T]]) -> T:
        """Call with credentials, and if the server does not take them, once more with new ones."""
        login = self.login
        credentials = await login.credentials()
        try:
            return await call(credentials)
        except Unauthenticated:
            if not login.refused(credentials):
                raise
        credentials = await login.credentials()
        try:
            return await call(credentials)
        except Unauthenticated:
            login.refused(credentials)
            raise

    @asynccontextmanager
    async def _exchange(
        self, method: str, credentials: Credentials, **call: Any
    ) -> AsyncGenerator[httpx.Response]:
        call |= {"raise_for_status": False, "extensions": {CREDENTIALS: credentials}}
        async with AsyncExitStack() as stack:
            with self._explained():
                answer = await stack.enter_async_context(
                    self._api.call_api(method, stream=True, **call)
                )
                if not answer.is_success:
                    await answer.aread()
            if answer.status_code != HTTPStatus.UNAUTHORIZED:
                self.login.accepted(credentials)
            if not answer.is_success:
                raise answer_error(answer)
            yield answer

    async def _parts(self, answer: httpx.Response) -> AsyncGenerator[bytes]:
        with self._explained():
            async for part in answer.aiter_bytes():
                yield part

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Turn whatever kr8s and the layers below raise into an outage: none of it ends a task."""
        try:
            yield
        except APITimeoutError as error:
            raise as_kube_error(error.__cause__ or error, self.login.proxy) from error
        except Exception as error:
            raise as_kube_error(error, self.login.proxy) from error


class _Api(Api):
    """kr8s' API object, which never logs in."""

    def __init__(
        self, login: LoggedIn, use: str, transport: httpx.AsyncBaseTransport | None
    ) -> None:
        # kr8s shares a client among equal arguments; the namespace makes these differ, and every
        # call names its own.
        super().__init__(url=login.server, kubeconfig=False, namespace=use, bypass_factory=True)
        self.auth.server = login.server
        self._login, self._transport = login, transport

    async def close(self) -> None:
        if self._session is not None:
            await self._session.aclose()

    async def _create_session(self) -> None:
        """Make the HTTP client, at the first call."""
        self._session = httpx.AsyncClient(
            base_url=self._login.server,
            headers={"User-Agent": self.__version__, "content-type": "application/json"},
            transport=self._transport or Authenticated(self._login.proxy),
            timeout=None,  # noqa: S113 - each call brings its own
            follow_redirects=False,  # they lead to login pages, and credentials must not follow
        )


class _Version(msgspec.Struct, rename="camel"):
    git_version: str = "?"


def _traced(
    method: str, *, url: str = "", namespace: str | None = None, version: str = "v1", **_: Any
) -> AbstractContextManager[Span]:
    plural, *rest = url.split("/")  # [name, [subresource]]
    resource = "/".join([plural, *rest[1:]])
    about: dict[str, Value] = {"http.request.method": method, "ollama_op.resource": resource}
    about["ollama_op.api_version"] = version
    if namespace:
        about["k8s.namespace.name"] = namespace
    if rest:
        about["ollama_op.object"] = rest[0]
    return tracing.span(f"{method} {resource}", about, kind="client")
