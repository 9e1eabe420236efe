"""The life of one model: observe, decide, act, say so; again whenever something changes.

A task of this kind runs for every OllamaModel. It holds nothing that a restart would miss: what
must be remembered is in the object's status before anything is done on its account.
"""

import random
from collections.abc import Callable, Mapping

import anyio
from msgspec.structs import replace
from structlog.contextvars import bind_contextvars

from crd.model import OllamaModel, fault_of, is_said_ready, is_stalled, needs_version, ready_reason
from crd.names import ModelName
from crd.occasions import Occasion
from crd.reasons import Reason, Verdict
from crd.v1alpha1 import Fault
from ollama_op.base import tracing
from ollama_op.base.backoff import Backoff
from ollama_op.base.errors import (
    REFUSED,
    Conflict,
    KubeError,
    LoadFailed,
    ModelAbsent,
    ModelBroken,
    NotFound,
    NotLeading,
    NotOllama,
    NotPermitted,
    OllamaError,
    OllamaUnreachable,
    ProtocolError,
    UnexpectedDigest,
)
from ollama_op.base.logs import about
from ollama_op.base.mailbox import Latest
from ollama_op.base.observer import NOBODY, Observer
from ollama_op.policy import report
from ollama_op.policy.decide import (
    Action,
    AddFinalizer,
    Finalize,
    Load,
    Observed,
    PruneFormer,
    Pull,
    Unload,
    Verify,
    Wait,
    concerns,
    decide,
)
from ollama_op.policy.repair import judged, noted
from ollama_op.reconcile.finalize import Finalizer
from ollama_op.reconcile.handle import Handle
from ollama_op.reconcile.pull import Puller, settle, unless_moot
from ollama_op.server.monitor import Interest

LOADING = Verdict(Reason.AVAILABLE, "Model is present and answers; loading it into memory.")

# While the Kubernetes API does not take our writes.
KUBE_RETRY = Backoff(first_s=1, longest_s=30, jitter=1)
# While it refuses them: rights may be granted soon; a namespace that is gone is seldom made again.
REFUSED_RETRY: Mapping[type[KubeError], Backoff] = {
    NotPermitted: Backoff(first_s=1, longest_s=10, jitter=1),
    NotFound: Backoff(first_s=1, longest_s=300, jitter=1),
}
UNSURE_S = 1.0  # before something is tried again for which the lease was too short


