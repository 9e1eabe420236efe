"""One Ollama server: who may change what on it, and when.

Three rules keep models whole. A name has one owner at a time: who pulls, loads or deletes it
holds its lock, and the second one to ask finds the work done. Pulls take one of a few slots;
deletions take none, so that no deletion waits for a long download. And since Ollama, deleting one
model, drops layers that a running pull of another still counts on, a pull that a deletion
overlapped is looked at again after that deletion, and repeated if it is not whole.
"""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from http import HTTPStatus
from itertools import count

import anyio

from crd.names import ModelName
from ollama_op.base import tracing
from ollama_op.base.errors import (
    ModelAbsent,
    ModelBroken,
    OllamaError,
    ProtocolError,
    PullStalled,
    PullTimedOut,
    Refused,
)
from ollama_op.base.observer import NOBODY, Observer
from ollama_op.ollama.client import OllamaClient
from ollama_op.ollama.progress import Meter
from ollama_op.ollama.wire import Entry
from ollama_op.policy.decide import Pull
from ollama_op.server.grace import Grace
from ollama_op.server.memory import Memory, Stays
from ollama_op.server.monitor import ServerMonitor

VERIFYING = "verifying sha256 digest"  # from here on Ollama writes the model, whoever listens
REMOVING = "removing unused layers"  # how a pull says that it drops those of an older version
PULLS_AT_MOST = 3  # in a row for one model, when deletions keep getting in the way


class WaitsFor(Enum):
    """What a pull has to wait for before it begins."""

    SLOT = "a download slot"
    NAME = "what is under way for the same model"


class Download:
    """A pull as its waiters see it."""

    def __init__(self, waits_for: WaitsFor | None = None) -> None:
        self.waits_for = waits_for
        self.begun = anyio.Event()  # set when its turn has come
        self.is_ending = False  # all bytes are there; to cut it off would not keep the model away
        self.meter = Meter(anyio.current_time())
        self.took_s = 0.0  # of the download itself, without the waiting
        self.is_taken_over = False  # there was none: the model had been kept under another name


