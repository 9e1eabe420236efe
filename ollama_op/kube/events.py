"""Kubernetes events: what `kubectl describe` tells of an object's past.

They are sent beside the work and behind the writes that matter, and one that cannot be sent is
dropped: the conditions tell the truth all the same. What is said again of the same object is
counted, as kubectl shows it (`x7 over 10m`), and not said anew.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

import anyio
import msgspec
import structlog

from crd.occasions import Occasion
from crd.resource import Resource, Stored
from ollama_op.base import tracing
from ollama_op.base.errors import KubeError, NotFound, NotLeading
from ollama_op.base.fence import Fence, no_fence
from ollama_op.base.logs import about
from ollama_op.kube.client import KubeClient
from ollama_op.kube.writes import MERGE_PATCH, WRITE_LIMIT_S

log = structlog.get_logger(__name__)

EVENTS_WAITING = 1000  # beyond that, events are dropped
EVENTS_REMEMBERED = 1000  # events that can be counted on, the newest ones
PATIENCE_S, EVENT_PAUSE_S = 2.0, 0.1  # how long, and how, an event gives way to writes
COMPONENT = "ollama-op"


class _Moment(NamedTuple):
    """What makes two events one that happened twice."""

    uid: str
    kind: str
    reason: str
    message: str


class EventRecorder:
    """Sends events. `run()` must be running for any of them to leave.

    The connection is its own: what is sent beside must not hold up what matters.
    """

    def __init__(
        self,
        api: KubeClient,
        resource: Resource[Any],
        *,
        is_busy: Callable[[], bool],
        fence: Fence = no_fence,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api, self._resource = api, resource
        self._is_busy, self._fence, self._now = is_busy, fence, now
        self._in, self._out = anyio.create_memory_object_stream[tuple[Stored, _Moment, str | None]](
            EVENTS_WAITING
        )
        self._sent: dict[_Moment, tuple[str, int]] = {}  # name of the event, and its count

    def tell(self, model: Stored, occasion: Occasion, message: str) -> None:
        """Record a moment in the object's life. Never waits."""
        moment = _Moment(model.metadata.uid, occasion.kind, occasion.reason, message)
        try:
            self._in.send_nowait((model, moment, tracing.current().traceparent))
        except (anyio.WouldBlock, anyio.ClosedResourceError):
            log.debug("event dropped", reason=occasion.reason, **about(model))

    async def run(self) -> None:
        """Send events for ever, behind what else is written."""
        with self._in, self._out:
            async for model, moment, traceparent in self._out:
                with anyio.move_on_after(PATIENCE_S):
                    while self._is_busy():  # noqa: ASYNC110 - there is no event for it
                        await anyio.sleep(EVENT_PAUSE_S)
                try:
                    with tracing.span(
                        "event", {"ollama_op.reason": moment.reason}, parent=traceparent
                    ):
                        await self._send(model, moment)
                except (KubeError, NotLeading) as error:
                    log.debug(
                        "event not sent",
                        reason=moment.reason,
                        problem=str(error),
                        **about(model),
                    )

    async def _send(self, model: Stored, moment: _Moment) -> None:
        name, count = self._sent.get(moment, ("", 0))
        if count:
            # Before it is sent: one that does not arrive is told with the next one.
            self._remember(moment, name, count + 1)
            if await self._count(model, name, count + 1):
                return
        # There is none yet, or the API server has forgotten it, as it does after an hour.
        name = f"{model.metadata.name[:200]}.{uuid4().hex[:16]}"
        await self._create(model, moment, name)
        self._remember(moment, name, 1)

    def _remember(self, moment: _Moment, name: str, count: int) -> None:
        self._sent.pop(moment, None)  # the newest come last
        self._sent[moment] = (name, count)
        if len(self._sent) > EVENTS_REMEMBERED:
            del self._sent[next(iter(self._sent))]

    async def _count(self, model: Stored, name: str, count: int) -> bool:
        try:
            await self._call(
                "PATCH",
                f"events/{name}",
                model,
                {"count": count, "lastTimestamp": self._stamp()},
                headers=MERGE_PATCH,
            )
        except NotFound:
            return False
        return True

    async def _create(self, model: Stored, moment: _Moment, name: str) -> None:
        meta, now = model.metadata, self._stamp()
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": meta.namespace},
            "involvedObject": {
                "apiVersion": self._resource.api_version,
                "kind": self._resource.kind,
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
                "resourceVersion": meta.resource_version,
            },
            "type": moment.kind,
            "reason": moment.reason,
            "message": moment.message,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
        }
        await self._call("POST", "events", model, body)

    async def _call(
        self, method: str, url: str, model: Stored, body: dict[str, Any], **how: Any
    ) -> None:
        def begin() -> AbstractContextManager[None]:
            self._fence(WRITE_LIMIT_S)
            return nullcontext()

        await self._api.request(
            method,
            url=url,
            namespace=model.metadata.namespace,
            content=msgspec.json.encode(body),
            timeout=WRITE_LIMIT_S,
            within=begin,
            **how,
        )

    def _stamp(self) -> str:
        return f"{self._now():%Y-%m-%dT%H:%M:%SZ}"
