"""Play one story of a crash sweep, disturbed at one point or not at all.

A run is repeatable: the seed decides in which order tasks run and what chance adds to delays.
"""

import random
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import trio
import trio.testing
from structlog.testing import capture_logs

from crash.tap import Tap
from crash.witness import Watcher, picture
from crash.writes import CALM, Mishap, Point, Write
from support.virtual.world import World, world

SETTINGS = {"stall_timeout_s": 10, "progress_interval_s": 2}
TICK_S = 0.5  # between two lines of a pull
AWAY_S = 1.0  # from an operator's death to its successor
LIMIT_S = 3600  # of virtual time; a story that takes longer will never end

Act = Callable[[World], Awaitable[None]]


async def nothing(_: World) -> None:
    """Leave things as they are."""


@dataclass(frozen=True)
class Scenario:
    """A story: once `given` has come to rest, `when` is played and disturbed.

    `leaves` names the models that are on the server in the end. Where there is a `meanwhile`, the
    disturbance is that this is done in the middle of `when` and not after it: between two writes,
    or while the operator is away. `settings` are the operator's, besides those of all stories.
    """

    name: str
    when: Act
    given: Act = nothing
    leaves: frozenset[str] = frozenset()
    meanwhile: Act | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """What has come of a story."""

    writes: list[Write] = field(default_factory=list)
    swept: int = 0  # how many of the writes belong to `when`
    events: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    logs: list[Any] = field(default_factory=list)

    def named(self, write: int | None) -> str:
        """Say which write this is, by its place and by what it is about."""
        if write is None:
            return ""
        return f", write {write + 1} ({next(map(str, self.writes[write:]), 'which never came')})"


def run(scenario: Scenario, point: Point, *, seed: int = 0) -> Run:
    """Play a story once."""
    played = Run()
    time = {"clock": trio.testing.MockClock(autojump_threshold=0)}
    with capture_logs() as played.logs, repeatable(seed):
        try:
            anyio.run(_play, scenario, point, played, backend="trio", backend_options=time)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what has come of this run
            played.broken.append(f"the operator ended: {error!r}")
    # Nobody restarts a task that crashed but for a bug.
    played.broken += [str(line) for line in played.logs if line["log_level"] == "error"]
    return played


async def _play(scenario: Scenario, point: Point, played: Run) -> None:
    tap = Tap(point, writes=played.writes, bugs=played.broken)
    async with world(tap.through, **SETTINGS, **scenario.settings) as w:
        tap.witness, tap.kill = Watcher(w, played.broken), w.kill
        if scenario.meanwhile and point.meanwhile:
            tap.somebody = partial(_beside, scenario.meanwhile, w, played)
        w.ollama.downloads.tick_s = TICK_S
        w.tasks.start_soon(_replace_the_dead, w, tap)
        w.start()
        with anyio.move_on_after(LIMIT_S) as limit:
            await _tell(scenario, w, tap, played)
        if limit.cancelled_caught:
            played.broken.append("it never comes to rest")
        if point != CALM and not tap.struck:
            played.broken.append("what was to be disturbed never came")
        played.facts = picture(w)


async def _tell(scenario: Scenario, w: World, tap: Tap, played: Run) -> None:
    await _act(scenario.given, w, played)
    await w.rest(quiet_s=10)  # nothing has gone wrong yet
    tap.armed = True
    await _act(scenario.when, w, played)
    await w.rest()
    played.swept, played.events = len(tap.writes), tap.events
    if tap.point.mishap is Mishap.DIE_AT_REST:
        tap.die()
        await w.rest()
    if scenario.meanwhile and not tap.point.meanwhile:
        await _act(scenario.meanwhile, w, played)
        await w.rest()


async def _act(act: Act, w: World, played: Run) -> None:
    try:
        await act(w)
    except Exception as error:  # noqa: BLE001 - as above
        played.broken.append(f"the story broke off: {error!r}")


async def _beside(act: Act, w: World, played: Run) -> None:
    """Let somebody act whom nobody stops: neither the operator's death, nor its hanging up."""
    done = anyio.Event()

    async def in_a_task() -> None:
        await _act(act, w, played)
        done.set()

    w.tasks.start_soon(in_a_task)
    await done.wait()


async def _replace_the_dead(w: World, tap: Tap) -> None:
    """Start a new operator whenever one has died, as a Deployment does."""
    while not tap.is_spent:
        await tap.death.wait()
        await w.stop()
        await anyio.sleep(AWAY_S / 2)
        if tap.point.meanwhile:
            await tap.somebody()
        await anyio.sleep(AWAY_S / 2)
        tap.revive()
        w.start()


@contextmanager
def repeatable(seed: int) -> Generator[None]:
    """Let chance have its way as it had it last time."""
    loop = trio._core._run  # trio's own way to be repeatable, made for hypothesis
    before, loop._ALLOW_DETERMINISTIC_SCHEDULING = loop._ALLOW_DETERMINISTIC_SCHEDULING, True
    loop._r.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        loop._ALLOW_DETERMINISTIC_SCHEDULING = before
