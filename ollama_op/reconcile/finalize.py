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

from crd.model import Verdict, owned, ready_reason, wanted, with_wanted
from crd.names import ModelName
from crd.occasions import Occasion
from crd.v1alpha1 import Reason, State
from ollama_op.base.errors import REFUSED, KubeError, OllamaError
from ollama_op.policy import report
from ollama_op.policy.decide import FORCED, RETAINED, Discard, Leave
from ollama_op.reconcile.handle import Subject
from ollama_op.reconcile.pull import unless_moot
from ollama_op.server.instance import Instance

AT_ONCE = 40
SURE_S = 1.0  # so long one object's answer to whether it would be let go counts for its namespace
REFUSED_S = 5.0  # likewise, where the answer is no
FORCE_LIMIT_S = 10.0  # for the one try of a removal with force
LATE_S, LATEST_S = 5.0, 120.0  # in which a model may come whose pull was cut off, by its size
VERIFIED_PER_S = 200e6  # bytes that Ollama verifies in a second, on a slow disk


class Releaser:
    """Lets go of models of one Ollama server."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._slots = anyio.CapacityLimiter(AT_ONCE)
        # By namespace: how long the answer counts, and what it was.
        self._answers: dict[str, tuple[float, KubeError | None]] = {}

    async def discard(self, subject: Subject, action: Discard) -> None:
        """Let go of models that the object stood for before its spec changed.

        Raises: OllamaError, KubeError.
        """
        for name in () if action.retained else action.names:
            await self._remove(subject, name)
        kept = tuple(str(each) for each in owned(subject.model) if each not in action.names)
        await subject.say(replace(subject.model.status, owned_models=kept))
        occasion = Occasion.KEPT_BEHIND if action.retained else Occasion.DISCARDED
        subject.event(occasion, models=_join(action.names))

    async def leave(self, subject: Subject, action: Leave, *, is_moot: Callable[[], bool]) -> None:
        """Let go of all that the object stands for, then of the object itself.

        `is_moot` is asked whenever there is news: true gives up, so that a change of mind counts
        at once, and not only after Ollama's answer.

        Raises: OllamaError, KubeError.
        """
        try:
            if not action.names:
                await self._unload(subject, action)
                await _release(subject, action)
            elif action.event == FORCED:
                await self._leave_by_force(subject, action)
            else:
                await self._leave_in_turn(subject, action, is_moot)
        except KubeError as error:
            if isinstance(error, REFUSED):
                await _tell_refused(subject, error)
            raise

    async def _leave_in_turn(
        self, subject: Subject, action: Leave, is_moot: Callable[[], bool]
    ) -> None:
        is_removed = False

        async def take_turn(held: AsyncExitStack) -> KubeError | None:
            nonlocal is_removed
            try:
                await _await_stragglers(subject)
                await held.enter_async_context(self._slots)
                await self._rehearse(subject)
                await self._remove_all(subject, action, has_grace=True)
                is_removed = True
            except KubeError as error:  # by itself, not in a group of exceptions
                return error
            return None

        async with AsyncExitStack() as held:
            problem, failure = await unless_moot(
                subject, lambda: take_turn(held), is_moot=lambda: not is_removed and is_moot()
            )
            if failed := problem or failure:
                raise failed
            if is_removed:
                await self._unload(subject, action)
                # The last thing that is awaited: this task ends with its object.
                await self._release(subject, action)

    async def _leave_by_force(self, subject: Subject, action: Leave) -> None:
        """Try once to remove what there is, and let go whatever comes of that."""
        await self._rehearse(subject)
        try:
            with anyio.move_on_after(FORCE_LIMIT_S):
                await self._remove_all(subject, action)
        except OllamaError as error:
            subject.log.warning("model not removed, let go by force", problem=str(error))
        if subject.model.status.state is State.PULLING:
            subject.removed.clear()  # what was cut off may still come
        await self._release(subject, action)

    async def _rehearse(self, subject: Subject) -> None:
        """Ask Kubernetes whether it would let the object go, or one like it a moment ago.

        Raises: KubeError if not.
        """
        namespace, now = subject.model.metadata.namespace, anyio.current_time()
        until, answer = self._answers.get(namespace, (now, None))
        if until > now and answer is None:
            return
        if until > now and answer is not None:
            raise type(answer)(str(answer))
        try:
            await subject.release(dry_run=True)
        except REFUSED as error:
            self._answers[namespace] = now + REFUSED_S, error
            raise
        self._answers[namespace] = now + SURE_S, None

    async def _release(self, subject: Subject, action: Leave) -> None:
        try:
            await _release(subject, action, self._kept_until(subject))
        except KubeError:
            self._answers.pop(subject.model.metadata.namespace, None)
            raise

    def _kept_until(self, subject: Subject) -> datetime | None:
        """Return until when what was removed can be taken over; None if none of it can."""
        kept = (self._instance.grace.kept_until(name) for name in subject.removed)
        return max((until for until in kept if until), default=None)

    async def _remove_all(
        self, subject: Subject, action: Leave, *, has_grace: bool = False
    ) -> None:
        """Remove what was not removed before: what came back since is not the object's."""
        left = [name for name in action.names if name not in subject.removed]
        if left and not subject.model.status.attempts:
            subject.event(Occasion.DELETING, models=_join(left))
        for name in left:
            if await self._remove(subject, name, has_grace=has_grace):
                subject.removed.add(name)

    async def _unload(self, subject: Subject, action: Leave) -> None:
        """Take a model that stays on the server out of memory if only this object kept it there."""
        name = wanted(subject.model)
        is_away = action.event == FORCED or self._instance.survey.outage is not None
        if is_away or not subject.model.status.loaded or not isinstance(name, ModelName):
            return
        if name in subject.removed or subject.is_kept(name):
            return
        try:
            await self._instance.unload(name)
        except OllamaError as error:  # a courtesy
            subject.stays_in_memory(name, error)

    async def _remove(self, subject: Subject, name: ModelName, *, has_grace: bool = False) -> bool:
        if subject.is_needed(name):
            return False  # not even worth waiting for whoever acts on the name
        removed = await self._instance.remove(
            name,
            unless=lambda: subject.is_needed(name),
            stays=lambda error: subject.stays_in_memory(name, error),
            has_grace=has_grace,
        )
        if removed:
            subject.log.info("model deleted", model=str(name))
        return removed


