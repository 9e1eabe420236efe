"""What is known of one Ollama server, looked up once for all of its models.

One list of its models serves all of them: it is read once an interval, once more when somebody
needs to know what is true right now, and never twice at a time. So the cost of watching grows
with servers, not with models. What is in memory, and which Ollama it is, is asked beside that only
while somebody wants to know.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import structlog

from crd.names import ModelName
from ollama_op.errors import NotOllama, OllamaError, OllamaUnreachable
from ollama_op.ollama.client import OllamaClient
from ollama_op.ollama.wire import Entry, Loaded
from ollama_op.supervise import Latest

log = structlog.get_logger(__name__)

LONGEST_DOUBLING = 10  # of the pause between probes in an outage
SECOND_LOOK_S = 1.0  # one lost answer is no outage; this much later, a second one is
LOOK_GAP_S = 0.2  # between the starts of two lists: what is asked for meanwhile shares one
HURRIED_GAP_S = 0.02  # likewise, where something else waits for the answer


@dataclass(frozen=True, slots=True)
class Interest:
    """What somebody wants to be woken for: outages, and the entry of `name`."""

    name: ModelName | None = None
    interval_s: float | None = None  # at the latest so long after a change; None for the default
    memory: bool = False  # also what is in memory
    version: bool = False  # also another version of Ollama


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one look has found. What was not asked, or not answered, is None."""

    models: Mapping[ModelName, Entry]
    outage: str | None = None  # why the server cannot be asked; None while it answers
    is_foreign: bool = False  # in an outage: something answers, and it is not Ollama
    memory: Mapping[ModelName, Loaded] | None = None
    version: str | None = None


class Survey:
    """Looks at an Ollama server. `run()` must be running for anything else to work."""

    def __init__(
        self, client: OllamaClient, *, interval_s: float, ask_version: bool = False
    ) -> None:
        self._client, self._interval_s = client, interval_s
        self.looked = anyio.Event()  # set after the first look, whatever it found
        self.looked_at: float | None = None  # on the event loop's clock; None before the first look
        self.now = Snapshot({})
        self._next_look = anyio.Event()
        self._asked = False  # somebody does not want to wait for the interval
        self._hurried = False  # nor for others to ask as well
        self._stirred = anyio.Event()  # the time of the next look may have changed
        self._followers: defaultdict[ModelName | None, set[Latest[Any]]] = defaultdict(set)
        self._intervals = Counter[float]()
        # How many want to know about memory and version.
        self._curious = Counter(version=int(ask_version))

    async def run(self) -> None:
        """Keep the snapshot fresh, for ever."""
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

    def find(self, name: ModelName) -> Entry | None:
        """Return the model as the newest list has it."""
        return self.now.models.get(name)

    async def look(self, *, hurry: bool = False) -> None:
        """Wait for a look that was begun after this call; in a `hurry`, share it with fewer.

        Raises: OllamaUnreachable, NotOllama.
        """
        look = self._next_look
        self._hurried |= hurry
        self.suspect()
        await look.wait()
        if self.outage is not None:
            raise (NotOllama if self.now.is_foreign else OllamaUnreachable)(self.outage)

    def suspect(self) -> None:
        """Have the server looked at soon: something is not as the snapshot says."""
        self._asked = True
        self._stirred.set()

    @contextmanager
    def follow(self, box: Latest[Any], interest: Interest) -> Generator[None]:
        """Poke `box` when the server goes or comes back, or what it is interested in changes."""
        interval_s = interest.interval_s or self._interval_s
        curious = [what for what in ("memory", "version") if getattr(interest, what)]
        self._followers[interest.name].add(box)
        self._intervals[interval_s] += 1
        self._curious.update(curious)
        if self._intervals[interval_s] == 1:  # the look to come may be due sooner
            self._stirred.set()
        if any(getattr(self.now, what) is None for what in curious) and self.outage is None:
            self.suspect()
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
        doubled_s = 2.0 ** min(failures - 1, LONGEST_DOUBLING) if failures else math.inf
        while not self._asked:
            interval_s = min(self._intervals, default=self._interval_s)
            left_s = started + min(doubled_s, interval_s) - anyio.current_time()
            if left_s <= 0:
                return
            self._stirred = anyio.Event()
            with anyio.move_on_after(left_s):
                await self._stirred.wait()

    async def _look_once(self) -> bool:
        done, self._next_look = self._next_look, anyio.Event()
        self._asked = self._hurried = False
        before = self.now
        try:
            models = await self._list()
            found = Snapshot(
                models,
                memory=await self._ask_memory(models) if self._curious["memory"] else None,
                version=await self.ask_version() if self._curious["version"] else None,
            )
        except OllamaError as error:
            foreign = isinstance(error, NotOllama)
            found = Snapshot(before.models, outage=str(error), is_foreign=foreign)
        self.now, self.looked_at = found, anyio.current_time()
        self._publish(before, found)
        self.looked.set()
        done.set()
        return found.outage is None

    async def _list(self) -> Mapping[ModelName, Entry]:
        try:
            return await self._client.tags()
        except OllamaError:
            if self.outage is not None:
                raise
            await anyio.sleep(SECOND_LOOK_S)
            return await self._client.tags()

    async def _ask_memory(
        self, models: Mapping[ModelName, Entry]
    ) -> Mapping[ModelName, Loaded] | None:
        try:
            return _under_all_names(await self._client.running(), models)
        except OllamaError as error:
            log.debug("memory not known", server=self._client.where, problem=str(error))
            return None

    def _publish(self, before: Snapshot, found: Snapshot) -> None:
        turned = (found.outage is None) != (before.outage is None)
        everyone = turned or found.version != before.version
        everyone |= found.is_foreign != before.is_foreign
        if turned and found.outage is None:
            log.info("ollama answers again", server=self._client.where)
        elif turned:
            log.warning("ollama unreachable", server=self._client.where, problem=found.outage)
        for name, boxes in self._followers.items():
            if everyone or _about(before, name) != _about(found, name):
                for box in boxes:
                    box.poke()


def _under_all_names(
    running: Mapping[ModelName, Loaded], models: Mapping[ModelName, Entry]
) -> Mapping[ModelName, Loaded]:
    """Add the other names of what is in memory: Ollama lists a model there only once."""
    loaded = {each.digest: each for each in running.values() if each.digest}
    others = {name: loaded[e.digest] for name, e in models.items() if e.digest in loaded}
    return others | dict(running)


def _about(snapshot: Snapshot, name: ModelName | None) -> tuple[Entry | None, bool, Loaded | None]:
    """Pick what a snapshot says of one model."""
    if name is None:
        return None, False, None
    known = snapshot.memory is not None
    return snapshot.models.get(name), known, (snapshot.memory or {}).get(name)
