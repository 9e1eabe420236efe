"""The sweep sees: with one of the operator's safeguards out, it tells what goes wrong then.

Only here is our own code changed, because the change is the point.
"""

from typing import Any

import pytest
from msgspec.structs import replace

from crash.scenarios import SCENARIOS
from crash.sweep import strike, undisturbed
from crash.writes import Mishap, Point, Step
from crd.model import OllamaModel
from crd.v1alpha1 import FINALIZER, OllamaModelStatus
from ollama_op.kube import writes
from ollama_op.kube.writes import JSON_PATCH, StatusWriter
from ollama_op.policy.decide import Action, decide
from ollama_op.reconcile import lifecycle
from ollama_op.reconcile.finalize import Finalizer
from ollama_op.reconcile.handle import Handle
from ollama_op.reconcile.pull import Puller


class Lab:
    """Strikes a story under an operator that was changed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def told(self, scenario: str, point: Point, target: object, name: str, value: object) -> str:
        """Return what came of it, after a look at the calm course of the operator as it is."""
        story = next(each for each in SCENARIOS if each.name == scenario)
        calm = undisturbed(story)
        assert strike(story, point, calm) is None
        self._patch.setattr(target, name, value)
        return str(strike(story, point, calm))


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Give the operator back as it was, afterwards."""
    return Lab(monkeypatch)


async def nothing(*_: object, **__: object) -> None:
    """Leave it out."""


# --- the finalizer


def unclaimed(model: OllamaModel, *circumstances: Any) -> Action:
    """Decide as if the finalizer were there already."""
    there = (*model.metadata.finalizers, FINALIZER)
    return decide(
        replace(model, metadata=replace(model.metadata, finalizers=there)), *circumstances
    )


def test_a_pull_without_a_finalizer_is_seen(lab: Lab) -> None:
    """If the finalizer is not put on first, the sweep says so at the pull."""
    point = Point(Mishap.DIE_AFTER, write=1)
    told = lab.told("create", point, lifecycle, "decide", unclaimed)
    assert "POST /api/pull m:1: no object with a finalizer stands for the model" in told
    assert "default/m metadata finalizers is absent, not" in told


def test_a_model_left_behind_is_seen(lab: Lab) -> None:
    """Without the finalizer an object is gone before the operator is back, its model is not."""
    point = Point(Mishap.DIE_AFTER, write=1, meanwhile=Step.AFTER)
    told = lab.told("create, deleted", point, lifecycle, "decide", unclaimed)
    assert "\n  model m:1 is " in told


def test_a_finalizer_that_goes_too_early_is_seen(lab: Lab) -> None:
    """If the object is let go before its model is removed, the sweep says so at that write."""
    told = lab.told("delete", Point(Mishap.DIE_AFTER, write=0), Finalizer, "_remove", nothing)
    assert "PATCH m: finalizers: the finalizer goes while m:1 is still there" in told


# --- the uid


async def say_to_any(
    self: StatusWriter, model: OllamaModel, status: OllamaModelStatus
) -> OllamaModel:
    """Patch the status of whatever has the name, without the test of the uid."""
    step = {"op": "add", "path": "/status", "value": status}
    return await self._patch(model, [step], JSON_PATCH, subresource="/status")


def test_a_status_that_hits_another_object_is_seen(lab: Lab) -> None:
    """Without the test of the uid, words about a torn-away object end up at its successor."""
    point = Point(Mishap.NOTHING, write=1, meanwhile=Step.BEFORE)
    told = lab.told("create, made anew", point, StatusWriter, "patch_status", say_to_any)
    assert "PATCH m: Pulling: meant for another object, it hit the one made anew" in told


def test_a_finalizer_that_hits_another_object_is_seen(lab: Lab) -> None:
    """Likewise without uid and resourceVersion in what is written besides the status."""
    point = Point(Mishap.NOTHING, write=0, meanwhile=Step.BEFORE)
    told = lab.told("create, made anew", point, writes, "_same", lambda _model: {})
    assert "PATCH m: finalizers: meant for another object, it hit the one made anew" in told


# --- and more


def test_a_pull_that_nobody_was_told_of_is_seen(lab: Lab) -> None:
    """If the status is not written before a pull, its model is forgotten when the tag changes."""
    point = Point(Mishap.DIE_AFTER, write=1, meanwhile=Step.AFTER)
    told = lab.told("create, tag changed", point, Puller, "_say_under_way", nothing)
    assert "\n  model m:1 is " in told


def test_a_restart_that_writes_is_seen(lab: Lab) -> None:
    """If a successor says again what is said already, the sweep counts it."""

    async def write_status(self: Handle, status: OllamaModelStatus) -> None:
        await self._kube.patch_status(self.model, status)

    told = lab.told("adopt", Point(Mishap.DIE_AT_REST), Handle, "write_status", write_status)
    assert "writes, where 2 are enough" in told
