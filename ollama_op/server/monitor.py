"""What is known of one Ollama server, looked up once for all of its models.

One list of its models serves all of them: it is read once an interval, once more when somebody
needs to know what is true right now, and never twice at a time. So the cost of watching grows
with servers, not with models. What is in memory, and which Ollama it is, is asked only while
somebody wants to know, and beside that: no list waits for these answers, and none depends on them.
"""

from collections import Counter, defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio
import structlog

from crd.names import ModelName
from ollama_op.base.backoff import Backoff
from ollama_op.base.errors import NotOllama, OllamaError, OllamaUnreachable
from ollama_op.base.mailbox import Latest
from ollama_op.ollama.client import OllamaClient
from ollama_op.ollama.wire import Entry, Listing
from ollama_op.server.snapshot import (
    PS,
    TAGS,
    Snapshot,
    changed,
    knows_memory,
    perhaps_there,
    under_all_names,
)

log = structlog.get_logger(__name__)

SECOND_LOOK_S = 1.0  # one lost answer is no outage; this much later, a second one is
LOOK_GAP_S = 0.2  # between the starts of two lists: what is asked for meanwhile shares one
HURRIED_GAP_S = 0.08  # likewise, where something else waits for the answer
INTERVALS_KEPT: Final = 2  # for so long what was in memory counts, while Ollama does not say
EXAMPLES_LOGGED: Final = 3  # of entries that cannot be read, in a line of the log


@dataclass(frozen=True, slots=True)
class Interest:
    """What somebody wants to be woken for: outages, and the entry of `name`."""

    name: ModelName | None = None
    interval_s: float | None = None  # at the latest so long after a change; None for the default
    memory: bool = False  # also what is in memory
    version: bool = False  # also another version of Ollama


