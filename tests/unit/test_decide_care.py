"""The rules of how a model is cared for, each as a sentence."""

import math
from datetime import timedelta
from typing import Any

import pytest

from crd.model import OllamaModel
from crd.names import ModelName
from crd.reasons import Reason
from crd.v1alpha1 import FINALIZER, REFRESH
from ollama_op.ollama.wire import Loaded
from ollama_op.policy.decide import (
    AVAILABLE,
    SUSPENDED_VERDICT,
    Action,
    AddFinalizer,
    Finalize,
    Load,
    Observed,
    PruneFormer,
    Pull,
    Unload,
    Verify,
    Wait,
    concerns,
    decide,
)
from support.virtual.models import DIGEST, NOW, condition, made, manifest

LLAMA, PHI = ModelName.parse("llama3.2:1b"), ModelName.parse("phi3:mini")
GONE = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
THERE, ABSENT = Observed(digest=DIGEST), Observed()
OUTAGE = Observed(outage="http://ollama does not answer", digest=DIGEST)
OTHER = "e" * 64
SEEN = {"model": "llama3.2:1b", "digest": DIGEST, "ownedModels": ["llama3.2:1b"]}
READY = SEEN | {"conditions": [condition("Ready", "True", Reason.AVAILABLE)]}
PAUSED = SEEN | {"conditions": [condition("Ready", "True", Reason.SUSPENDED)]}
WINDOW = {"schedule": "0 3 * * *", "duration": "2h"}  # it is noon


def model(care: dict[str, Any] | None = None, /, **how: Any) -> OllamaModel:
    """Make an object of ours with this care; `status`, and metadata by name."""
    status = {"observedGeneration": 1} | how.pop("status", {})
    body = manifest(**{"finalizers": [FINALIZER]} | how)
    return made(body | {"spec": body["spec"] | (care or {}), "status": status})


def stalled(reason: Reason, **status: Any) -> dict[str, Any]:
    """Write the status of what waits for a person."""
    conditions = [condition("Ready", "False", reason), condition("Stalled", "True", reason)]
    return SEEN | {"conditions": conditions, "attempts": 1} | status


def pulled(hours_ago: float) -> dict[str, Any]:
    """Write the status of a model that was pulled so long ago."""
    return READY | {"lastPullTime": (NOW - timedelta(hours=hours_ago)).isoformat()}


def memory(seconds: float) -> Observed:
    """Have the model in memory for so long from now on."""
    expires_at = NOW + timedelta(seconds=min(seconds, 9e9))
    return Observed(digest=DIGEST, memory=Loaded(expires_at), memory_known=True)


EMPTY = Observed(digest=DIGEST, memory_known=True)
REFRESHING = Pull(LLAMA, Reason.REFRESHING, again=True)
LOADED = READY | {"loaded": True}

