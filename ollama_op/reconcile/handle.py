"""One object's affairs at hand: its newest version, and every way to write about it.

Whatever is written comes back as the newest version at once, so nobody acts on a version older than
their own words.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog
from msgspec.structs import replace

from crd.model import OllamaModel, reason_of
from crd.names import ModelName
from crd.occasions import Occasion
from crd.placement import Placement
from crd.reasons import Reason
from crd.v1alpha1 import FINALIZER, OllamaModelStatus
from ollama_op.base.errors import REFUSED, OllamaError
from ollama_op.base.logs import about
from ollama_op.base.mailbox import Latest
from ollama_op.reconcile.lifetrace import LifeTrace
from ollama_op.server.instance import Instance
from ollama_op.server.servers import Servers

log = structlog.get_logger("ollama_op.reconcile.lifecycle")


class ObjectWriter(Protocol):
    """What can be written to Kubernetes. Each call returns the object as it is then."""

    async def patch_status(self, model: OllamaModel, status: OllamaModelStatus) -> OllamaModel:
        """Make `status` the object's status."""

    async def set_finalizers(
        self,
        model: OllamaModel,
        finalizers: tuple[str, ...],
        *,
        annotations: Mapping[str, str] = ...,
        dry_run: bool = ...,
    ) -> OllamaModel:
        """Replace the finalizers and set annotations, provided the object has not changed.

        With `dry_run`, only ask whether that would be taken.
        """

    async def annotate(self, model: OllamaModel, name: str, value: str) -> OllamaModel:
        """Set an annotation, provided the object has not changed."""


class Recorder(Protocol):
    """Sends Kubernetes events."""

    def tell(self, model: OllamaModel, occasion: Occasion, message: str) -> None:
        """Record a moment; never waits."""


class Objects(Protocol):
    """What is known of all objects."""

    def put(self, model: OllamaModel) -> None:
        """Handle a version of an object."""

    def sharers(self, where: Placement, uid: str) -> int:
        """Count the live objects other than `uid` that name this model."""

    def sharing(self, where: Placement, uid: str) -> list[OllamaModel]:
        """List the live objects other than `uid` that name this model."""