class Instance:
    """Changes what is on the server that `monitor` looks at, which must be running."""

    def __init__(
        self,
        client: OllamaClient,
        monitor: ServerMonitor,
        *,
        stall_timeout_s: float,
        max_concurrent_pulls: int,
        deletion_grace_s: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        observer: Observer = NOBODY,
    ) -> None:
        self._client, self.monitor, self._observer = client, monitor, observer
        self._stall_timeout_s = stall_timeout_s
        self.max_concurrent_pulls = max_concurrent_pulls
        self._slots = anyio.CapacityLimiter(max_concurrent_pulls)
        self._locks: dict[ModelName, tuple[anyio.Lock, int]] = {}
        self._downloads: set[Download] = set()
        self._deletions: set[anyio.Event] = set()  # under way; each is set at its end
        self._deletions_begun = 0
        self._is_closing = False
        self._memory = Memory(client, monitor)
        self.grace = Grace(client, monitor, self, seconds=deletion_grace_s, now=now)
        # What was downloaded afresh and still cannot be shown: its digest, and what is wrong.
        self._in_vain: dict[ModelName, tuple[str | None, str]] = {}

    @property
    def pulls_waiting(self) -> int:
        """How many downloads wait for a slot."""
        return self._slots.statistics().tasks_waiting

    @contextmanager
    def enlist(self, name: ModelName) -> Generator[Download]:
        """Announce a pull of `name`, before anything is awaited on its account."""
        full = len(self._downloads) >= self.max_concurrent_pulls
        # Whoever waits for the name may find the model there, and never needs a slot.
        download = Download(
            WaitsFor.NAME if name in self._locks else WaitsFor.SLOT if full else None
        )
        self._downloads.add(download)
        try:
            yield download
        finally:
            self._downloads.discard(download)

    async def pull(
        self,
        pull: Pull,
        download: Download,
        *,
        retried: bool = False,
        stays: Stays,
    ) -> Entry:
        """Bring the model to the server and see it whole.

        Already there, it is only verified, unless it is pulled `again`. One that cannot be shown is
        an error, unless it is pulled to `repair` it: first over what is there, then, if that does
        not mend it, after a deletion. What was `retried` may have left parts on the server that
        nobody has checked. Cancelled, it ends the download and keeps the part.
        A version that is replaced is taken out of memory as the download of the new one begins,
        since it could not be later; `stays` hears if that fails.

        Raises: OllamaError.
        """
        name, repair, fetch = pull.name, pull.repair, partial(self._fetch, pull, download, stays)
        async with self.alone(name):
            had = self._digest(name)
            if repair or (had and not pull.again):
                entry = await self._verify_or(name, repair=repair)
                if entry and not pull.again:
                    return entry
                repair = entry is None
            if had is None and not pull.again and (entry := await self._take_over(name, download)):
                return entry

            def is_fresh(has: str | None) -> bool:
                if retried or has in (None, had):
                    return False
                # The list may be older than the model: then nothing is seen to arrive.
                return had is not None or download.meter.is_mostly_new

            try:
                return await fetch(is_fresh)
            except ModelBroken as error:
                if not repair or error.fresh or error.whole:
                    raise
            # What the registry has does not mend what is there, and it has all of it.
            await self._delete(name, stays)
            return await fetch(lambda _has: True)

    async def _verify_or(self, name: ModelName, *, repair: bool) -> Entry | None:
        """Check that the model is whole; None if it is not, and is to be repaired."""
        try:
            # Another pull may have brought the layer that was missing.
            return await self.verify(name, again=repair)
        except (ModelAbsent, ModelBroken):
            if not repair:
                raise
            in_vain = self._in_vain.get(name)
            if in_vain and in_vain[0] == self._digest(name):
                # What was in vain for one object is not done for another.
                raise ModelBroken(in_vain[1], fresh=True) from None
            return None

    async def _take_over(self, name: ModelName, download: Download) -> Entry | None:
        """Restore a model that was let go of a while ago; None if it is not kept."""
        if self.grace.kept_until(name) is None or not await self._is_absent(name):
            return None
        if not await self.grace.take_back(name):
            return None
        await self.monitor.refresh()
        entry = await self._see_whole(name)
        download.is_taken_over = True
        await self.grace.settle(name)
        return entry

    async def _is_absent(self, name: ModelName) -> bool:
        """Return True if Ollama says that it has nothing under this name, or takes no such name."""
        try:
            await self._client.show(name)
        except ModelAbsent:
            return True
        except Refused as no:
            return no.status == HTTPStatus.BAD_REQUEST
        except OllamaError:
            pass
        return False

    async def _fetch(
        self,
        pull: Pull,
        download: Download,
        stays: Stays,
        is_fresh: Callable[[str | None], bool],
    ) -> Entry:
        """Pull the model and see it whole; `is_fresh` tells of its digest if all of it is new."""
        name, left = pull.name, list[OllamaError]()
        old = self.monitor.find(name)
        make_way = partial(self._memory.make_way, old, name, left.append)
        for attempt in count(1):
            undisturbed = await self._download(pull, download, make_way)
            await self.monitor.refresh()
            try:
                entry = await self._see_whole(name)
            except (ModelAbsent, ModelBroken) as error:
                if undisturbed or attempt == PULLS_AT_MOST:
                    raise self._in_spite(name, error, fresh=is_fresh(self._digest(name))) from error
            else:
                if left and old is not None and entry.digest != old.digest:
                    stays(left[-1])
                else:
                    await self._memory.clear(old, entry, name, stays)
                return entry
        raise AssertionError("unreachable")

    def _in_spite(self, name: ModelName, error: OllamaError, *, fresh: bool) -> ModelBroken:
        """Return what is wrong with a model although Ollama has said that it is pulled."""
        problem = f"Ollama said success, yet: {error}"
        if fresh:
            self._in_vain[name] = (self._digest(name), problem)
        whole = isinstance(error, ModelBroken) and error.whole
        return ModelBroken(problem, fresh=fresh, whole=whole)

    def _digest(self, name: ModelName) -> str | None:
        entry = self.monitor.find(name)
        return entry.digest if entry else None

    async def verify(self, name: ModelName, *, again: bool = False) -> Entry:
        """Check that the server can show a model that its list has.

        With `again` it could not before, and that is confirmed only while all else is Ollama's own.

        Raises: ModelAbsent, ModelBroken, OllamaUnreachable, NotOllama, ProtocolError.
        """
        if again:
            await self._client.version()
            await self.monitor.refresh()
        elif self.monitor.find(name) is None:
            raise self._unlisted(name)
        return await self._see_whole(name)

    async def _see_whole(self, name: ModelName) -> Entry:
        """Ask for the model, be it listed or not: one with a bad configuration is not."""
        try:
            await self._client.show(name)
        except ModelAbsent:
            await self.monitor.refresh()  # the list may be older than the loss
            if self.monitor.find(name):
                self._expect_local(name, "not found")
                raise ModelBroken(f"Ollama lists {name} but cannot show it") from None
            raise self._unlisted(name) from None
        except ModelBroken as error:
            self._expect_local(name, str(error))
            raise
        if (entry := self.monitor.find(name)) is None:
            raise self._unlisted(name)
        self._in_vain.pop(name, None)
        return entry

    def _unlisted(self, name: ModelName) -> OllamaError:
        if problem := self.monitor.doubt(name):
            return ProtocolError(problem)
        return ModelAbsent(f"Ollama does not list {name}")

    def _expect_local(self, name: ModelName, problem: str) -> None:
        """Raise ProtocolError for a cloud model: its cloud's word tells nothing of the server."""
        entry = self.monitor.find(name)
        if entry is not None and (host := entry.runs_on) is not None:
            raise ProtocolError(
                f"{name} runs on {host}, and Ollama cannot show it: {problem}",
                "see whether Ollama is signed in there (`ollama signin`) and may reach it",
            )

    async def remove(
        self,
        name: ModelName,
        *,
        unless: Callable[[], bool],
        stays: Stays,
        has_grace: bool = False,
    ) -> bool:
        """Delete the model and see it gone; return True if that was done.

        `unless` is asked when nobody else can act on the name any more, and right before the
        deletion: true keeps the model. `stays` hears if it may stay in memory. With `has_grace` it
        is kept under another name for a while, if that is set.

        Raises: OllamaError.
        """
        async with self.alone(name):
            if unless():
                return False
            if has_grace and not self._is_closing:
                await self.grace.keep(name, unless)
            return await self._delete(name, stays, unless)

    async def delete_quietly(self, name: ModelName) -> bool:
        """Delete a name, whatever is in memory, and see it gone; the caller has it for itself.

        Raises: OllamaError.
        """
        return await self._delete(name, None)

    async def close(self) -> None:
        """Begin no more deletions, and wait for those under way: nobody is to do them again."""
        self._is_closing = True
        for ended in [*self._deletions]:
            await ended.wait()

    async def load(self, name: ModelName, keep_alive_s: float) -> None:
        """Load the model, for so long after each use; infinite is for ever.

        Raises: OllamaError; LoadFailed also while it has to yield to others.
        """
        async with self.alone(name):
            await self._memory.load(name, keep_alive_s)

    async def unload(self, name: ModelName) -> None:
        """Take the model out of memory, under whichever of its names it is there.

        Raises: OllamaError.
        """
        async with self.alone(name):
            await self._memory.unload(name)

    async def _download(
        self, pull: Pull, download: Download, make_way: Callable[[], Awaitable[None]]
    ) -> bool:
        """Run one pull to Ollama's success; return True if no deletion came near it."""
        async with self._slots:
            download.begun.set()
            tracing.current().event("download slot taken")
            before, busy = self._deletions_begun, bool(self._deletions)
            began = anyio.current_time()
            with self._observer.pulling(download.meter.received):
                with anyio.move_on_after(pull.timeout_s) as limit:
                    await self._read_steps(pull, download, make_way)
                download.took_s += anyio.current_time() - began
                if limit.cancelled_caught:
                    raise PullTimedOut(
                        f"The pull took longer than {pull.timeout_s:g} s (spec.timeout)"
                    )
        for deletion in tuple(self._deletions):
            await deletion.wait()
        return not busy and before == self._deletions_begun

    async def _read_steps(
        self, pull: Pull, download: Download, make_way: Callable[[], Awaitable[None]]
    ) -> None:
        is_new = False
        download.is_ending = False
        with anyio.move_on_after(self._stall_timeout_s) as watchdog, ExitStack() as stack:
            async with self._client.pull(pull.name, insecure=pull.insecure) as steps:
                async for step in steps:
                    download.is_ending |= step.status == VERIFYING
                    if step.status == REMOVING:
                        stack.enter_context(self._deleting())
                    now = anyio.current_time()
                    if download.meter.take(step, now):
                        watchdog.deadline = now + self._stall_timeout_s
                    if step.completed < step.total and not is_new:
                        is_new, watchdog.deadline = True, math.inf
                        await make_way()
                        watchdog.deadline = anyio.current_time() + self._stall_timeout_s
        if watchdog.cancelled_caught:
            tracing.current().event("stalled", {"ollama_op.silent_s": self._stall_timeout_s})
            raise PullStalled(f"No progress for {self._stall_timeout_s:g} s")

    async def _delete(
        self,
        name: ModelName,
        stays: Stays | None,  # None: it is in memory under no name, or under another one
        unless: Callable[[], bool] = lambda: False,
    ) -> bool:
        if self._is_closing:
            await anyio.sleep_forever()  # whoever comes next does it
        with self._deleting():
            # Once deleted, it could no longer be taken out of memory.
            problem = None if stays is None else await self._memory.drop(name)
            if not self.monitor.has(name):
                await self.monitor.refresh()  # probably deleted by an earlier attempt
            is_listed = self.monitor.has(name) or self.monitor.doubt(name) is not None
            # A damaged download is in no list, and may be there all the same.
            if not is_listed and await self._is_absent(name):
                return not unless()
            if not await self._client.delete(name, unless):
                return False
        await self.monitor.refresh(hurry=True)
        if self.monitor.has(name):
            raise ProtocolError(f"Ollama still lists {name} after deleting it")
        self._memory.forget(name)
        self._in_vain.pop(name, None)
        if stays is not None and problem is not None:
            stays(problem)
        return True

    @contextmanager
    def _deleting(self) -> Generator[None]:
        """Record that layers go which a pull under way may count on."""
        ended = anyio.Event()
        self._deletions.add(ended)
        self._deletions_begun += 1
        try:
            yield
        finally:
            self._deletions.discard(ended)
            ended.set()

    @asynccontextmanager
    async def alone(self, name: ModelName) -> AsyncGenerator[None]:
        """Hold the lock of `name`; others wait in line."""
        lock, waiting = self._locks.get(name, (anyio.Lock(), 0))
        self._locks[name] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._locks.pop(name)
            if waiting > 1:
                self._locks[name] = (lock, waiting - 1)
