"""Calls to the Kubernetes API: logged in, traced, and with errors of our own.

Of kr8s' client only `call_api` is used, because what its objects and watches do on a bad day is not
what an operator needs. It is not asked to judge answers: on a 401 or 403 it would log in by itself.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from http import HTTPStatus
from typing import Any, Final, TypeVar

import httpx
import msgspec

from crd.v1alpha1 import UNREADABLE
from ollama_op.base import tracing
from ollama_op.base.errors import (
    Conflict,
    Expired,
    KubeError,
    KubeUnreachable,
    NotFound,
    NotPermitted,
    Rejected,
    Unauthenticated,
)
from ollama_op.base.tracing import Span, Value
from ollama_op.kube.connection import CREDENTIALS, Connection
from ollama_op.kube.credentials import Credentials
from ollama_op.kube.failures import as_kube_error

T = TypeVar("T")
Within = Callable[[], AbstractContextManager[object]]
"""What is entered for the call alone, and not while a login is waited for: a limit, for example."""

LONGEST_RETRY_AFTER_S: Final = 300.0
VERSION_LIMIT_S: Final = 10.0
# How the API server says that the test in a JSON patch does not hold; what breaks the schema is a
# 422 as well, in other words.
TEST_FAILED: Final = "the server rejected our request due to an error in our request"


async def request(
    api: Connection,
    method: str,
    *,
    warned: Callable[[list[str]], None] | None = None,
    within: Within = nullcontext,
    **call: Any,
) -> bytes:
    """Make one call and return the body of the answer; `warned` is told what the server warns of.

    Raises: KubeError.
    """
    with _traced(method, **call) as span:

        async def once(credentials: Credentials) -> bytes:
            with within():
                async with _exchange(api, method, credentials, **call) as answer:
                    try:
                        body = await answer.aread()
                    except (httpx.HTTPError, OSError) as error:
                        raise as_kube_error(error) from error
                    span.answered(answer.status_code, len(body))
                    if warned is not None:
                        warned(answer.headers.get_list("warning"))
                    return body

        return await _authenticated(api, once)


@asynccontextmanager
async def stream(api: Connection, method: str, **call: Any) -> AsyncGenerator[httpx.Response]:
    """Make one call and hand out its answer unread. What fails before that is a KubeError.

    Raises: KubeError.
    """
    async with AsyncExitStack() as stack:

        async def once(credentials: Credentials) -> httpx.Response:
            exchange = _exchange(api, method, credentials, **call)
            return await stack.enter_async_context(exchange)

        yield await _authenticated(api, once)


async def _authenticated(api: Connection, call: Callable[[Credentials], Awaitable[T]]) -> T:
    """Call with credentials, and if the API server does not take them, once more with new ones."""
    credentials = await api.login.credentials()
    try:
        return await call(credentials)
    except Unauthenticated:
        if not api.login.refused(credentials):
            raise
    credentials = await api.login.credentials()
    try:
        return await call(credentials)
    except Unauthenticated:
        api.login.refused(credentials)
        raise


@asynccontextmanager
async def _exchange(
    api: Connection, method: str, credentials: Credentials, **call: Any
) -> AsyncGenerator[httpx.Response]:
    async with AsyncExitStack() as stack:
        try:
            answer = await stack.enter_async_context(
                api.call_api(
                    method,
                    stream=True,
                    raise_for_status=False,
                    extensions={CREDENTIALS: credentials},
                    **call,
                )
            )
            if not answer.is_success:
                await answer.aread()
        # Whatever kr8s and the layers below raise is an outage; none of it ends a task.
        except Exception as error:
            raise as_kube_error(error, api.login.proxy) from error
        if answer.status_code != HTTPStatus.UNAUTHORIZED:
            api.login.accepted(credentials)
        if not answer.is_success:
            raise _refusal(answer)
        yield answer


async def version_of(api: Connection) -> str:
    """Return the version of Kubernetes; "?" where it is not told.

    Raises: KubeError.
    """
    try:
        answer = await request(api, "GET", version="", base="/version", timeout=VERSION_LIMIT_S)
        return msgspec.json.decode(answer, type=_Version).git_version
    except UNREADABLE:
        raise KubeUnreachable(f"{api.login.server} does not answer as Kubernetes does") from None
    except Unauthenticated:
        raise
    except NotPermitted:  # it knows who called, and that was the question
        return "?"


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


# --- what goes wrong


def _refusal(answer: httpx.Response) -> KubeError:
    retry_after = answer.headers.get("retry-after", "")
    wait_s = float(retry_after) if retry_after.isdecimal() else 0.0
    wait_s = min(wait_s, LONGEST_RETRY_AFTER_S)
    code = answer.status_code
    return status_error(code, _words(answer), retry_after_s=wait_s, body=answer.content)


def _words(answer: httpx.Response) -> str:
    """Return what the server says about its refusal, or at least what its code means."""
    if answer.has_redirect_location:
        return f"redirected to {answer.headers['location']}, so it is not the Kubernetes API"
    try:
        message = msgspec.json.decode(answer.content, type=_Status).message.strip()
    except UNREADABLE:
        message = ""
    return message or answer.reason_phrase or "no reason given"


class _Status(msgspec.Struct):
    message: str = ""


def status_error(
    code: int, message: str, *, retry_after_s: float = 0, body: bytes = b""
) -> KubeError:
    """Turn an HTTP status, or the code of a watch's ERROR event, into its error."""
    kinds: Mapping[int, type[KubeError]] = {
        401: Unauthenticated,
        403: NotPermitted,
        404: NotFound,
        409: Conflict,
        410: Expired,
        429: KubeUnreachable,
    }
    if TEST_FAILED in message:
        return Conflict(f"HTTP {code}: {message}", body=body)
    kind = kinds.get(code, Rejected if 400 <= code < 500 else KubeUnreachable)  # noqa: PLR2004
    return kind(f"HTTP {code}: {message}", retry_after_s=retry_after_s, body=body)
