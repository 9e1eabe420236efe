"""Letting go of models: the one before a change of the spec, or all when the object goes.

Nothing is deleted that another live object names; and whoever might name it is asked once more
right before the deletion. A deletion that could not be finished is not begun: whether Kubernetes
would let the object go is asked before Ollama is. The release follows the removal at once, a few
objects at a time, so that only those few are left if Kubernetes begins to refuse in between.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import datetime

import anyio
from msgspec.structs import replace

from crd.model import ready_reason
from crd.names import ModelName
from crd.occasions import Occasion
from crd.reasons import Reason, Verdict
from crd.v1alpha1 import State
from ollama_op.base.errors import REFUSED, KubeError, OllamaError
from ollama_op.policy import report
from ollama_op.policy.decide import FORCED, RETAINED, Finalize, PruneFormer
from ollama_op.reconcile.handle import Handle
from ollama_op.reconcile.pull import unless_moot

AT_ONCE = 40  # removals under way; most wait for Kubernetes, and Ollama deletes one at a time
SURE_S = 1.0  # so long one object's answer to whether it would be let go counts for its namespace
REFUSED_S = 5.0  # likewise, where the answer is no
FORCE_LIMIT_S = 10.0  # for the one try of a removal with force
LATE_S, LATEST_S = 5.0, 120.0  # in which a model may come whose pull was cut off, by its size
VERIFIED_PER_S = 200e6  # bytes that Ollama verifies in a second, on a slow disk


class Finalizer:
    """Lets go of models."""

    def __init__(self) -> None:
        self._slots = anyio.CapacityLimiter(AT_ONCE)
        # By namespace: how long the answer counts, and what it was.
        self._answers: dict[str, tuple[float, KubeError | None]] = {}

    async def prune(self, handle: Handle, action: PruneFormer) -> None:
        """Let go of models that the object stood for before its spec changed.

        Raises: OllamaError, KubeError.
        """
        for name in () if action.retained else action.names:
            await self._remove(handle, name)
        kept = tuple(str(each) for each in handle.model.desired.owned if each not in action.names)
        await handle.write_status(replace(handle.model.status, owned_models=kept))
        occasion = Occasion.KEPT_BEHIND if action.retained else Occasion.DISCARDED
        handle.event(occasion, models=_join(action.names))

    async def finalize(
        self, handle: Handle, action: Finalize, *, is_moot: Callable[[], bool]
    ) -> None:
        """Let go of all that the object stands for, then of the object itself.

        `is_moot` is asked whenever there is news: true gives up, so that a change of mind counts
        at once, and not only after Ollama's answer.

        Raises: OllamaError, KubeError.
        """
        try:
            if not action.names:
                await self._unload(handle, action)
                await _release(handle, action)
            elif action.event == FORCED:
                await self._finalize_by_force(handle, action)
            else:
                await self._finalize_in_turn(handle, action, is_moot)
        except KubeError as error:
            if isinstance(error, REFUSED):
                await _report_refused(handle, error)
            raise

    async def _finalize_in_turn(
        self, handle: Handle, action: Finalize, is_moot: Callable[[], bool]
    ) -> None:
        is_removed = False

        async def take_turn(held: AsyncExitStack) -> KubeError | None:
            nonlocal is_removed
            try:
                await _await_stragglers(handle)
                await held.enter_async_context(self._slots)
                await self._rehearse(handle)
                await self._remove_all(handle, action, has_grace=True)
                is_removed = True
            except KubeError as error:  # by itself, not in a group of exceptions
                return error
            return None

        async with AsyncExitStack() as held:
            problem, failure = await unless_moot(
                handle, lambda: take_turn(held), is_moot=lambda: not is_removed and is_moot()
            )
            if failed := problem or failure:
                raise failed
            if is_removed:
                await self._unload(handle, action)
                # The last thing that is awaited: this task ends with its object.
                await self._release(handle, action)

    async def _finalize_by_force(self, handle: Handle, action: Finalize) -> None:
        """Try once to remove what there is, and let go whatever comes of that."""
        await self._rehearse(handle)
        try:
            with anyio.move_on_after(FORCE_LIMIT_S):
                await self._remove_all(handle, action)
        except OllamaError as error:
            handle.log.warning("model not removed, let go by force", problem=str(error))
        if handle.model.status.state is State.PULLING:
            handle.removed.clear()  # what was cut off may still come
        await self._release(handle, action)

    async def _rehearse(self, handle: Handle) -> None:
        """Ask Kubernetes whether it would let the object go, or one like it a moment ago.

        Raises: KubeError if not.
        """
        namespace, now = handle.model.metadata.namespace, anyio.current_time()
        until, answer = self._answers.get(namespace, (now, None))
        if until > now and answer is None:
            return
        if until > now and answer is not None:
            raise type(answer)(str(answer))
        try:
            await handle.remove_finalizer(dry_run=True)
        except REFUSED as error:
            self._answers[namespace] = now + REFUSED_S, error
            raise
        self._answers[namespace] = now + SURE_S, None

    async def _release(self, handle: Handle, action: Finalize) -> None:
        try:
            await _release(handle, action, self._kept_until(handle))
        except KubeError:
            self._answers.pop(handle.model.metadata.namespace, None)
            raise

    def _kept_until(self, handle: Handle) -> datetime | None:
        """Return until when what was removed can be taken over; None if none of it can."""
        kept = (handle.server.grace.kept_until(name) for name in handle.removed)
        return max((until for until in kept if until), default=None)

    async def _remove_all(
        self, handle: Handle, action: Finalize, *, has_grace: bool = False
    ) -> None:
        """Remove what was not removed before: what came back since is not the object's."""
        left = [name for name in action.names if name not in handle.removed]
        if left and not handle.model.status.attempts:
            handle.event(Occasion.DELETING, models=_join(left))
        for name in left:
            if await self._remove(handle, name, has_grace=has_grace):
                handle.removed.add(name)

    async def _unload(self, handle: Handle, action: Finalize) -> None:
        """Take a model that stays on the server out of memory if only this object kept it there."""
        name = handle.model.desired.name
        is_away = action.event == FORCED or handle.server.monitor.outage is not None
        if is_away or not handle.model.status.loaded or not isinstance(name, ModelName):
            return
        if name in handle.removed or handle.is_kept(name):
            return
        try:
            await handle.server.unload(name)
        except OllamaError as error:  # a courtesy
            handle.stays_in_memory(name, error)

    async def _remove(self, handle: Handle, name: ModelName, *, has_grace: bool = False) -> bool:
        if handle.is_needed(name):
            return False  # not even worth waiting for whoever acts on the name
        removed = await handle.server.remove(
            name,
            unless=lambda: handle.is_needed(name),
            stays=lambda error: handle.stays_in_memory(name, error),
            has_grace=has_grace,
        )
        if removed:
            handle.log.info("model deleted", model=str(name))
        return removed


