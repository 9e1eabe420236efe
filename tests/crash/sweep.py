"""The crash sweep: play a story, then again with each of its writes disturbed, and compare.

Whatever befalls one write, the end must be that of the undisturbed story, reached with hardly more
writes, and no promise may be broken on the way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from crash.play import Run, Scenario, run
from crash.witness import differences
from crash.writes import CALM, Mishap, Point, Step, Write

# What one disturbance may cost beyond the calm course: the write again, and before it what is said
# of the failure and of the new try; or the repair of a model whose pull nobody saw through.
EXTRA_WRITES = 5


@dataclass(frozen=True)
class Failure:
    """A point at which a story did not end as it should, and how it ended."""

    scenario: str
    point: Point
    write: str
    problems: list[str]
    logs: list[Any]

    @property
    def where(self) -> str:
        """The point in words."""
        return f"{self.scenario}{self.write}: {self.point}"

    def __str__(self) -> str:
        return "\n  ".join((self.where, *self.problems))


def sweep(scenario: Scenario, *, seed: int = 0) -> tuple[int, list[Failure]]:
    """Play a story with every disturbance; return how many there were, and those that told.

    Raises: AssertionError if it does not even go well undisturbed.
    """
    calm = undisturbed(scenario, seed=seed)
    todo = list(points(scenario, calm))
    return len(todo), list(filter(None, (strike(scenario, p, calm, seed=seed) for p in todo)))


def undisturbed(scenario: Scenario, *, seed: int = 0) -> Run:
    """Play a story as it should go.

    Raises: AssertionError if it does not go so.
    """
    calm = run(scenario, CALM, seed=seed)
    assert not calm.broken, f"{scenario.name}, undisturbed: {calm.broken}"
    left = {fact.removeprefix("model ") for fact in calm.facts if fact.startswith("model ")}
    assert left == scenario.leaves, f"{scenario.name}, undisturbed, leaves {left}"
    return calm


def strike(scenario: Scenario, point: Point, calm: Run, *, seed: int = 0) -> Failure | None:
    """Play a story with one disturbance, and compare it with its calm course."""
    struck = run(scenario, point, seed=seed)
    problems = struck.broken + differences(calm.facts, struck.facts)
    spent, limit = _counted(struck), len(_counted(calm)) + _extra(point)
    if len(spent) > limit:
        problems.append(f"{len(spent)} writes, where {limit} are enough: {'; '.join(spent)}")
    if not problems:
        return None
    return Failure(scenario.name, point, struck.named(point.write), problems, struck.logs)


def points(scenario: Scenario, calm: Run) -> Iterator[Point]:
    """List the ways to disturb a story."""
    each = _mishaps if scenario.meanwhile is None else _meanwhile
    for at, write in enumerate(calm.writes[: calm.swept]):
        yield from each(at, write)
    if scenario.meanwhile is None:
        yield from map(Point, (Mishap.DIE_AFTER_EACH, Mishap.DIE_AT_REST))
        yield from map(Point, (Mishap.LATE_NEWS, Mishap.LATE_ANSWERS))
        yield from [Point(Mishap.NO_EVENTS)] if calm.events else []


def _mishaps(at: int, write: Write) -> Iterator[Point]:
    done = Mishap.DIE_AFTER, Mishap.LOST, Mishap.SILENCE, Mishap.UNAVAILABLE
    for mishap in (Mishap.DIE_BEFORE, *done, *([Mishap.CONFLICT] if write.is_to_kube else [])):
        yield Point(mishap, at)
    for line in (1, write.lines // 2) if write.is_pull else ():
        for mishap in done:
            yield Point(mishap, at, line)


def _meanwhile(at: int, write: Write) -> Iterator[Point]:
    yield Point(Mishap.NOTHING, at, meanwhile=Step.BEFORE)
    yield Point(Mishap.DIE_BEFORE, at, meanwhile=Step.AFTER)
    for line in (None, write.lines // 2) if write.is_pull else (None,):
        yield Point(Mishap.NOTHING, at, line, Step.AFTER)
        yield Point(Mishap.DIE_AFTER, at, line, Step.AFTER)


def _extra(point: Point) -> int:
    if point.mishap is Mishap.LATE_NEWS:
        return 1  # that somebody shares the model is said when it is heard of
    return 0 if point.mishap in (Mishap.DIE_AT_REST, Mishap.NO_EVENTS) else EXTRA_WRITES


def _counted(played: Run) -> list[str]:
    """List the writes that count; how often a progress is told depends on how long it takes."""
    return [str(write) for write in played.writes if not write.is_progress]
