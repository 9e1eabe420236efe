"""One Ollama server, and everything about it that its models share.

One list of its models serves all of them: it is read once an interval, once more when somebody
needs to know what is true right now, and never twice at a time. So the cost of watching grows
with servers, not with models.

Three rules keep models whole. A name has one owner at a time: who pulls or deletes it holds its
lock, and the second one to ask finds the work done. Pulls take one of a few slots; deletions take
none, so that no deletion waits for a long download. And since Ollama, deleting one model, drops
layers that a running pull of another still counts on, a pull that a deletion overlapped is looked
at again after that deletion, and repeated if it is not whole.
"""

import math
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import count
from typing import Any

import anyio
import structlog

from crd.names import ModelName
from ollama_op.errors import (
    ModelAbsent,
    ModelBroken,
    OllamaError,
    OllamaUnreachable,
    ProtocolError,
    PullStalled,
)
from ollama_op.ollama import OllamaClient
from ollama_op.progress import Meter
from ollama_op.supervise import Latest
from ollama_op.wire import Entry

log = structlog.get_logger(__name__)

LONGEST_DOUBLING = 10  # of the pause between probes in an outage
SECOND_LOOK_S = 1.0  # one lost answer is no outage; this much later, a second one is
LOOK_GAP_S = 0.2  # between the starts of two lists: what is asked for meanwhile shares one
REMOVING = "removing unused layers"  # how a pull says that it drops those of an older version
PULLS_AT_MOST = 3  # in a row for one model, when deletions keep getting in the way


class Download:
    """A pull as those see it who wait for it."""

    def __init__(self, *, queued: bool) -> None:
        self.queued = queued  # it will have to wait for its turn
        self.begun = anyio.Event()  # set when its turn has come
        self.meter = Meter(anyio.current_time())


