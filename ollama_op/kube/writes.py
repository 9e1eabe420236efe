"""Our calls to the Kubernetes API: a few writes, in our own types and errors.

kr8s brings credentials and connections; of its client only `call_api` is used, because what its
objects and watches do on a bad day is not what an operator needs.
"""

import ssl
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from typing import Any

import anyio
import httpx
import kr8s
import msgspec
import structlog
from kr8s.asyncio import Api

from crd.v1alpha1 import (
    API_VERSION,
    PLURAL,
    UNREADABLE,
    OllamaModel,
    OllamaModelStatus,
    decode,
)
from ollama_op.errors import (
    Conflict,
    Expired,
    KubeError,
    KubeUnreachable,
    NotFound,
    NotPermitted,
    Rejected,
)
from ollama_op.leader.fence import Fence, no_fence
from ollama_op.lost import Lost
from ollama_op.telemetry import tracing
from ollama_op.telemetry.observer import NOBODY, Observer
from ollama_op.telemetry.tracing import Span, Value

log = structlog.get_logger(__name__)

WRITES_AT_ONCE = 4  # more cost CPU and bring nothing: httpx looks through its connections
WRITE_LIMIT_S = 4.0  # a write once begun is not cancelled, so it has to end soon by itself
LONGEST_RETRY_AFTER_S = 300.0
NO_ANNOTATIONS: Mapping[str, str] = {}

MERGE_PATCH = {"content-type": "application/merge-patch+json"}
JSON_PATCH = {"content-type": "application/json-patch+json"}
# How the API server says that the test in a JSON patch does not hold; what breaks the schema is a
# 422 as well, in other words.
TEST_FAILED = "the server rejected our request due to an error in our request"


async def request(
    api: Api, method: str, *, warned: Callable[[list[str]], None] | None = None, **call: Any
) -> bytes:
    """Make one call and return the body of the answer; `warned` is told what the server warns of.

    Raises: KubeError.
    """
    with _traced(method, **call) as span:
        async with stream(api, method, **call) as answer:
            try:
                body = await answer.aread()
            except (httpx.HTTPError, OSError) as error:
                raise as_kube_error(error) from error
            span.answered(answer.status_code, len(body))
            if warned is not None:
                warned(answer.headers.get_list("warning"))
            return body


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


@asynccontextmanager
async def stream(api: Api, method: str, **call: Any) -> AsyncGenerator[httpx.Response]:
    """Make one call and hand out its answer unread. What fails before that is a KubeError.

    Raises: KubeError.
    """
    async with AsyncExitStack() as stack:
        try:
            answer = await stack.enter_async_context(api.call_api(method, stream=True, **call))
        # kr8s raises what it meets: KeyError or TypeError on an error's body, whatever a login
        # with changed credentials brings, RuntimeError when another task's login closed its client.
        except Exception as error:
            raise as_kube_error(error) from error
        yield answer


def as_kube_error(error: Exception) -> KubeError:
    """Turn whatever kr8s, httpx or the socket raises into the error that says what it means."""
    answer = answer_behind(error)
    if answer is None:
        return KubeUnreachable(_describe(error))
    retry_after = answer.headers.get("retry-after", "")
    wait_s = float(retry_after) if retry_after.isdecimal() else 0.0
    return status_error(
        answer.status_code, str(error), retry_after_s=min(wait_s, LONGEST_RETRY_AFTER_S)
    )


def answer_behind(error: BaseException | None) -> httpx.Response | None:
    """Find the answer behind an error: what kr8s stumbles over in a body hides its status."""
    while error is not None:
        if isinstance(answer := getattr(error, "response", None), httpx.Response):
            return answer
        error = error.__context__
    return None


def status_error(code: int, message: str, *, retry_after_s: float = 0) -> KubeError:
    """Turn an HTTP status, or the code of a watch's ERROR event, into its error."""
    kinds: Mapping[int, type[KubeError]] = {
        401: NotPermitted,
        403: NotPermitted,
        404: NotFound,
        409: Conflict,
        410: Expired,
        429: KubeUnreachable,
    }
    if TEST_FAILED in message:
        return Conflict(f"HTTP {code}: {message}")
    kind = kinds.get(code, Rejected if 400 <= code < 500 else KubeUnreachable)  # noqa: PLR2004
    return kind(f"HTTP {code}: {message}", retry_after_s=retry_after_s)