class Lifecycle:
    """Runs the lives of all models."""

    def __init__(
        self,
        *,
        handle: Callable[[Latest[OllamaModel]], Handle],
        progress_interval_s: float,
        chance: Callable[[], float] = random.random,
        observer: Observer = NOBODY,
    ) -> None:
        self._handle, self._observer = handle, observer
        self._puller = Puller(progress_interval_s=progress_interval_s)
        self._finalizer = Finalizer()
        self._chance = chance

    async def run(self, box: Latest[OllamaModel]) -> None:
        """Keep one model as its object wishes, until the object is gone."""
        handle = self._handle(box)
        await handle.server.monitor.looked.wait()
        troubles = 0
        while True:
            # For whoever logs in this task and knows of no model: its supervisor, after a crash.
            bind_contextvars(**about(handle.model))
            try:
                with handle.server.monitor.subscribe(box, _interest(handle.model)):
                    await self._step(handle)
                troubles = 0
            except Conflict:
                await handle.news(within_s=1)  # the newer version is on its way
            except KubeError as error:
                troubles += 1
                await self._wait_for_kubernetes(handle, error, troubles)
            except NotLeading as error:
                # Either the lease is renewed in the next seconds, or this task ends with it.
                handle.log.debug("not begun", problem=str(error))
                await anyio.sleep(UNSURE_S)

    async def _step(self, handle: Handle) -> None:
        action = self._decide(handle)
        if isinstance(action, Verify | Pull) and ready_reason(handle.model) == Reason.SUSPENDED:
            handle.event(Occasion.RESUMED)
        with handle.trace.chapter(handle.model, action) as span:
            try:
                with self._observer.acting(type(action).__name__):
                    await self._perform(handle, action)
            except OllamaError as error:
                span.fail(error.reason, str(error))
                await self._fail(handle, action, error)
        if isinstance(action, Finalize):
            await anyio.lowlevel.checkpoint()  # the object may be gone, and this task to end

    def _decide(self, handle: Handle) -> Action:
        return decide(handle.model, self._observe(handle), handle.now)

    def _observe(self, handle: Handle) -> Observed:
        name, seen = handle.model.desired.name, handle.server.monitor.now
        entry = memory = doubt = None
        if isinstance(name, ModelName):
            doubt = handle.server.monitor.doubt(name)
            entry, memory = seen.models.get(name), (seen.memory or {}).get(name)
        return Observed(
            outage=seen.outage,
            is_foreign=seen.is_foreign,
            doubt=doubt,
            digest=entry.digest if entry else None,
            shared=[each for each in handle.model.desired.names if handle.is_shared(each)],
            memory=memory,
            runs_on=entry.runs_on if entry else None,
            memory_known=seen.memory is not None,
            version=seen.version,
        )

    async def _perform(self, handle: Handle, action: Action) -> None:
        match action:
            case AddFinalizer():
                await handle.add_finalizer()
            case Pull():
                await self._puller.pull(handle, action)
            case Verify(name):
                entry = await handle.server.verify(name, again=action.again)
                if concerns(handle.model, action):
                    await settle(handle, name, entry)
            case Load():
                await self._load(handle, action)
            case Unload():
                await self._unload(handle, action)
            case PruneFormer():
                await self._finalizer.prune(handle, action)
            case Finalize():
                await self._finalizer.finalize(
                    handle, action, is_moot=lambda: self._decide(handle) != action
                )
            case Wait():
                await self._wait(handle, action)

    async def _wait(self, handle: Handle, action: Wait) -> None:
        model, verdict = handle.model, action.verdict
        is_lost = handle.server.monitor.has_lost_memory
        if verdict is None:
            gone = {"loaded": None, "expires_at": None} if is_lost else {}
            await handle.write_status(replace(model.status, **gone))
        else:
            memory = report.in_memory(model, action.memory, handle.now, is_lost=is_lost)
            await handle.write_status(report.report(model, verdict, handle.now, **memory))
            row = (
                verdict.reason.row
            )  # what is wrong with a server is not told by each of its models
            if ready_reason(model) != verdict.reason and row.event and not row.of_server:
                handle.event(row.event, problem=verdict.message)
        await handle.news(until=action.until)

    async def _unload(self, handle: Handle, unload: Unload) -> None:
        if not handle.is_kept(unload.name):
            await handle.server.unload(unload.name)
        await handle.write_status(replace(handle.model.status, loaded=None, expires_at=None))

    async def _load(self, handle: Handle, load: Load) -> None:
        monitor = handle.server.monitor
        if load.name not in (monitor.now.memory or {}) and handle.model.status.loaded is not False:
            await handle.write_status(
                report.report(handle.model, LOADING, handle.now, loaded=False, expires_at=None)
            )
        _, error = await unless_moot(
            handle,
            lambda: handle.server.load(load.name, load.keep_alive_s),
            is_moot=lambda: self._decide(handle) != load,  # also when it is there, unannounced
        )
        if error is not None:
            raise error
        if self._decide(handle) == load:
            # It would be loaded again and again, without a pause.
            raise LoadFailed(f"Ollama does not keep {load.name} in memory")
        if load.name in (monitor.now.memory or {}):
            handle.log.info("model loaded", model=str(load.name))

    async def _fail(self, handle: Handle, action: Action, error: OllamaError) -> None:
        if isinstance(error, ModelAbsent) or not concerns(handle.model, action):
            if handle.model.status.fault and concerns(handle.model, action):
                await handle.write_status(replace(handle.model.status, fault=None))
            return  # the list, or the object, has moved on: decide anew
        error, fault = self._judge(handle, action, error)
        self._observer.failed(error.reason)
        if isinstance(error, OllamaUnreachable | NotOllama):
            handle.server.monitor.invalidate()
        reason = _reason(action, error, is_in_use=is_said_ready(handle.model))
        status = report.failed(
            handle.model, error, handle.now, reason=reason, chance=self._chance(), fault=fault
        )
        if reason.row.needs_version:
            version = await handle.server.monitor.ask_version()
            status = replace(status, server_version=version)
        if status.next_retry_time:
            due = status.next_retry_time.isoformat()
            attempt = status.attempts or 0
            tracing.current().event("will retry", {"attempt": attempt, "next": due})
        await handle.write_status(status, failed=True)
        handle.event(_occasion(action, reason), problem=error)

    def _judge(
        self, handle: Handle, action: Action, error: OllamaError
    ) -> tuple[OllamaError, Fault | None]:
        """Place an error in what is known of the model that is there, and say what to remember."""
        name = handle.model.desired.name
        if not isinstance(action, Verify | Pull | Load) or isinstance(name, Verdict):
            return error, handle.model.status.fault
        entry = handle.server.monitor.find(name)
        fault = fault_of(handle.model, name, entry.digest if entry else None)
        if isinstance(error, ModelBroken):
            fault = noted(fault, error, name, entry.digest if entry else None, handle.now)
        return judged(fault, error, name), fault

    async def _wait_for_kubernetes(self, handle: Handle, error: KubeError, troubles: int) -> None:
        backoff = REFUSED_RETRY.get(type(error), KUBE_RETRY)
        wait_s = max(backoff.after(troubles, chance=self._chance()), error.retry_after_s)
        # What is refused, or that nothing can be written at all, is told where it is written.
        handle.log.debug("write failed, will retry", problem=str(error), retry_in_s=wait_s)
        if isinstance(error, REFUSED):
            await handle.news(within_s=wait_s)  # a changed object may be taken
        else:
            await anyio.sleep(wait_s)


def _interest(model: OllamaModel) -> Interest:
    """Return what to wake for, with the object as it is."""
    name, care = model.desired.name, model.desired.options
    if isinstance(name, Verdict):
        return Interest()
    if isinstance(care, Verdict) or model.desired.is_suspended:
        return Interest(name)
    return Interest(
        name,
        interval_s=care.interval_s,
        memory=care.keep_alive_s is not None,
        version=is_stalled(model) and needs_version(model),
    )


def _reason(action: Action, error: OllamaError, *, is_in_use: bool) -> Reason:
    """Place an error in what was being done when it came; `is_in_use` is the old version."""
    match action:
        case Finalize():
            return Reason.DELETION_BLOCKED
        case PruneFormer() | Unload():
            return Reason.AVAILABLE
        case Load() if isinstance(error, NotOllama | ProtocolError):
            return Reason.LOAD_FAILED  # it says nothing of the model, which was seen whole
        case Pull(why=Reason.REFRESHING) if is_in_use:
            is_about_model = isinstance(error, ModelBroken | UnexpectedDigest)
            return error.reason if is_about_model else Reason.REFRESH_FAILED
        case _:
            return error.reason


def _occasion(action: Action, reason: Reason) -> Occasion:
    """Name the event of a failure after what failed; the message has the cause."""
    match action:
        case Pull() if reason.row.is_of_pull:
            return Occasion.PULL_FAILED
        case PruneFormer() | Unload():
            return Occasion.CLEANUP_FAILED
        case _:
            return reason.row.event or Occasion.PULL_FAILED
