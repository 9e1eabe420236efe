"""Lists of steps, drawn by Hypothesis and played in virtual time."""

import sys
from collections.abc import Callable
from typing import Any

import anyio
import structlog
import trio.testing
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ollama_op.app.process import unwrapped
from property.machine import Step, run
from property.witness import Violation

# Named as often as they are to come: time passes between what happens.
STEPS = (
    *("wait",) * 6,
    *("create",) * 4,
    *("change", "delete", "care", "refresh") * 2,
    *("lose", "publish", "trouble", "outage", "restart", "faults"),
    *("break_blob", "by_hand", "withdraw", "memory", "hang_up", "force"),
)
LONGEST = 200


def whatever_happens(
    play: Callable[[list[Step]], None], *, runs: int, longest: int, derandomize: bool
) -> None:
    """Call `play` with so many lists of up to `longest` steps; shrink the first that fails."""
    step = st.tuples(st.sampled_from(STEPS), st.integers(0, 3), st.integers(0, 39))
    steps = st.integers(1, longest).flatmap(lambda n: st.lists(step, min_size=n, max_size=n))
    settings(
        max_examples=runs,
        deadline=None,
        derandomize=derandomize,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )(given(steps)(play))()


def play(steps: list[Step]) -> None:
    """Take the steps in virtual time.

    Raises: Violation.
    """
    clock = trio.testing.MockClock(autojump_threshold=0)
    with unwrapped(Violation):
        anyio.run(run, steps, backend="trio", backend_options={"clock": clock})


def quietly() -> None:
    """Render no logs, and let no task crash: it would be started again, and the bug forgotten."""
    structlog.configure(processors=[_refuse_crashes], cache_logger_on_first_use=False)


def _refuse_crashes(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    if event["event"] == "model task crashed":
        raise Violation(f"a task crashed: {sys.exc_info()[1]!r}")
    raise structlog.DropEvent