CARE: dict[str, tuple[OllamaModel, Observed, Action]] = {
    "A suspended object is claimed, for others leave its model to it": (
        model({"suspend": True}, finalizers=[]),
        ABSENT,
        AddFinalizer(),
    ),
    "So is one whose options are invalid": (
        model({"interval": "bad"}, finalizers=[]),
        ABSENT,
        AddFinalizer(),
    ),
    "A suspended model that is lost is left lost": (
        model({"suspend": True}, status=READY),
        ABSENT,
        Wait(SUSPENDED_VERDICT),
    ),
    "A pause goes on during an outage": (
        model({"suspend": True}, status=READY),
        OUTAGE,
        Wait(SUSPENDED_VERDICT),
    ),
    "After a pause a new object is claimed": (
        model(finalizers=[], status=PAUSED),
        ABSENT,
        AddFinalizer(),
    ),
    "After a pause a model is verified, for nobody was looking": (
        model(status=PAUSED),
        THERE,
        Verify(LLAMA),
    ),
    "A suspended object that is deleted takes its model with it": (
        model({"suspend": True}, **GONE, status=PAUSED),
        THERE,
        Finalize((LLAMA,)),
    ),
    "A retained model stays when its object goes, also during an outage": (
        model({"deletionPolicy": "Retain"}, **GONE, status=READY),
        OUTAGE,
        Finalize((), "Retained"),
    ),
    "A retained model is not removed by force either": (
        model(
            {"deletionPolicy": "Retain"},
            **GONE,
            annotations={"ollama.smithforge.dev/force-delete": "true"},
        ),
        THERE,
        Finalize((), "ForcedDelete"),
    ),
    "A retained model is let go of, and stays, when the spec moves on": (
        model(
            {"deletionPolicy": "Retain"}, model="phi3:mini", status=READY | {"model": "phi3:mini"}
        ),
        THERE,
        PruneFormer((LLAMA,), retained=True),
    ),
    "The terms of a pull are those of the spec": (
        model({"insecure": True, "timeout": "90s"}),
        ABSENT,
        Pull(LLAMA, Reason.PULLING, insecure=True, timeout_s=90),
    ),
    "A scheduled refresh is not early": (
        model({"refreshInterval": "24h"}, status=pulled(23.9)),
        THERE,
        Wait(AVAILABLE, until=NOW + timedelta(seconds=5330)),
    ),
    "A scheduled refresh comes when it is due": (
        model({"refreshInterval": "24h"}, status=pulled(27)),
        THERE,
        REFRESHING,
    ),
    "A scheduled refresh waits for its window": (
        model({"refreshInterval": "24h", "refreshWindow": WINDOW}, status=pulled(27)),
        THERE,
        Wait(AVAILABLE, until=NOW + timedelta(hours=15)),
    ),
    "A wish does not wait for the window": (
        model(
            {"refreshInterval": "24h", "refreshWindow": WINDOW},
            annotations={REFRESH: "now"},
            status=pulled(1),
        ),
        THERE,
        REFRESHING,
    ),
    "The expected digest needs no scheduled refresh": (
        model({"refreshInterval": "24h", "expectedDigest": DIGEST}, status=pulled(99)),
        THERE,
        Wait(AVAILABLE),
    ),
    "Another digest than the expected one sends for the right one": (
        model({"expectedDigest": OTHER}, status=READY, generation=2),
        THERE,
        Pull(LLAMA, Reason.PULLING, again=True),
    ),
    "A digest that stays wrong waits for a person": (
        model({"expectedDigest": OTHER}, status=stalled(Reason.UNEXPECTED_DIGEST)),
        THERE,
        Wait(),
    ),
    "The right digest, whoever brought it, ends that waiting": (
        model({"expectedDigest": DIGEST}, status=stalled(Reason.UNEXPECTED_DIGEST, digest=OTHER)),
        THERE,
        Verify(LLAMA),
    ),
    "A server that is too old is left alone": (
        model(status=stalled(Reason.SERVER_TOO_OLD, serverVersion="1")),
        Observed(version="1"),
        Wait(),
    ),
    "Another version of the server is tried": (
        model(status=stalled(Reason.SERVER_TOO_OLD, serverVersion="1", digest=None)),
        Observed(version="2"),
        Pull(LLAMA, Reason.PULLING),
    ),
    "A version that is not known proves nothing": (
        model(status=stalled(Reason.SERVER_TOO_OLD, serverVersion="1")),
        Observed(),
        Wait(),
    ),
    "A model that is to be kept loaded is loaded": (
        model({"keepAlive": "10m"}, status=READY),
        EMPTY,
        Load(LLAMA, 600),
    ),
    "What is not known to be in memory is not loaded blindly": (
        model({"keepAlive": "10m"}, status=READY),
        THERE,
        Wait(AVAILABLE),
    ),
    "A loaded model rests until shortly before its time is over": (
        model({"keepAlive": "10m"}, status=LOADED),
        memory(600),
        Wait(AVAILABLE, until=NOW + timedelta(seconds=540), memory=memory(600).memory),
    ),
    "A model whose time is nearly over is loaded for longer": (
        model({"keepAlive": "10m"}, status=LOADED),
        memory(60),
        Load(LLAMA, 600),
    ),
    "For ever is longer than what somebody else asked for": (
        model({"keepAlive": "-1"}, status=LOADED),
        memory(3600),
        Load(LLAMA, math.inf),
    ),
    "A model that is loaded for ever rests": (
        model({"keepAlive": "-1"}, status=LOADED),
        memory(math.inf),
        Wait(AVAILABLE, memory=memory(math.inf).memory),
    ),
    "A load that failed waits for its turn": (
        model(
            {"keepAlive": "-1"},
            status=READY | {"nextRetryTime": (NOW + timedelta(seconds=9)).isoformat()},
        ),
        EMPTY,
        Wait(until=NOW + timedelta(seconds=9)),
    ),
    "A model that nobody wants loaded any more is unloaded": (
        model(status=LOADED),
        THERE,
        Unload(LLAMA),
    ),
    "A model that is not there is not loaded": (
        model({"keepAlive": "-1"}),
        Observed(memory_known=True),
        Pull(LLAMA, Reason.PULLING),
    ),
}


@pytest.mark.parametrize(
    ("obj", "seen", "action"), CARE.values(), ids=[name.replace(" ", "_") for name in CARE]
)
def test_how_a_model_is_cared_for(obj, seen, action):
    """Its case is the test's name."""
    assert decide(obj, seen, NOW) == action


PULL, LOAD = Pull(LLAMA, Reason.PULLING), Load(LLAMA, 600)


@pytest.mark.parametrize(
    ("action", "obj", "answer"),
    [
        (PULL, model(), True),
        (PULL, model({"interval": "5s", "expectedDigest": OTHER}), True),
        (PULL, model({"suspend": True}), False),
        (PULL, model({"timeout": "5s"}), False),
        (PULL, model({"insecure": True}), False),
        (PULL, model({"interval": "bad"}), False),
        (PULL, model(**GONE), False),
        (LOAD, model({"keepAlive": "10m"}), True),
        (LOAD, model({"keepAlive": "-1"}), False),
        (LOAD, model(), False),
        (LOAD, model({"keepAlive": "10m"}, model="phi3:mini"), False),
        (Verify(LLAMA), model({"suspend": True}), False),
    ],
)
def test_an_action_under_way_ends_when_it_is_not_wished_so_any_more(action, obj, answer):
    """Other terms are another action; a change of something else leaves it alone."""
    assert concerns(obj, action) == answer


def test_two_objects_are_not_refreshed_at_the_same_moment():
    """Each is late by a share of its own, always the same one, and never early."""
    care = {"refreshInterval": "24h"}
    waits = set()
    for uid in "abcdef":
        for _ in range(2):
            rest = decide(model(care, uid=uid, status=pulled(0)), THERE, NOW)
            assert isinstance(rest, Wait)
            assert rest.until is not None
            waits.add((rest.until - NOW).total_seconds())
    assert len(waits) == 6
    assert all(86400 <= wait <= 86400 * 1.1 for wait in waits)