def _describe(error: Exception) -> str:
    match error:
        case httpx.TimeoutException() | kr8s.APITimeoutError() | TimeoutError():
            return f"the Kubernetes API{_at(error)} does not answer"
        case ssl.SSLError():
            return f"the Kubernetes API's certificate is not accepted: {error}"
        case httpx.ConnectError():
            return f"no connection to the Kubernetes API{_at(error)}: {error}"
        case httpx.HTTPError() | OSError() | RuntimeError():
            return f"the connection to the Kubernetes API broke: {error}"
        case _:
            return f"the Kubernetes API's answer cannot be read: {error!r}"


def _at(error: Exception | None) -> str:
    """Say which server, where the error knows."""
    try:
        url = error.request.url if isinstance(error, httpx.RequestError) else None
    except RuntimeError:  # httpx has no request to tell of
        url = None
    return f" at {url.scheme}://{url.netloc.decode()}" if url else ""


class Kube:
    """Writes OllamaModels, as far as `fence` lets it: each call may also raise NotLeading."""

    def __init__(self, api: Api, *, observer: Observer = NOBODY, fence: Fence = no_fence) -> None:
        self._api, self._observer, self._fence = api, observer, fence
        self._slots = anyio.CapacityLimiter(WRITES_AT_ONCE)
        self._is_down = False  # as far as the last write knows
        self._lost = Lost()

    async def patch_status(self, model: OllamaModel, status: OllamaModelStatus) -> OllamaModel:
        """Make `status` the object's status; return the object as it is then.

        Raises: Conflict if the object was replaced by another of its name; other KubeErrors.
        """
        # A JSON patch, because it replaces the status as a whole, and because the test of the uid
        # is one: in a merge patch of the status the API server does not look at it.
        steps = [
            {"op": "test", "path": "/metadata/uid", "value": model.metadata.uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        with self._observer.writing_status():
            return await self._patch(model, steps, JSON_PATCH, subresource="/status")

    async def set_finalizers(
        self,
        model: OllamaModel,
        finalizers: tuple[str, ...],
        *,
        annotations: Mapping[str, str] = NO_ANNOTATIONS,
    ) -> OllamaModel:
        """Replace the object's finalizers, provided it has not changed since it was read.

        Raises: Conflict if it has; other KubeErrors.
        """
        meta = {**_same(model), "finalizers": finalizers}
        body = {"metadata": meta | ({"annotations": annotations} if annotations else {})}
        return await self._patch(model, body, MERGE_PATCH)

    async def annotate(self, model: OllamaModel, name: str, value: str) -> OllamaModel:
        """Set one annotation, provided the object has not changed since it was read.

        Raises: Conflict if it has; other KubeErrors.
        """
        body = {"metadata": {**_same(model), "annotations": {name: value}}}
        return await self._patch(model, body, MERGE_PATCH)

    def is_busy(self) -> bool:
        """Tell whether something is being written."""
        return self._slots.borrowed_tokens > 0

    async def _patch(
        self, model: OllamaModel, body: Any, headers: dict[str, str], *, subresource: str = ""
    ) -> OllamaModel:
        # Cancelled halfway, nobody would know whether it was done, and a later write could
        # overtake it.
        async with self._slots:
            self._fence(WRITE_LIMIT_S)
            with self._told_once(), _to_its_end():
                answer = await request(
                    self._api,
                    "PATCH",
                    version=API_VERSION,
                    url=f"{PLURAL}/{model.metadata.name}{subresource}",
                    namespace=model.metadata.namespace,
                    content=msgspec.json.encode(body),
                    headers=headers,
                    timeout=WRITE_LIMIT_S,
                    warned=self._lost.mind,
                )
        try:
            return decode(answer)
        except UNREADABLE as error:
            raise KubeUnreachable(
                f"the Kubernetes API's answer cannot be read: {error!r}"
            ) from error

    @contextmanager
    def _told_once(self) -> Generator[None]:
        """Log an outage once, and its end, however many models have something to write."""
        try:
            yield
        except KubeUnreachable as error:
            if not self._is_down:
                log.warning("kubernetes takes no writes, will retry", problem=str(error))
            self._is_down = True
            raise
        if self._is_down:
            log.info("kubernetes takes writes again")
        self._is_down = False


@contextmanager
def _to_its_end() -> Generator[None]:
    """Be cancelled by nobody; time is up for the whole, and not only for each part of it."""
    try:
        with anyio.fail_after(WRITE_LIMIT_S, shield=True):
            yield
    except TimeoutError as error:
        raise as_kube_error(error) from error


def _same(model: OllamaModel) -> dict[str, str]:
    return {"uid": model.metadata.uid, "resourceVersion": model.metadata.resource_version}
