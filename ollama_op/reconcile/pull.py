"""Bringing a model: the pull, the progress that is shown of it, and what is said at its end."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from msgspec.structs import replace

from crd.model import OllamaModel
from crd.names import ModelName
from crd.occasions import Occasion
from crd.reasons import Reason, Verdict
from crd.v1alpha1 import ANY_REFRESH, REFRESH, REFRESHED, Progress
from ollama_op.base.errors import KubeError, NotLeading, OllamaError, PullFailed, UnexpectedDigest
from ollama_op.base.sizes import formatted_size
from ollama_op.ollama.wire import Entry
from ollama_op.policy import report
from ollama_op.policy.decide import Pull, concerns
from ollama_op.reconcile.handle import Handle
from ollama_op.server.instance import Download, WaitsFor

T = TypeVar("T")

BRIEF_S = 0.5  # a phase shorter than this is not worth a write


class Puller:
    """Brings models to their Ollama servers."""

    def __init__(self, *, progress_interval_s: float) -> None:
        self._progress_interval_s = progress_interval_s

    async def pull(self, handle: Handle, pull: Pull) -> None:
        """Pull a model and say how that goes, unless the object stops wanting it.

        Raises: OllamaError, KubeError.
        """
        wish = handle.model.refresh_wish
        handle.has_pulled = True
        _tell_why(handle, pull)
        with handle.server.enlist(pull.name) as download:
            # Said before Ollama is touched: should the operator die in the middle, its successor
            # knows from the status what may have to be removed one day.
            await self._say_under_way(handle, pull, waits_for=download.waits_for)
            entry = await self._download(handle, pull, download)
        if entry is None or not concerns(handle.model, pull):
            handle.log.info("pull cancelled: no longer wanted", model=str(pull.name))
            return
        is_new = entry.digest != handle.model.status.digest
        if download.begun.is_set() and is_new:
            _tell_pulled(handle, pull, entry, round(download.took_s, 1))
        if wish is not None or pull.why is Reason.REFRESHING:
            await _finish_refresh(handle, wish, entry)
        if download.is_taken_over:
            _tell_taken_over(handle, pull)
        await settle(
            handle,
            pull.name,
            entry,
            pulled=download.begun.is_set(),
            found=download.is_taken_over,
            wish=wish,
        )

    async def _download(self, handle: Handle, pull: Pull, download: Download) -> Entry | None:
        """Pull with the object and the status in view; None if it was cancelled as moot."""

        async def fetch() -> Entry:
            return await handle.server.pull(
                pull,
                download,
                retried=bool(handle.model.status.attempts),
                stays=lambda error: handle.stays_in_memory(pull.name, error),
            )

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._show_progress, handle, pull, download)
            entry, error = await unless_moot(
                handle, fetch, is_moot=lambda: _is_moot(handle.model, pull, download)
            )
            tasks.cancel_scope.cancel()
        if isinstance(error, PullFailed) and error.is_final:
            self._require_expected(handle, pull.name, error)
        if error is not None:
            raise error
        return entry

    def _require_expected(self, handle: Handle, name: ModelName, error: PullFailed) -> None:
        """Put first what is wrong with the model that is there: the registry was asked for that.

        Raises: UnexpectedDigest.
        """
        there, expected = handle.server.monitor.find(name), _expected_digest(handle)
        if there is not None and expected not in (None, there.digest):
            raise UnexpectedDigest(
                f"{name} is {there.digest}, and spec.expectedDigest is {expected}. The registry"
                f" gives no other ({error.reason}). To accept this one, set spec.expectedDigest to"
                f" {there.digest}."
            ) from error

    async def _show_progress(self, handle: Handle, pull: Pull, download: Download) -> None:
        await download.begun.wait()
        await anyio.sleep(BRIEF_S)
        if pull.why is Reason.PULLING and not handle.model.status.attempts:
            handle.event(Occasion.PULLING, model=pull.name)
        if download.waits_for is None:
            await anyio.sleep(self._progress_interval_s - BRIEF_S)
        while True:
            try:
                await self._say_under_way(
                    handle, pull, download.meter.progress(anyio.current_time())
                )
            except (KubeError, NotLeading) as error:  # said beside the work, never in its way
                handle.log.debug("progress not written", problem=str(error))
            await anyio.sleep(self._progress_interval_s)

    async def _say_under_way(
        self,
        handle: Handle,
        pull: Pull,
        progress: Progress | None = None,
        *,
        waits_for: WaitsFor | None = None,
    ) -> None:
        why = pull.why
        if why is Reason.REFRESHING and handle.server.monitor.find(pull.name) is None:
            why = Reason.MODEL_LOST  # the old version, meant to stay in use, is not there any more
        verdict = Verdict(why, report.fetching(why, progress))
        if waits_for is not None and why is Reason.PULLING:
            limit = handle.server.max_concurrent_pulls
            among = f" (limit {limit})" if waits_for is WaitsFor.SLOT else ""
            verdict = Verdict.of(Reason.QUEUED, what=f"{waits_for.value}{among}")
        await handle.write_status(
            report.under_way(handle.model, pull.name, verdict, progress, handle.now)
        )


def _is_moot(model: OllamaModel, pull: Pull, download: Download) -> bool:
    """Return True if a download is to be cut off.

    Ollama writes a model that it verifies even when the connection is closed: a deletion would find
    nothing, let go of the object, and the model would come after it. So that end is waited for.
    """
    awaited = download.is_ending and model.desired.is_removed
    return not concerns(model, pull) and not awaited


async def settle(
    handle: Handle,
    name: ModelName,
    entry: Entry,
    *,
    pulled: bool = False,
    found: bool = False,
    wish: str | None = None,
) -> None:
    """Write that the model is there as `entry`; `wish` is the refresh token that this serves.

    `found` is for one that was there before, though a pull was begun for it.

    Raises: UnexpectedDigest if it is another one than the spec wants; KubeError.
    """
    handled = handle.model.status.last_handled_refresh
    if wish is not None and wish != ANY_REFRESH:
        handled = wish
    expected = _expected_digest(handle)
    if expected not in (None, entry.digest):
        await handle.write_status(replace(handle.model.status, last_handled_refresh=handled))
        raise UnexpectedDigest(
            f"{name} is {entry.digest}, and spec.expectedDigest is {expected}. If only Ollama was"
            " upgraded, the model may be the same: newer versions show the digest of the"
            f" registry's own bytes. To accept it, set spec.expectedDigest to {entry.digest};"
            " otherwise request a refresh once the registry has the expected one."
        )
    status = report.available(handle.model, name, entry, handle.now, pulled=pulled, found=found)
    await handle.write_status(replace(status, last_handled_refresh=handled))


def _expected_digest(handle: Handle) -> str | None:
    care = handle.model.desired.options
    return None if isinstance(care, Verdict) else care.expected_digest


async def unless_moot(
    handle: Handle, act: Callable[[], Awaitable[T]], *, is_moot: Callable[[], bool]
) -> tuple[T | None, OllamaError | NotLeading | None]:
    """Act until that is moot; return what came of it, or what went wrong, or neither.

    `is_moot` is asked whenever there is news for the object. An error is returned, since one that
    left the group of tasks by itself would come wrapped.
    """
    outcome: T | None = None
    failure: OllamaError | NotLeading | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_when_moot, handle, is_moot, tasks.cancel_scope)
        try:
            outcome = await act()
        except (OllamaError, NotLeading) as error:
            failure = error
        tasks.cancel_scope.cancel()
    return outcome, failure


async def _cancel_when_moot(
    handle: Handle, is_moot: Callable[[], bool], scope: anyio.CancelScope
) -> None:
    await handle.news()  # what was known before has just been decided on
    while not is_moot():
        await handle.news()
    scope.cancel()


def _tell_why(handle: Handle, pull: Pull) -> None:
    """Send the event with which a pull begins, unless it is one more try."""
    if handle.model.status.attempts:
        return
    match pull.why:
        case Reason.MODEL_LOST:
            handle.event(Occasion.MODEL_LOST, model=pull.name)
        case Reason.REFRESHING:
            handle.event(Occasion.REFRESH_STARTED, model=pull.name)
        case _:
            pass


def _tell_pulled(handle: Handle, pull: Pull, entry: Entry, took_s: float) -> None:
    size = formatted_size(entry.size)
    handle.log.info(
        "pull completed", model=str(pull.name), size_bytes=entry.size, duration_s=took_s
    )
    handle.event(Occasion.PULLED, model=pull.name, size=size, seconds=took_s)
    if pull.why in (Reason.MODEL_LOST, Reason.MODEL_BROKEN):
        handle.event(Occasion.MODEL_RESTORED, model=pull.name)


def _tell_taken_over(handle: Handle, pull: Pull) -> None:
    handle.log.info("kept model taken over", model=str(pull.name))
    handle.event(Occasion.TAKEN_OVER, model=pull.name)
    if pull.why is Reason.MODEL_LOST:
        handle.event(Occasion.MODEL_RESTORED, model=pull.name)


async def _finish_refresh(handle: Handle, wish: str | None, entry: Entry) -> None:
    old, new = (handle.model.status.digest or "none")[:8], entry.digest[:8]
    # A token that came meanwhile is another wish, and not written over.
    if wish == ANY_REFRESH and handle.model.refresh_wish == wish:
        await handle.annotate(REFRESH, f"{REFRESHED}{handle.now:%Y-%m-%dT%H:%M:%SZ}")
    occasion = Occasion.REFRESHED if old != new else Occasion.NOTHING_NEWER
    handle.event(occasion, old=old, new=new)
    handle.log.info("refresh completed", digest_before=old, digest=new)
