"""The plan beside the rules: what the API says will happen is what the operator then does."""

from typing import Any

import pytest

from api.plan import plan
from api.ports import Held
from crd.model import OllamaModel
from crd.names import ModelName
from crd.reasons import Reason
from crd.v1alpha1 import FINALIZER, FORCE_DELETE
from ollama_op.policy.decide import Finalize, Observed, PruneFormer, Pull, decide
from support.virtual.models import DIGEST, NOW, condition, made, manifest, placed

NAME, OLD = ModelName.parse("new:1"), ModelName.parse("old:1")
HELD = Held(DIGEST, 5)
READY: dict[str, Any] = {
    "observedGeneration": 1,
    "model": str(NAME),
    "digest": DIGEST,
    "conditions": [condition("Ready", "True", Reason.AVAILABLE)],
}


def object_of(spec: dict[str, Any], *owned: ModelName, **metadata: Any) -> OllamaModel:
    """Make a model that was well, and has also brought what it `owned`."""
    body = manifest(model=str(NAME), **{"finalizers": [FINALIZER], **metadata})
    body["spec"] |= spec
    return made(body | {"status": READY | {"ownedModels": [str(each) for each in owned]}})


GOING: dict[str, Any] = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
OBJECTS = {
    "well": object_of({}, NAME),
    "moved on": object_of({}, OLD, NAME),
    "moved on, and retains": object_of({"deletionPolicy": "Retain"}, OLD, NAME),
    "moved on, and suspended": object_of({"suspend": True}, OLD, NAME),
    "moved on, with a wrong option": object_of({"timeout": "soon"}, OLD, NAME),
    "moved on to what is no name": object_of({"tag": "a/b"}, OLD),
    "moved on to what cannot be read": object_of({"suspend": "x"}, OLD, NAME),
    "going": object_of({}, OLD, NAME, **GOING),
    "going, and retains": object_of({"deletionPolicy": "Retain"}, NAME, **GOING),
    "going, forced": object_of({}, NAME, annotations={FORCE_DELETE: "true"}, **GOING),
    "going, never ours": object_of({}, NAME, finalizers=["another.example/finalizer"], **GOING),
}


@pytest.mark.parametrize("there", [(), (NAME,), (OLD,), (NAME, OLD)], ids=str)
@pytest.mark.parametrize("case", OBJECTS)
def test_the_plan_is_what_is_decided(case: str, there: tuple[ModelName, ...]) -> None:
    """What it lists to pull is pulled next; what it lists to delete is let go of, and no more."""
    model = OBJECTS[case]
    said = plan([model], dict.fromkeys(map(placed, there), HELD))
    pulled = deleted = set[str]()
    match decide(model, Observed(digest=DIGEST if NAME in there else None), NOW):
        case Pull(name):
            pulled = {str(name)}
        case PruneFormer(names, retained=False) | Finalize(names):
            deleted = {str(name) for name in names if name in there}
        case _:
            pass
    assert {line.model for line in said.pull} == pulled
    if NAME in there or not pulled:  # former models go once the new one is there
        assert {line.model for line in said.delete} == deleted
    lists = (said.keep, said.delete, said.unmanaged)
    assert sorted(line.model for lines in lists for line in lines) == sorted(map(str, there))


def test_what_the_operator_keeps_for_itself_is_not_to_be_pulled() -> None:
    """An object that names it is wrong, and nothing is done for it."""
    told = plan([made(manifest(model="ollama-op-grace/m:1"))], {})
    assert (told.pull, told.paused) == ([], [])
