"""Whatever happens, in whatever order: the promises hold, and all comes right in the end."""

import os

import anyio
import pytest
import trio.testing
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ollama_op import decide, instance
from ollama_op.service import unwrapped
from support.machine import Machine, Step, run
from support.witness import Violation

# What is done most comes first to mind: time passes between what happens.
STEPS = (
    *("wait",) * 6,
    *("create",) * 4,
    *("change", "delete", "care", "refresh") * 2,
    *("lose", "publish", "trouble", "outage", "restart", "faults"),
    *("break_blob", "by_hand", "withdraw", "memory", "hang_up", "force"),
)
RUNS = int(os.environ.get("OLLAMA_OP_PROPERTY_RUNS", "25"))
LONGEST = 200 if RUNS > 100 else 60

step = st.tuples(st.sampled_from(STEPS), st.integers(0, 3), st.integers(0, 39))
steps = st.integers(1, LONGEST).flatmap(lambda n: st.lists(step, min_size=n, max_size=n))


def play(taken: list[Step]) -> None:
    """Take the steps in virtual time."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    with unwrapped(Violation):
        anyio.run(run, taken, backend="trio", backend_options={"clock": clock})


@settings(
    max_examples=RUNS,
    deadline=None,
    derandomize=RUNS <= 100,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
@given(steps)
@pytest.mark.timeout(0)
def test_promises_hold_whatever_happens(taken: list[Step]) -> None:
    """No leak, no model of somebody else deleted, no lie in a status; and everything heals."""
    play(taken)


def test_every_kind_of_step_can_be_taken() -> None:
    """The machine knows each step by its name."""
    assert all(hasattr(Machine, name) for name in STEPS)


SHARED: list[Step] = [
    *(("create", 0, 0), ("wait", 0, 3), ("create", 1, 0)),
    *(("wait", 0, 3), ("delete", 0, 0), ("wait", 0, 3)),
]


@pytest.mark.parametrize("taken", [SHARED])
def test_a_model_that_is_deleted_under_another_object_is_seen(
    taken: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the question who else names a model, the witness raises its voice."""
    play(taken)
    monkeypatch.setattr("ollama_op.subject.Subject.is_needed", lambda _self, _name: False)
    monkeypatch.setattr("ollama_op.subject.Subject.is_shared", lambda _self, _name: False)
    with pytest.raises(Violation, match="though an object names it"):
        play(taken)


def test_a_finalizer_that_is_dropped_too_early_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the removal before it, the witness raises its voice."""

    async def keep(*_: object, **__: object) -> bool:
        return True

    monkeypatch.setattr(instance.Instance, "remove", keep)
    with pytest.raises(Violation, match="is let go of"):
        play([("create", 0, 0), ("wait", 0, 3), ("delete", 0, 0), ("wait", 0, 3)])


def test_a_model_that_is_not_watched_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready for a model that was lost long ago is a lie, and told as one."""
    monkeypatch.setattr(decide, "is_said_ready", lambda _model: False)
    monkeypatch.setattr(decide, "_next_try", lambda *_: decide.Rest())
    with pytest.raises(Violation, match="without a model"):
        play([("by_hand", 0, 0), ("create", 0, 0), ("wait", 0, 3), ("lose", 0, 0), ("wait", 0, 4)])
