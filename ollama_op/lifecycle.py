"""The life of one model: observe, decide, act, say so; again whenever something changes.

A task of this kind runs for every OllamaModel. It holds nothing that a restart would miss: what
must be remembered is in the object's status before anything is done on its account.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import anyio
import structlog
from msgspec.structs import replace

from crd.names import ModelName
from crd.v1alpha1 import (
    ANY_REFRESH,
    FINALIZER,
    REFRESH,
    REFRESHED,
    OllamaModel,
    OllamaModelStatus,
    Progress,
    Reason,
)
from ollama_op import report
from ollama_op.decide import (
    AVAILABLE,
    Action,
    Claim,
    Discard,
    Leave,
    Observed,
    Pull,
    Rest,
    Verdict,
    Verify,
    decide,
    owned,
    refresh_wish,
    still_wanted,
    wanted,
)
from ollama_op.errors import (
    Conflict,
    KubeError,
    ModelAbsent,
    NotFound,
    OllamaError,
    OllamaUnreachable,
)
from ollama_op.instance import Download, Instance
from ollama_op.supervise import Latest
from ollama_op.wire import Entry

log = structlog.get_logger(__name__)

BRIEF_S = 0.5  # a phase shorter than this is not worth a write
KUBE_RETRY_S = (1.0, 2.0, 5.0, 15.0, 30.0)  # while the Kubernetes API does not take our writes


class Writer(Protocol):
    """What a lifecycle writes to Kubernetes. Each call returns the object as it is then."""

    async def patch_status(self, model: OllamaModel, status: OllamaModelStatus) -> OllamaModel:
        """Make `status` the object's status."""

    async def set_finalizers(self, model: OllamaModel, finalizers: tuple[str, ...]) -> OllamaModel:
        """Replace the finalizers, provided the object has not changed."""

    async def annotate(self, model: OllamaModel, name: str, value: str) -> OllamaModel:
        """Set an annotation, provided the object has not changed."""

    def event(self, model: OllamaModel, kind: str, reason: str, message: str) -> None:
        """Tell about a moment; never waits."""


class Objects(Protocol):
    """What a lifecycle knows of the other objects."""

    def put(self, model: OllamaModel) -> None:
        """Take in a version of an object."""

    def is_shared(self, name: ModelName, uid: str) -> bool:
        """Tell whether a live object other than `uid` names this model."""