class Instance:
    """An Ollama server. `run()` must be running for anything else to work."""

    def __init__(
        self,
        client: OllamaClient,
        *,
        health_interval_s: float,
        stall_timeout_s: float,
        max_concurrent_pulls: int,
    ) -> None:
        self._client = client
        self._interval_s = health_interval_s
        self._stall_timeout_s = stall_timeout_s
        self.max_concurrent_pulls = max_concurrent_pulls
        self.outage: str | None = None  # why the server cannot be asked; None while it answers
        self.looked = anyio.Event()  # set after the first look, whatever it found
        self._models: Mapping[ModelName, Entry] = {}
        self._asked, self._next_look = anyio.Event(), anyio.Event()
        self._slots = anyio.CapacityLimiter(max_concurrent_pulls)
        self._locks: dict[ModelName, tuple[anyio.Lock, int]] = {}
        self._downloads: set[Download] = set()
        self._deletions: set[anyio.Event] = set()  # under way; each is set at its end
        self._deletions_begun = 0
        self._followers: defaultdict[ModelName | None, set[Latest[Any]]] = defaultdict(set)

    # --- knowing what is there

    async def run(self) -> None:
        """Keep the list of models fresh, for ever."""
        failures = 0
        while True:
            started = anyio.current_time()
            failures = 0 if await self._look_once() else failures + 1
            # An outage is probed at a growing distance; a healthy server once an interval.
            doubled_s = 2.0 ** min(failures - 1, LONGEST_DOUBLING) if failures else math.inf
            pause_s = min(doubled_s, self._interval_s)
            with anyio.move_on_after(pause_s):
                await self._asked.wait()
            await anyio.sleep_until(started + (SECOND_LOOK_S if failures else LOOK_GAP_S))

    def find(self, name: ModelName) -> Entry | None:
        """Return the model as the newest list has it."""
        return self._models.get(name)

    async def look(self) -> None:
        """Wait for a list that was begun after this call.

        Raises: OllamaUnreachable.
        """
        look = self._next_look
        self._asked.set()
        await look.wait()
        if self.outage is not None:
            raise OllamaUnreachable(self.outage)

    def suspect(self) -> None:
        """Have the server looked at soon: somebody could not reach it."""
        self._asked.set()

    @contextmanager
    def follow(self, box: Latest[Any], name: ModelName | None) -> Generator[None]:
        """Poke `box` whenever the server goes or comes back, or the entry of `name` changes."""
        self._followers[name].add(box)
        try:
            yield
        finally:
            self._followers[name].discard(box)
            if not self._followers[name]:
                del self._followers[name]

    async def _look_once(self) -> bool:
        done, self._next_look, self._asked = self._next_look, anyio.Event(), anyio.Event()
        models, outage = self._models, None
        try:
            models = await self._list()
        except OllamaError as error:
            outage = str(error)
        self._publish(models, outage)
        self.looked.set()
        done.set()
        return outage is None

    async def _list(self) -> Mapping[ModelName, Entry]:
        try:
            return await self._client.tags()
        except OllamaError:
            if self.outage is not None:
                raise
            await anyio.sleep(SECOND_LOOK_S)
            return await self._client.tags()

    def _publish(self, models: Mapping[ModelName, Entry], outage: str | None) -> None:
        before, earlier = self._models, self.outage
        self._models, self.outage = models, outage
        turned = (outage is None) != (earlier is None)
        if turned:
            if outage is None:
                log.info("ollama answers again", server=self._client.where)
            else:
                log.warning("ollama unreachable", server=self._client.where, problem=outage)
        for name, boxes in self._followers.items():
            changed = name is not None and before.get(name) != models.get(name)
            if turned or changed:
                for box in boxes:
                    box.poke()

    # --- changing what is there

    @contextmanager
    def enlist(self, name: ModelName) -> Generator[Download]:
        """Announce a pull of `name`, before anything is awaited on its account."""
        full = len(self._downloads) >= self.max_concurrent_pulls
        download = Download(queued=full or name in self._locks)
        self._downloads.add(download)
        try:
            yield download
        finally:
            self._downloads.discard(download)

    async def pull(
        self, name: ModelName, download: Download, *, again: bool = False, repair: bool = False
    ) -> Entry:
        """Bring the model to the server and see it whole.

        Already there, it is only verified, unless `again` asks the registry for a newer version
        or `repair` for a fresh start. Cancelled, it ends the download and keeps the part.

        Raises: OllamaError.
        """
        async with self._alone(name):
            if self.find(name) and not again:
                try:
                    return await self.verify(name)
                except (ModelAbsent, ModelBroken):
                    if not repair:
                        raise
            if repair:
                await self._delete(name)
            for attempt in count(1):
                undisturbed = await self._download(name, download)
                await self.look()
                try:
                    return await self.verify(name)
                except (ModelAbsent, ModelBroken) as error:
                    if undisturbed or attempt == PULLS_AT_MOST:
                        raise ModelBroken(f"Ollama said success, yet: {error}") from error
            raise AssertionError("unreachable")

    async def verify(self, name: ModelName) -> Entry:
        """See that the server can show a model that its list has.

        Raises: ModelAbsent, ModelBroken, OllamaUnreachable, ProtocolError.
        """
        if self.find(name):
            try:
                await self._client.show(name)
            except ModelAbsent:
                await self.look()  # the list may be older than the loss
                if self.find(name):
                    raise ModelBroken(f"Ollama lists {name} but cannot show it") from None
        if entry := self.find(name):
            return entry
        raise ModelAbsent(f"Ollama does not list {name}")

    async def remove(self, name: ModelName, *, unless: Callable[[], bool]) -> bool:
        """Delete the model and see it gone; tell whether that was done.

        `unless` is asked when nobody else can act on the name any more, and right before the
        deletion: true keeps the model.

        Raises: OllamaError.
        """
        async with self._alone(name):
            return not unless() and await self._delete(name, unless)

    async def _download(self, name: ModelName, download: Download) -> bool:
        """Run one pull to Ollama's success; tell whether no deletion came near it."""
        async with self._slots:
            download.begun.set()
            before, busy = self._deletions_begun, bool(self._deletions)
            await self._read_steps(name, download.meter)
        for deletion in tuple(self._deletions):
            await deletion.wait()
        return not busy and before == self._deletions_begun

    async def _read_steps(self, name: ModelName, meter: Meter) -> None:
        with anyio.move_on_after(self._stall_timeout_s) as watchdog, ExitStack() as stack:
            async with self._client.pull(name) as steps:
                async for step in steps:
                    if step.status == REMOVING:
                        stack.enter_context(self._deleting())
                    now = anyio.current_time()
                    if meter.take(step, now):
                        watchdog.deadline = now + self._stall_timeout_s
        if watchdog.cancelled_caught:
            raise PullStalled(f"No progress for {self._stall_timeout_s:g} s")

    async def _delete(self, name: ModelName, unless: Callable[[], bool] = lambda: False) -> bool:
        with self._deleting():
            # Once deleted, a loaded model could no longer be unloaded.
            if name in await self._client.running():
                await self._client.unload(name)
            if unless():
                return False
            await self._client.delete(name)
        await self.look()
        if self.find(name):
            raise ProtocolError(f"Ollama still lists {name} after deleting it")
        return True

    @contextmanager
    def _deleting(self) -> Generator[None]:
        """Note that layers go which a pull under way may count on."""
        ended = anyio.Event()
        self._deletions.add(ended)
        self._deletions_begun += 1
        try:
            yield
        finally:
            self._deletions.discard(ended)
            ended.set()

    @asynccontextmanager
    async def _alone(self, name: ModelName) -> AsyncGenerator[None]:
        """Be the only one who acts on `name`; others wait in line."""
        lock, waiting = self._locks.get(name, (anyio.Lock(), 0))
        self._locks[name] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._locks.pop(name)
            if waiting > 1:
                self._locks[name] = (lock, waiting - 1)
