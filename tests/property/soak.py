"""A simulated day of random steps: `python tests/property/soak.py --hours 24`.

Every few minutes something happens, faults end soon, and once an hour everything is left alone for
a while; then what the process holds is counted. What it holds at the end of the day is what it held
at the beginning: a day more or less leaves no trace.
"""

import argparse
import gc
import os
import random
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import anyio
import structlog
import trio
import trio.testing

from ollama_op.app.process import unwrapped
from property.machine import Machine, machine
from property.witness import Violation

STEPS = ("create", "change", "care", "refresh", "delete", "lose", "publish", "trouble", "restart")
FAULTS = ("outage", "faults", "hang_up", "break_blob")
SETTLING_S = 700
# How much more there may be in the last hours than in the first ones. Caches fill.
SLACK = {"tasks": 2, "descriptors": 2, "objects": 500, "kib": 256}


@dataclass(frozen=True)
class Held:
    """What the process holds while nothing happens."""

    tasks: int
    descriptors: int
    objects: int
    kib: int

    @classmethod
    def now(cls) -> "Held":
        """Count."""
        gc.collect()
        return cls(
            tasks=trio.lowlevel.current_statistics().tasks_living,
            descriptors=len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - names are all it takes
            objects=len(gc.get_objects()),
            kib=tracemalloc.get_traced_memory()[0] // 1024,
        )


def soak(hours: int, seed: int = 0) -> list[Held]:
    """Live through so many hours; return what was held at the end of each.

    Raises: Violation.
    """
    held: list[Held] = []

    async def live() -> None:
        chance = random.Random(seed)  # noqa: S311 - no secret
        async with machine() as it:
            for _ in range(hours):
                await _hour(it, chance)
                held.append(Held.now())

    with _traced(), unwrapped(Violation):
        clock = trio.testing.MockClock(autojump_threshold=0)
        anyio.run(live, backend="trio", backend_options={"clock": clock})
    return held


async def _hour(it: Machine, chance: random.Random) -> None:
    """Let all kinds of things happen, end every fault, and put everything back to one state."""
    for _ in range(4):
        await it.take((chance.choice(FAULTS), chance.randrange(4), chance.randrange(40)))
        for _ in range(3):
            await it.take((chance.choice(STEPS), chance.randrange(4), chance.randrange(40)))
            await anyio.sleep(30)
        it.w.ollama.is_down, it.witness.faults = False, []
        await anyio.sleep(300)
    for which in range(4):
        await it.take(("force", which, 0))
    it.w.ollama.forget_troubles()
    await anyio.sleep(10)
    for which in range(4):
        await it.take(("create", which, which))
    await anyio.sleep(SETTLING_S)
    for obj in it.witness.objects():
        it.witness.check_healed(obj)
    # The sandboxes are not the subject: what they remember of the past is let go.
    store = it.w.kube.store
    for key in store.at("events", store.revision):
        store.remove("events", key)  # as the API server does after an hour
    store.compact()
    it.w.kube.requests.clear()


@contextmanager
def _traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def grown(held: list[Held]) -> list[str]:
    """Compare the last quarter of the time with the second one; name what has grown."""
    quarter = max(len(held) // 4, 1)
    early, late = held[quarter : 2 * quarter], held[-quarter:]
    wrong = []
    for name, slack in SLACK.items():
        before, after = (max(getattr(each, name) for each in part) for part in (early, late))
        if after > before + slack:
            wrong.append(f"{name}: {before} became {after}")
    return wrong


def main() -> int:
    """Soak, and print what is held after each hour."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    began = time.monotonic()
    try:
        held = soak(asked.hours, asked.seed)
    except Violation as violation:
        print(f"soak: {violation}")
        return 1
    for hour, each in enumerate(held, 1):
        print(f"after {hour:2} h: {each}")
    wrong = grown(held)
    print(f"soak: {asked.hours} simulated hours in {time.monotonic() - began:.0f} s;", end=" ")
    print("; ".join(wrong) or "tasks, descriptors and memory are flat")
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main())