async def _await_stragglers(subject: Subject) -> None:
    """Wait for what may come of a pull that was cut off with the operator before this one.

    Nobody knows where that was, and Ollama writes a model that it verifies even when nobody listens
    any more. Whoever waits here holds up nobody else.
    """
    if subject.model.status.state is not State.PULLING or subject.has_pulled:
        return
    progress = subject.model.status.progress
    size = progress.total_bytes or 0 if progress else 0
    await anyio.sleep(min(LATE_S + size / VERIFIED_PER_S, LATEST_S))
    subject.has_pulled = True


async def _release(subject: Subject, action: Leave, kept_until: datetime | None = None) -> None:
    await subject.release()
    _tell_left(subject, action, kept_until)


def _tell_left(subject: Subject, action: Leave, kept_until: datetime | None) -> None:
    removed = [name for name in with_wanted(subject.model) if name in subject.removed]
    kept = [name for name in with_wanted(subject.model) if name not in removed]
    subject.log.info("released", removed=[*map(str, removed)], kept=[*map(str, kept)])
    match action.event:
        case _ if action.event == FORCED and removed and not kept:
            subject.event(Occasion.FORCED_REMOVED, models=_join(removed))
        case _ if action.event == FORCED:
            subject.event(Occasion.FORCED, models=_join(kept))
        case _ if action.event == RETAINED:
            subject.event(Occasion.RETAINED, models=_join(kept))
        case _ if removed and kept_until:
            until = f"{kept_until:%Y-%m-%d %H:%M:%SZ}"
            subject.event(Occasion.KEPT, models=_join(removed), until=until)
        case _ if removed:
            subject.event(Occasion.DELETED, models=_join(removed))
        case _ if kept:
            subject.event(Occasion.SHARED, models=_join(kept))
        case _:
            pass  # it never named a model


async def _tell_refused(subject: Subject, error: KubeError) -> None:
    """Say on the object why it stays, as far as Kubernetes takes that."""
    if subject.is_mute:
        return
    gone = _join([*subject.removed])
    head = f"{gone} is gone from Ollama, yet" if gone else "Model not removed, as"
    problem = f"{head} the object would not go: {str(error).rstrip('.')}. Trying again."
    if ready_reason(subject.model) != Reason.DELETION_BLOCKED:
        subject.event(Occasion.DELETION_BLOCKED, problem=problem)
    verdict = Verdict(Reason.DELETION_BLOCKED, problem)
    with suppress(KubeError):  # what was refused is told already
        await subject.say(report.report(subject.model, verdict, subject.now))


def _join(names: tuple[ModelName, ...] | list[ModelName]) -> str:
    return ", ".join(map(str, names))