async def _await_stragglers(handle: Handle) -> None:
    """Wait for what may come of a pull that was cut off with the operator before this one.

    Nobody knows where that was, and Ollama writes a model that it verifies even when nobody listens
    any more. Whoever waits here holds up nobody else.
    """
    if handle.model.status.state is not State.PULLING or handle.has_pulled:
        return
    progress = handle.model.status.progress
    size = progress.total_bytes or 0 if progress else 0
    await anyio.sleep(min(LATE_S + size / VERIFIED_PER_S, LATEST_S))
    handle.has_pulled = True


async def _release(handle: Handle, action: Finalize, kept_until: datetime | None = None) -> None:
    await handle.remove_finalizer()
    _tell_left(handle, action, kept_until)


def _tell_left(handle: Handle, action: Finalize, kept_until: datetime | None) -> None:
    removed = [name for name in handle.model.desired.names if name in handle.removed]
    kept = [name for name in handle.model.desired.names if name not in removed]
    handle.log.info("released", removed=[*map(str, removed)], kept=[*map(str, kept)])
    match action.event:
        case _ if action.event == FORCED and removed and not kept:
            handle.event(Occasion.FORCED_REMOVED, models=_join(removed))
        case _ if action.event == FORCED:
            handle.event(Occasion.FORCED, models=_join(kept))
        case _ if action.event == RETAINED:
            handle.event(Occasion.RETAINED, models=_join(kept))
        case _ if removed and kept_until:
            until = f"{kept_until:%Y-%m-%d %H:%M:%SZ}"
            handle.event(Occasion.KEPT, models=_join(removed), until=until)
        case _ if removed:
            handle.event(Occasion.DELETED, models=_join(removed))
        case _ if kept:
            handle.event(Occasion.SHARED, models=_join(kept))
        case _:
            pass  # it never named a model


async def _report_refused(handle: Handle, error: KubeError) -> None:
    """Write on the object why it stays, as far as Kubernetes takes that."""
    if handle.is_mute:
        return
    gone = _join([*handle.removed])
    head = f"{gone} is gone from Ollama, yet" if gone else "Model not removed, as"
    problem = f"{head} the object would not go: {str(error).rstrip('.')}. Trying again."
    if ready_reason(handle.model) != Reason.DELETION_BLOCKED:
        handle.event(Occasion.DELETION_BLOCKED, problem=problem)
    verdict = Verdict(Reason.DELETION_BLOCKED, problem)
    with suppress(KubeError):  # what was refused is told already
        await handle.write_status(report.report(handle.model, verdict, handle.now))


def _join(names: tuple[ModelName, ...] | list[ModelName]) -> str:
    return ", ".join(map(str, names))