class ServerMonitor:
    """Looks at an Ollama server. `run()` must be running for anything else to work."""

    def __init__(
        self, client: OllamaClient, *, interval_s: float, ask_version: bool = False
    ) -> None:
        self._client, self._interval_s = client, interval_s
        self.looked = anyio.Event()  # set after the first look, whatever it found
        self.looked_at: float | None = None  # on the event loop's clock; None before the first look
        self.now = Snapshot({})
        self._next_look = anyio.Event()
        self.listed = anyio.Event()  # set when there is a newer snapshot; then there is another one
        self._asked = False  # somebody does not want to wait for the interval
        self._hurried = False  # nor for others to ask as well
        self._stirred = anyio.Event()  # the time of the next look may have changed
        self._aside_due, self._next_aside = anyio.Event(), anyio.Event()
        self._memory_at: float | None = None  # when it was seen last, or else first asked for
        self._followers: defaultdict[ModelName | None, set[Latest[Any]]] = defaultdict(set)
        self._intervals = Counter[float]()
        # How many want to know about memory and version.
        self._curious = Counter(version=int(ask_version))
        self._told: dict[str, frozenset[str]] = {}  # what could not be read, by endpoint

    async def run(self) -> None:
        """Keep the snapshot fresh, for ever."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._ask_aside)
            failures = 0
            while True:
                started = anyio.current_time()
                failures = 0 if await self._look_once() else failures + 1
                await self._pause(started, failures)
                gap_s = HURRIED_GAP_S if self._hurried else LOOK_GAP_S
                await anyio.sleep_until(started + (SECOND_LOOK_S if failures else gap_s))

    @property
    def outage(self) -> str | None:
        """Why the server cannot be asked; None while it answers."""
        return self.now.outage

    @property
    def has_lost_memory(self) -> bool:
        """Whether what is in memory has not been seen for so long that it is not known."""
        return self.now.memory_problem is not None

    def find(self, name: ModelName) -> Entry | None:
        """Return the model as the newest list has it."""
        return self.now.models.get(name)

    def has(self, name: ModelName) -> bool:
        """Return True if the newest list has the model, whether its entry can be read or not."""
        return name in self.now.models or name in self.now.unread

    def doubt(self, name: ModelName) -> str | None:
        """Return why a model may be there that cannot be found; None if it is not there."""
        if why := self.now.unread.get(name):
            return f"Ollama lists {name}, but its entry in /api/tags cannot be read: {why}"
        if name in self.now.perhaps:
            return f"Ollama may list {name}: an entry in /api/tags has no name"
        return None

    async def refresh(self, *, hurry: bool = False) -> None:
        """Wait for a look that was begun after this call; in a `hurry`, share it with fewer.

        Raises: OllamaUnreachable, NotOllama.
        """
        look = self._next_look
        self._hurried |= hurry
        self.invalidate()
        await look.wait()
        if self.outage is not None:
            raise (NotOllama if self.now.is_foreign else OllamaUnreachable)(self.outage)

    async def refresh_memory(self) -> None:
        """Wait for a look, and for what there is in memory then; that may stay unknown.

        Raises: OllamaUnreachable.
        """
        aside = self._next_aside
        await self.refresh()
        await aside.wait()

    def invalidate(self) -> None:
        """Ask for a look at the server soon: something is not as the snapshot says."""
        self._asked = True
        self._stirred.set()

    @contextmanager
    def subscribe(self, box: Latest[Any], interest: Interest) -> Generator[None]:
        """Poke `box` when the server goes or comes back, or what it is interested in changes."""
        interval_s = interest.interval_s or self._interval_s
        curious = [what for what in ("memory", "version") if getattr(interest, what)]
        self._followers[interest.name].add(box)
        self._intervals[interval_s] += 1
        self._curious.update(curious)
        if self._intervals[interval_s] == 1:  # the look to come may be due sooner
            self._stirred.set()
        if any(getattr(self.now, what) is None for what in curious):
            self._aside_due.set()
        try:
            yield
        finally:
            self._followers[interest.name].discard(box)
            if not self._followers[interest.name]:
                del self._followers[interest.name]
            self._intervals -= Counter([interval_s])
            self._curious -= Counter(curious)

    async def ask_version(self) -> str | None:
        """Ask which Ollama this is, now; None if it does not say."""
        try:
            version = await self._client.version()
        except OllamaError as error:
            log.debug("version not known", server=self._client.where, problem=str(error))
            version = None
        return version

    async def _pause(self, started: float, failures: int) -> None:
        """Wait until the next look is due: an interval, or in an outage ever longer up to that."""
        while not self._asked:
            wait_s = Backoff(1, self._shortest_s).after(failures) if failures else self._shortest_s
            left_s = started + wait_s - anyio.current_time()
            if left_s <= 0:
                return
            self._stirred = anyio.Event()
            with anyio.move_on_after(left_s):
                await self._stirred.wait()

    @property
    def _shortest_s(self) -> float:
        """The interval between two looks."""
        return min(self._intervals, default=self._interval_s)

    async def _look_once(self) -> bool:
        done, self._next_look = self._next_look, anyio.Event()
        self._asked = self._hurried = False
        before = self.now
        try:
            found = self._listed(before, await self._list())
        except OllamaError as error:
            foreign = isinstance(error, NotOllama)
            aged = self._aged(before, str(error))
            found = replace(aged, outage=str(error), is_foreign=foreign, version=None)
        self.looked_at = anyio.current_time()
        self._renew(found)
        listed, self.listed = self.listed, anyio.Event()
        listed.set()
        self.looked.set()
        done.set()
        self._aside_due.set()
        return found.outage is None

    async def _list(self) -> Listing[Entry]:
        try:
            return await self._client.tags()
        except OllamaError:
            if self.outage is not None:
                raise
            await anyio.sleep(SECOND_LOOK_S)
            return await self._client.tags()

    def _listed(self, before: Snapshot, found: Listing[Entry]) -> Snapshot:
        """Return what is known with a new list."""
        self._tell_unreadable(TAGS, found.problems)
        return replace(
            self.now,
            models=found.entries,
            outage=None,
            is_foreign=False,
            unread=found.unread,
            perhaps=perhaps_there(before, found),
            nameless=found.nameless,
            unreadable={**self.now.unreadable, TAGS: len(found.problems)},
        )

    async def _ask_aside(self) -> None:
        """Ask for memory and version after each list, beside everything else."""
        while True:
            await self._aside_due.wait()
            self._aside_due = anyio.Event()
            done, self._next_aside = self._next_aside, anyio.Event()
            if self.outage is None:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._learn_memory)
                    tasks.start_soon(self._learn_version)
            done.set()

    async def _learn_version(self) -> None:
        version = await self.ask_version() if self._curious["version"] else None
        self._renew(replace(self.now, version=None if self.outage else version))

    async def _learn_memory(self) -> None:
        if not self._curious["memory"]:
            self._memory_at = None
            self._renew(replace(self.now, memory=None, memory_problem=None))
            return
        try:
            found = await self._client.running()
        except OllamaError as error:
            log.debug("memory not known", server=self._client.where, problem=str(error))
            self._renew(self._aged(self.now, str(error)))
            return
        self._memory_at = anyio.current_time()
        self._tell_unreadable(PS, found.problems)
        self._renew(
            replace(
                self.now,
                memory=under_all_names(found, self.now.models),
                memory_problem=None,
                unreadable={**self.now.unreadable, PS: len(found.problems)},
            )
        )

    def _aged(self, snapshot: Snapshot, problem: str) -> Snapshot:
        """Return a snapshot without what was in memory too long ago."""
        if not self._curious["memory"]:
            return replace(snapshot, memory=None, memory_problem=None)
        now = anyio.current_time()
        if self._memory_at is None:
            self._memory_at = now
        if now - self._memory_at < INTERVALS_KEPT * self._shortest_s:
            return snapshot
        return replace(snapshot, memory=None, memory_problem=problem)

    def _tell_unreadable(self, endpoint: str, problems: tuple[str, ...]) -> None:
        """Log what cannot be read of a list, unless it could not be before."""
        new = [each for each in problems if each not in self._told.get(endpoint, ())]
        self._told[endpoint] = frozenset(problems)
        if new:
            log.warning(
                "entries of a list cannot be read, the others are",
                server=self._client.where,
                endpoint=endpoint,
                entries=len(new),
                problem="; ".join(new[:EXAMPLES_LOGGED]),
            )

    def _renew(self, found: Snapshot) -> None:
        before, self.now = self.now, found
        self._publish(before, found)

    def _publish(self, before: Snapshot, found: Snapshot) -> None:
        turned = (found.outage is None) != (before.outage is None)
        everyone = turned or found.version != before.version
        everyone |= found.is_foreign != before.is_foreign
        if turned and found.outage is None:
            log.info("ollama answers again", server=self._client.where)
        elif turned:
            log.warning("ollama unreachable", server=self._client.where, problem=found.outage)
        self._publish_memory_problem(before, found)
        everyone |= knows_memory(found) != knows_memory(before)
        for name in [*self._followers] if everyone else changed(before, found):
            for box in self._followers.get(name, ()):
                box.poke()

    def _publish_memory_problem(self, before: Snapshot, found: Snapshot) -> None:
        if (found.memory_problem is None) == (before.memory_problem is None):
            return
        if found.memory_problem is None:
            log.info("ollama says again what is in memory", server=self._client.where)
        elif found.outage is None:
            problem = found.memory_problem
            log.warning(
                "ollama does not say what is in memory", server=self._client.where, problem=problem
            )
