"""The life of one model: observe, decide, act, say so; again whenever something changes.

A task of this kind runs for every OllamaModel. It holds nothing that a restart would miss: what
must be remembered is in the object's status before anything is done on its account.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime

import anyio
from msgspec.structs import replace

from crd.names import ModelName
from crd.v1alpha1 import FINALIZER, OllamaModel, Reason
from ollama_op import report
from ollama_op.bring import Bringer, settle
from ollama_op.decide import (
    Action,
    Claim,
    Discard,
    Leave,
    Observed,
    Pull,
    Rest,
    Verify,
    concerns,
    decide,
    owned,
    wanted,
    with_wanted,
)
from ollama_op.errors import (
    Conflict,
    KubeError,
    ModelAbsent,
    ModelBroken,
    OllamaError,
    OllamaUnreachable,
)
from ollama_op.instance import Instance
from ollama_op.subject import Objects, Subject, Writer
from ollama_op.supervise import Latest

KUBE_RETRY_S = (1.0, 2.0, 5.0, 15.0, 30.0)  # while the Kubernetes API does not take our writes


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
        self._bringer = Bringer(instance, progress_interval_s=progress_interval_s)
        self._clock, self._chance = now, chance

    async def run(self, box: Latest[OllamaModel]) -> None:
        """Keep one model as its object wishes, until the object is gone."""
        await self._instance.looked.wait()
        subject = Subject(box, kube=self._kube, objects=self._objects, clock=self._clock)
        troubles = 0
        while True:
            name = wanted(subject.model)
            try:
                with self._instance.follow(box, name if isinstance(name, ModelName) else None):
                    await self._step(subject)
                troubles = 0
            except Conflict:
                await subject.news(within_s=1)  # the newer version is on its way
            except KubeError as error:
                await self._wait_for_kubernetes(subject, error, troubles)
                troubles += 1

    async def _step(self, subject: Subject) -> None:
        action = decide(subject.model, self._observe(subject), subject.now)
        try:
            await self._perform(subject, action)
        except OllamaError as error:
            await self._fail(subject, action, error)

    def _observe(self, subject: Subject) -> Observed:
        name = wanted(subject.model)
        entry = self._instance.find(name) if isinstance(name, ModelName) else None
        return Observed(
            outage=self._instance.outage,
            digest=entry.digest if entry else None,
            shared=[each for each in with_wanted(subject.model) if subject.is_shared(each)],
        )

    async def _perform(self, subject: Subject, action: Action) -> None:
        match action:
            case Claim():
                await subject.set_finalizers(*subject.model.metadata.finalizers, FINALIZER)
            case Pull():
                await self._bringer.pull(subject, action)
            case Verify(name):
                entry = await self._instance.verify(name)
                if concerns(subject.model, action):
                    await settle(subject, name, entry)
            case Discard(names):
                await self._discard(subject, names)
            case Leave(names):
                await self._leave(subject, names)
            case Rest(verdict, until):
                if verdict is not None:
                    await subject.say(report.report(subject.model, verdict, subject.now))
                await subject.news(until=until)

    async def _discard(self, subject: Subject, names: tuple[ModelName, ...]) -> None:
        for name in names:
            await self._remove(subject, name)
        kept = tuple(str(each) for each in owned(subject.model) if each not in names)
        await subject.say(replace(subject.model.status, owned_models=kept))

    async def _leave(self, subject: Subject, names: tuple[ModelName, ...]) -> None:
        for name in names:
            await self._remove(subject, name)
        others = (each for each in subject.model.metadata.finalizers if each != FINALIZER)
        await subject.set_finalizers(*others)
        subject.log.info("released", models=[str(name) for name in names])

    async def _remove(self, subject: Subject, name: ModelName) -> None:
        if subject.is_needed(name):
            return  # not even worth waiting for whoever acts on the name
        if await self._instance.remove(name, unless=lambda: subject.is_needed(name)):
            subject.log.info("model deleted", model=str(name))

    async def _fail(self, subject: Subject, action: Action, error: OllamaError) -> None:
        if isinstance(error, ModelAbsent) or not concerns(subject.model, action):
            return  # the list, or the object, has moved on: decide anew
        if isinstance(error, OllamaUnreachable):
            self._instance.suspect()
        reason = _reason(action, error)
        status = report.failed(
            subject.model, error, subject.now, reason=reason, chance=self._chance()
        )
        subject.log.warning(
            "failed, will retry" if status.next_retry_time else "failed, a person must act",
            reason=reason,
            problem=str(error),
            attempt=status.attempts,
            next=status.next_retry_time and status.next_retry_time.isoformat(),
        )
        if status.attempts == 1:  # the condition tells of the others
            what = "DiscardFailed" if reason is Reason.AVAILABLE else reason
            subject.event("Warning", what, str(error))
        await subject.say(status)

    async def _wait_for_kubernetes(self, subject: Subject, error: KubeError, troubles: int) -> None:
        wait_s = KUBE_RETRY_S[min(troubles, len(KUBE_RETRY_S) - 1)] * (1 + self._chance())
        wait_s = max(wait_s, error.retry_after_s)
        subject.log.warning(
            "kubernetes write failed, will retry", problem=str(error), retry_in_s=wait_s
        )
        await anyio.sleep(wait_s)


def _reason(action: Action, error: OllamaError) -> Reason:
    """Place an error in what was being done when it came."""
    match action:
        case Leave():
            return Reason.DELETION_BLOCKED
        case Discard():
            return Reason.AVAILABLE
        case Pull(why=Reason.REFRESHING) if not isinstance(error, ModelBroken):
            return Reason.REFRESH_FAILED
        case _:
            return error.reason
