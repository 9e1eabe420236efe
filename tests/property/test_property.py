"""Whatever happens, in whatever order: the promises hold, and all comes right in the end."""

import importlib

import pytest

from ollama_op.policy import decide
from ollama_op.server import instance
from property.machine import Machine, Step
from property.play import STEPS, play, whatever_happens
from property.witness import Violation

RUNS, LONGEST = 25, 60  # `just verify-property` has more and longer ones


def test_promises_hold_whatever_happens() -> None:
    """No leak, no model of somebody else deleted, no lie in a status; and everything heals."""
    whatever_happens(play, runs=RUNS, longest=LONGEST, derandomize=True)


def test_every_kind_of_step_can_be_taken() -> None:
    """The machine knows each step by its name."""
    assert all(hasattr(Machine, name) for name in STEPS)


def test_hours_leave_no_trace() -> None:
    """Tasks, descriptors and memory are after the last hour what they were after the first ones."""
    soak = importlib.import_module("property.soak")
    assert soak.grown(soak.soak(4)) == []


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
    monkeypatch.setattr("ollama_op.reconcile.handle.Handle.is_needed", lambda _self, _name: False)
    monkeypatch.setattr("ollama_op.reconcile.handle.Handle.is_shared", lambda _self, _name: False)
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
    monkeypatch.setattr(decide, "_next_try", lambda *_: decide.Wait())
    with pytest.raises(Violation, match="without a model"):
        play([("by_hand", 0, 0), ("create", 0, 0), ("wait", 0, 3), ("lose", 0, 0), ("wait", 0, 4)])