class Lifecycle:
    """Runs the lives of all models of one Ollama server."""

    def __init__(
        self,
        *,
        instance: Instance,
        kube: Writer,
        objects: Objects,
        progress_interval_s: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._instance, self._kube, self._objects = instance, kube, objects
        self._progress_interval_s = progress_interval_s
        self._clock, self._chance = now, chance

    async def run(self, box: Latest[OllamaModel]) -> None:
        """Keep one model as its object wishes, until the object is gone."""
        await self._instance.looked.wait()
        troubles = 0
        while True:
            try:
                name = wanted(box.item)
                follow = name if isinstance(name, ModelName) else None
                with self._instance.follow(box, follow):
                    await self._step(box)
                troubles = 0
            except NotFound:
                return
            except Conflict:
                await box.news(within_s=1)  # the newer object is on its way
            except KubeError as error:
                wait_s = KUBE_RETRY_S[min(troubles, len(KUBE_RETRY_S) - 1)]
                wait_s = max(wait_s * (1 + self._chance()), error.retry_after_s)
                troubles += 1
                _log(box.item).warning(
                    "kubernetes write failed, will retry", problem=str(error), retry_in_s=wait_s
                )
                await anyio.sleep(wait_s)

    async def _step(self, box: Latest[OllamaModel]) -> None:
        model = box.item
        action = decide(model, self._observe(model), self._now())
        try:
            await self._perform(box, model, action)
        except OllamaError as error:
            await self._fail(box, action, error)

    async def _perform(self, box: Latest[OllamaModel], model: OllamaModel, action: Action) -> None:
        match action:
            case Claim():
                finalizers = (*model.metadata.finalizers, FINALIZER)
                self._objects.put(await self._kube.set_finalizers(model, finalizers))
            case Pull():
                await self._pull(box, action)
            case Verify(name):
                await self._settle(box, name, await self._instance.verify(name), pulled=False)
            case Discard(names):
                await self._discard(box, names)
            case Leave(names):
                await self._leave(box, names)
            case Rest(verdict, until):
                if verdict is not None:
                    await self._say(box, report.report(model, verdict, self._now()))
                await box.news(within_s=self._seconds_until(until))

    def _observe(self, model: OllamaModel) -> Observed:
        name, uid = wanted(model), model.metadata.uid
        entry = self._instance.find(name) if isinstance(name, ModelName) else None
        return Observed(
            outage=self._instance.outage,
            digest=entry.digest if entry else None,
            shared=[n for n in owned(model) if self._objects.is_shared(n, uid)],
        )

    # --- bringing a model

    async def _pull(self, box: Latest[OllamaModel], pull: Pull) -> None:
        model, wish = box.item, refresh_wish(box.item)
        if pull.why is Reason.MODEL_LOST:
            self._kube.event(model, "Warning", "ModelLost", f"{pull.name} vanished from Ollama.")
        began = anyio.current_time()
        with self._instance.enlist(pull.name) as download:
            # Said before Ollama is touched: should the operator die in the middle, its successor
            # knows from the status what may have to be removed one day.
            await self._say(box, self._under_way(model, pull, queued=download.queued))
            entry = await self._download(box, pull, download)
        if entry is None:
            _log(model).info("pull cancelled: no longer wanted", model=str(pull.name))
            return
        if download.begun.is_set():
            self._tell_pulled(model, pull, entry, round(anyio.current_time() - began, 1))
        if wish is not None:
            await self._finish_refresh(box, wish, entry)
        handled = wish if wish != ANY_REFRESH else None
        await self._settle(box, pull.name, entry, pulled=download.begun.is_set(), handled=handled)

    async def _download(
        self, box: Latest[OllamaModel], pull: Pull, download: Download
    ) -> Entry | None:
        """Pull with the object and the status in view; None if it was cancelled as moot."""
        outcome: Entry | OllamaError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cancel_when_moot, box, pull, tasks.cancel_scope)
            tasks.start_soon(self._show_progress, box, pull, download)
            # An error that left the group by itself would come wrapped in an ExceptionGroup.
            try:
                outcome = await self._instance.pull(
                    pull.name, download, again=pull.again, repair=pull.repair
                )
            except OllamaError as error:
                outcome = error
            tasks.cancel_scope.cancel()
        if isinstance(outcome, OllamaError):
            raise outcome
        return outcome

    async def _cancel_when_moot(
        self, box: Latest[OllamaModel], pull: Pull, scope: anyio.CancelScope
    ) -> None:
        while still_wanted(box.item, pull):
            await box.news()
        scope.cancel()

    async def _show_progress(
        self, box: Latest[OllamaModel], pull: Pull, download: Download
    ) -> None:
        await download.begun.wait()
        await anyio.sleep(BRIEF_S if download.queued else self._progress_interval_s)
        while True:
            progress = download.meter.progress(anyio.current_time())
            try:
                await self._say(box, self._under_way(box.item, pull, progress))
            except KubeError as error:  # said beside the work, never in its way
                _log(box.item).debug("progress not written", problem=str(error))
            await anyio.sleep(self._progress_interval_s)

    def _under_way(
        self,
        model: OllamaModel,
        pull: Pull,
        progress: Progress | None = None,
        *,
        queued: bool = False,
    ) -> OllamaModelStatus:
        verdict = Verdict(pull.why, report.fetching(pull.why, progress))
        if queued and pull.why is Reason.PULLING:
            limit = self._instance.max_concurrent_pulls
            verdict = Verdict(Reason.QUEUED, f"Waiting for a download slot (limit {limit}).")
        return report.under_way(model, pull.name, verdict, progress, self._now())

    def _tell_pulled(self, model: OllamaModel, pull: Pull, entry: Entry, took_s: float) -> None:
        _log(model).info(
            "pull completed", model=str(pull.name), size_bytes=entry.size, duration_s=took_s
        )
        size = report.formatted_size(entry.size)
        self._kube.event(model, "Normal", "Pulled", f"Pulled {pull.name}, {size} in {took_s:g} s.")
        if pull.why is Reason.MODEL_LOST:
            self._kube.event(model, "Normal", "ModelRestored", f"{pull.name} is back.")

    async def _finish_refresh(self, box: Latest[OllamaModel], wish: str, entry: Entry) -> None:
        model = box.item
        old, new = (model.status.digest or "none")[:8], entry.digest[:8]
        what = f"changed from {old} to {new}" if old != new else f"is still {new}"
        if wish == ANY_REFRESH and refresh_wish(model) == wish:
            done = f"{REFRESHED}{self._now():%Y-%m-%dT%H:%M:%SZ}"
            self._objects.put(await self._kube.annotate(model, REFRESH, done))
        self._kube.event(model, "Normal", "RefreshCompleted", f"Digest {what}.")
        _log(model).info("refresh completed", digest_before=old, digest=new)

    async def _settle(
        self,
        box: Latest[OllamaModel],
        name: ModelName,
        entry: Entry,
        *,
        pulled: bool,
        handled: str | None = None,
    ) -> None:
        changes = {} if handled is None else {"last_handled_refresh": handled}
        status = report.available(box.item, name, entry, self._now(), pulled=pulled)
        await self._say(box, replace(status, **changes))

    # --- taking models away

    async def _discard(self, box: Latest[OllamaModel], names: tuple[ModelName, ...]) -> None:
        for name in names:
            await self._remove(box.item, name)
        kept = [str(n) for n in owned(box.item) if n not in names]
        status = report.report(box.item, AVAILABLE, self._now(), owned_models=tuple(kept))
        await self._say(box, status)

    async def _leave(self, box: Latest[OllamaModel], names: tuple[ModelName, ...]) -> None:
        for name in names:
            await self._remove(box.item, name)
        model = box.item
        rest = tuple(f for f in model.metadata.finalizers if f != FINALIZER)
        self._objects.put(await self._kube.set_finalizers(model, rest))
        _log(model).info("released", removed=[str(n) for n in names])

    async def _remove(self, model: OllamaModel, name: ModelName) -> None:
        uid = model.metadata.uid
        gone = await self._instance.remove(name, unless=lambda: self._objects.is_shared(name, uid))
        if gone:
            _log(model).info("model deleted", model=str(name))

    # --- saying so

    async def _fail(self, box: Latest[OllamaModel], action: Action, error: OllamaError) -> None:
        model, reason = box.item, error.reason
        match error:
            case ModelAbsent():
                return  # the list has caught up by now: decide anew
            case OllamaUnreachable():
                self._instance.suspect()
            case _:
                pass
        match action:
            case Leave():
                reason = Reason.DELETION_BLOCKED
            case Discard():
                reason = Reason.AVAILABLE
            case Pull(why=Reason.REFRESHING):
                reason = Reason.REFRESH_FAILED
            case _:
                pass
        status = report.failed(model, error, self._now(), reason=reason, chance=self._chance())
        _log(model).warning(
            "failed, will retry" if status.next_retry_time else "failed, a person must act",
            reason=reason,
            problem=str(error),
            attempt=status.attempts,
            next=status.next_retry_time and status.next_retry_time.isoformat(),
        )
        if status.attempts == 1:  # the condition tells of the others
            kind = {Reason.AVAILABLE: "DiscardFailed"}.get(reason, reason)
            self._kube.event(model, "Warning", kind, str(error))
        await self._say(box, status)

    async def _say(self, box: Latest[OllamaModel], status: OllamaModelStatus) -> None:
        if status != box.item.status:
            self._objects.put(await self._kube.patch_status(box.item, status))

    def _seconds_until(self, due: datetime | None) -> float | None:
        return None if due is None else max((due - self._clock()).total_seconds(), 0)

    def _now(self) -> datetime:
        return self._clock().replace(microsecond=0)  # Kubernetes' times have whole seconds


def _log(model: OllamaModel) -> structlog.stdlib.BoundLogger:
    meta = model.metadata
    bound: structlog.stdlib.BoundLogger = log.bind(object=f"{meta.namespace}/{meta.name}")
    return bound