class Handle:
    """The affairs of the object in `box`. Writing raises KubeError."""

    def __init__(
        self,
        box: Latest[OllamaModel],
        *,
        kube: ObjectWriter,
        events: Recorder,
        objects: Objects,
        servers: Servers,
        clock: Callable[[], datetime],
    ) -> None:
        self._box, self._kube, self._events = box, kube, events
        self._objects, self._servers, self._clock = objects, servers, clock
        self.trace = LifeTrace()
        self.has_pulled = False  # or another operator did, before this one
        self.is_mute = False  # the last status was refused
        self.removed: set[ModelName] = set()  # from Ollama, as the object is being deleted

    @property
    def model(self) -> OllamaModel:
        """The newest version."""
        return self._box.item

    @property
    def server(self) -> Instance:
        """The Ollama server that the model is placed on."""
        return self._servers[self.model.desired.server]

    def _place(self, name: ModelName) -> Placement:
        return Placement(self.model.desired.server, name)

    @property
    def now(self) -> datetime:
        """The time as Kubernetes writes it, in whole seconds."""
        return self._clock().replace(microsecond=0)

    @property
    def log(self) -> Any:
        """A logger whose lines name the object."""
        return log.bind(**about(self.model))

    async def news(self, *, within_s: float | None = None, until: datetime | None = None) -> None:
        """Wait for a newer version, or something else to look at; not longer than told."""
        if until is not None:
            if until.microsecond:  # `now` would not have come to it before the next whole second
                until = until.replace(microsecond=0) + timedelta(seconds=1)
            within_s = max((until - self._clock()).total_seconds(), 0)
        await self._box.news(within_s)

    def is_shared(self, name: ModelName) -> bool:
        """Return True if another live object names this model."""
        return self._objects.sharers(self._place(name), self.model.metadata.uid) > 0

    def is_needed(self, name: ModelName) -> bool:
        """Return True if any live object names this model, this one included."""
        alive = self.model.metadata.deletion_timestamp is None
        return self.is_shared(name) or (alive and self.model.desired.name == name)

    def is_kept(self, name: ModelName) -> bool:
        """Return True if another live object wants this model kept in memory."""
        others = self._objects.sharing(self._place(name), self.model.metadata.uid)
        return any(other.desired.keeps_loaded for other in others)

    async def write_status(self, status: OllamaModelStatus, *, failed: bool = False) -> None:
        """Make this the object's status; what it says already is not written again.

        Another reason is logged, and so is each attempt that has `failed`. With how many others it
        shares its model is said along with everything else.
        """
        where = self.model.desired.placement
        others = self._objects.sharers(where, self.model.metadata.uid) if where else 0
        status = replace(status, shared_with=others or None)
        if status != (before := self.model.status):
            with self.trace.remark(self.model):
                status = replace(status, trace_id=self.trace.trace_id or status.trace_id)
                await self._write(status)
            self._log_change(reason_of(before), status, failed=failed)

    async def _write(self, status: OllamaModelStatus) -> None:
        expected = _but_version(replace(self.model, status=status))
        try:
            with self._box.expecting(lambda model: _but_version(model) == expected):
                self._objects.put(await self._kube.patch_status(self.model, status))
        except REFUSED:
            self.is_mute = True
            raise
        self.is_mute = False

    async def _keep(self, write: Awaitable[OllamaModel]) -> None:
        """Keep what a write has made of the metadata. It fails if others have been faster."""
        expected = _but_metadata(self.model)
        with self._box.expecting(lambda model: _but_metadata(model) == expected):
            self._objects.put(await write)

    def _log_change(
        self, before: Reason | None, status: OllamaModelStatus, *, failed: bool
    ) -> None:
        """Log what was written, once it is: what has to be said anew has not been logged before."""
        reason, due = reason_of(status), status.next_retry_time
        if reason is None:
            return
        row = reason.row
        facts: dict[str, Any] = {"reason": reason.value, "reason_before": before and before.value}
        if failed:
            facts |= {"problem": status.error, "attempt": status.attempts}
            facts |= {"retry_in_s": (due - self.now).total_seconds()} if due else {}
            # The first one is that of many models when Ollama goes away, which is said once.
            unsure = row.is_unanswered and status.attempts == 1
            say = self.log.debug if unsure else self.log.warning
            say("failed, will retry" if due else "failed, a person must act", **facts)
        elif reason == before:
            pass
        elif row.is_unanswered or (row.is_fine and before and before.row.is_unanswered):
            self.log.debug("reason changed", **facts)  # an outage, or its end: as above
        elif row.is_fine:
            self.log.info("reason changed", **facts)
        else:
            self.log.warning("reason changed", **facts, problem=status.error)

    async def add_finalizer(self) -> None:
        """Put our finalizer on it, and with it where its trace is joined."""
        model = self.model
        finalizers = (*model.metadata.finalizers, FINALIZER)
        annotations = self.trace.annotations(model)
        await self._keep(self._kube.set_finalizers(model, finalizers, annotations=annotations))

    async def remove_finalizer(self, *, dry_run: bool = False) -> None:
        """Take our finalizer off it; with `dry_run`, only ask whether that would be taken."""
        others = tuple(each for each in self.model.metadata.finalizers if each != FINALIZER)
        model = await self._kube.set_finalizers(self.model, others, dry_run=dry_run)
        if not dry_run:
            self._objects.put(model)

    async def annotate(self, name: str, value: str) -> None:
        """Set an annotation."""
        await self._keep(self._kube.annotate(self.model, name, value))

    def event(self, occasion: Occasion, **values: object) -> None:
        """Send a Kubernetes event with these values in its message. Never waits, never fails."""
        self._events.tell(self.model, occasion, occasion.message.format(**values))

    def stays_in_memory(self, name: ModelName, problem: OllamaError) -> None:
        """Log, and send an event, that a deleted model may stay in memory."""
        self.log.warning("model not unloaded", model=str(name), problem=str(problem))
        self.event(Occasion.UNLOAD_FAILED, model=name, problem=str(problem).rstrip("."))


def _but_version(model: OllamaModel) -> OllamaModel:
    return replace(model, metadata=replace(model.metadata, resource_version=""))


def _but_metadata(model: OllamaModel) -> tuple[object, ...]:
    return model.spec, model.status, model.metadata.deletion_timestamp
