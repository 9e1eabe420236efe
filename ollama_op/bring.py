"""Bringing a model: the pull, the progress that is shown of it, and what is said at its end."""

import anyio
from msgspec.structs import replace

from crd.names import ModelName
from crd.v1alpha1 import ANY_REFRESH, REFRESH, REFRESHED, Progress, Reason
from ollama_op import report
from ollama_op.decide import Pull, Verdict, concerns, refresh_wish
from ollama_op.errors import KubeError, OllamaError
from ollama_op.instance import Download, Instance
from ollama_op.subject import Subject
from ollama_op.wire import Entry

BRIEF_S = 0.5  # a phase shorter than this is not worth a write


class Bringer:
    """Brings models to one Ollama server."""

    def __init__(self, instance: Instance, *, progress_interval_s: float) -> None:
        self._instance = instance
        self._progress_interval_s = progress_interval_s

    async def pull(self, subject: Subject, pull: Pull) -> None:
        """Pull a model and say how that goes, unless the object stops wanting it.

        Raises: OllamaError, KubeError.
        """
        wish, began = refresh_wish(subject.model), anyio.current_time()
        if pull.why is Reason.MODEL_LOST:
            subject.event("Warning", "ModelLost", f"{pull.name} vanished from Ollama.")
        with self._instance.enlist(pull.name) as download:
            # Said before Ollama is touched: should the operator die in the middle, its successor
            # knows from the status what may have to be removed one day.
            await self._say_under_way(subject, pull, queued=download.queued)
            entry = await self._download(subject, pull, download)
        if entry is None or not concerns(subject.model, pull):
            subject.log.info("pull cancelled: no longer wanted", model=str(pull.name))
            return
        is_new = entry.digest != subject.model.status.digest
        if download.begun.is_set() and is_new:
            _tell_pulled(subject, pull, entry, round(anyio.current_time() - began, 1))
        if wish is not None:
            await _finish_refresh(subject, wish, entry)
        await settle(subject, pull.name, entry, pulled=download.begun.is_set(), wish=wish)

    async def _download(self, subject: Subject, pull: Pull, download: Download) -> Entry | None:
        """Pull with the object and the status in view; None if it was cancelled as moot."""
        outcome: Entry | OllamaError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_when_moot, subject, pull, tasks.cancel_scope)
            tasks.start_soon(self._show_progress, subject, pull, download)
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

    async def _show_progress(self, subject: Subject, pull: Pull, download: Download) -> None:
        await download.begun.wait()
        await anyio.sleep(BRIEF_S if download.queued else self._progress_interval_s)
        while True:
            try:
                await self._say_under_way(
                    subject, pull, download.meter.progress(anyio.current_time())
                )
            except KubeError as error:  # said beside the work, never in its way
                subject.log.debug("progress not written", problem=str(error))
            await anyio.sleep(self._progress_interval_s)

    async def _say_under_way(
        self,
        subject: Subject,
        pull: Pull,
        progress: Progress | None = None,
        *,
        queued: bool = False,
    ) -> None:
        verdict = Verdict(pull.why, report.fetching(pull.why, progress))
        if queued and pull.why is Reason.PULLING:
            limit = self._instance.max_concurrent_pulls
            verdict = Verdict(Reason.QUEUED, f"Waiting for a download slot (limit {limit}).")
        await subject.say(
            report.under_way(subject.model, pull.name, verdict, progress, subject.now)
        )


async def settle(
    subject: Subject,
    name: ModelName,
    entry: Entry,
    *,
    pulled: bool = False,
    wish: str | None = None,
) -> None:
    """Say that the model is there as `entry`; `wish` is the refresh token that this serves.

    Raises: KubeError.
    """
    status = report.available(subject.model, name, entry, subject.now, pulled=pulled)
    if wish is not None and wish != ANY_REFRESH:
        status = replace(status, last_handled_refresh=wish)
    await subject.say(status)


async def _cancel_when_moot(subject: Subject, pull: Pull, scope: anyio.CancelScope) -> None:
    while concerns(subject.model, pull):
        await subject.news()
    scope.cancel()


def _tell_pulled(subject: Subject, pull: Pull, entry: Entry, took_s: float) -> None:
    size = report.formatted_size(entry.size)
    subject.log.info(
        "pull completed", model=str(pull.name), size_bytes=entry.size, duration_s=took_s
    )
    subject.event("Normal", "Pulled", f"Pulled {pull.name}, {size} in {took_s:g} s.")
    if pull.why is Reason.MODEL_LOST:
        subject.event("Normal", "ModelRestored", f"{pull.name} is back.")


async def _finish_refresh(subject: Subject, wish: str, entry: Entry) -> None:
    old, new = (subject.model.status.digest or "none")[:8], entry.digest[:8]
    # A token that came meanwhile is another wish, and not written over.
    if wish == ANY_REFRESH and refresh_wish(subject.model) == wish:
        await subject.annotate(REFRESH, f"{REFRESHED}{subject.now:%Y-%m-%dT%H:%M:%SZ}")
    what = f"changed from {old} to {new}" if old != new else f"is still {new}"
    subject.event("Normal", "RefreshCompleted", f"Digest {what}.")
    subject.log.info("refresh completed", digest_before=old, digest=new)
