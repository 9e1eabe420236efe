"""Our writes to the Kubernetes API, in our own types and errors."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Generic

import anyio
import msgspec
import structlog

from crd.resource import Resource, Stored, T
from crd.v1alpha1 import UNREADABLE
from ollama_op.base.errors import KubeUnreachable, LoginFailed
from ollama_op.base.fence import Fence, no_fence
from ollama_op.base.observer import NOBODY, Observer
from ollama_op.kube.client import KubeClient
from ollama_op.kube.failures import as_kube_error
from ollama_op.kube.lost import Lost
from ollama_op.kube.refusals import Refusals

log = structlog.get_logger(__name__)

WRITES_AT_ONCE = 4  # more cost CPU and bring nothing: httpx looks through its connections
WRITE_LIMIT_S = 4.0  # a write once begun is not cancelled, so it has to end soon by itself
NO_ANNOTATIONS: Mapping[str, str] = {}

MERGE_PATCH = {"content-type": "application/merge-patch+json"}
JSON_PATCH = {"content-type": "application/json-patch+json"}


class StatusWriter(Generic[T]):
    """Writes objects of one kind, if `fence` lets it: each call may also raise NotLeading."""

    def __init__(
        self,
        api: KubeClient,
        resource: Resource[T],
        *,
        observer: Observer = NOBODY,
        fence: Fence = no_fence,
    ) -> None:
        self._api, self._resource, self._observer, self._fence = api, resource, observer, fence
        self._slots = anyio.CapacityLimiter(WRITES_AT_ONCE)
        self._is_down = False  # as far as the last write knows
        self._lost = Lost()
        self.refusals = Refusals()

    async def patch_status(self, model: T, status: msgspec.Struct) -> T:
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
        model: T,
        finalizers: tuple[str, ...],
        *,
        annotations: Mapping[str, str] = NO_ANNOTATIONS,
        dry_run: bool = False,
    ) -> T:
        """Replace the object's finalizers, provided it has not changed since it was read.

        With `dry_run`, only ask whether that would be taken, and change nothing.

        Raises: Conflict if it has; other KubeErrors.
        """
        meta = {**_same(model), "finalizers": finalizers}
        body = {"metadata": meta | ({"annotations": annotations} if annotations else {})}
        return await self._patch(model, body, MERGE_PATCH, dry_run=dry_run)

    async def annotate(self, model: T, name: str, value: str) -> T:
        """Set one annotation, provided the object has not changed since it was read.

        Raises: Conflict if it has; other KubeErrors.
        """
        body = {"metadata": {**_same(model), "annotations": {name: value}}}
        return await self._patch(model, body, MERGE_PATCH)

    def is_busy(self) -> bool:
        """Return True if something is being written."""
        return self._slots.borrowed_tokens > 0

    async def _patch(
        self,
        model: T,
        body: Any,
        headers: dict[str, str],
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> T:
        async with self._slots:
            with self._told_once(), self.refusals.noted(model, subresource):
                answer = await self._api.request(
                    "PATCH",
                    version=self._resource.api_version,
                    url=f"{self._resource.plural}/{model.metadata.name}{subresource}",
                    namespace=model.metadata.namespace,
                    params={"dryRun": "All"} if dry_run else {},
                    content=msgspec.json.encode(body),
                    headers=headers,
                    timeout=WRITE_LIMIT_S,
                    warned=self._lost.mind,
                    within=self._to_its_end,
                )
        try:
            return self._resource.decode(answer)
        except UNREADABLE as error:
            raise KubeUnreachable(
                f"the Kubernetes API's answer cannot be read: {error!r}"
            ) from error

    @contextmanager
    def _told_once(self) -> Generator[None]:
        """Log an outage once, and its end, however many models have something to write."""
        try:
            yield
        except LoginFailed:  # is told by the login
            raise
        except KubeUnreachable as error:
            if not self._is_down:
                log.warning("kubernetes takes no writes, will retry", problem=str(error))
            self._is_down = True
            raise
        if self._is_down:
            log.info("kubernetes takes writes again")
        self._is_down = False

    @contextmanager
    def _to_its_end(self) -> Generator[None]:
        """Shield a write from cancellation; one deadline covers the whole.

        Cancelled halfway, nobody would know whether it was done, and a later write could
        overtake it.
        """
        self._fence(WRITE_LIMIT_S)
        try:
            with anyio.fail_after(WRITE_LIMIT_S, shield=True):
                yield
        except TimeoutError as error:
            raise as_kube_error(error) from error


def _same(model: Stored) -> dict[str, str]:
    return {"uid": model.metadata.uid, "resourceVersion": model.metadata.resource_version}
