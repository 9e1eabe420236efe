from datetime import timedelta

import pytest

from crd.model import OllamaModel
from crd.names import ModelName
from crd.reasons import Reason
from crd.v1alpha1 import FINALIZER, FORCE_DELETE, REFRESH
from ollama_op.policy.decide import (
    AVAILABLE,
    Action,
    AddFinalizer,
    Finalize,
    Observed,
    PruneFormer,
    Pull,
    Verdict,
    Verify,
    Wait,
    concerns,
    decide,
)
from support.virtual.models import DIGEST, NOW, condition, made, manifest, owned

LLAMA = ModelName.parse("llama3.2:1b")
PHI = ModelName.parse("phi3:mini")
DYING = "2026-01-01T00:00:00Z"
THERE = Observed(digest=DIGEST)
ABSENT = Observed()
OUTAGE = Observed(outage="http://ollama does not answer")
OUTAGE_BUT_LISTED = Observed(outage="http://ollama does not answer", digest=DIGEST)
LATER = NOW + timedelta(seconds=30)
SOONER = NOW - timedelta(seconds=1)

SEEN = {"model": "llama3.2:1b", "digest": DIGEST, "ownedModels": ["llama3.2:1b"]}
READY = SEEN | {"conditions": [condition("Ready", "True", Reason.AVAILABLE)]}
UNREACHABLE = Verdict(
    Reason.OLLAMA_UNREACHABLE, "http://ollama does not answer. Waiting until Ollama answers."
)


def model(*, generation: int = 1, status: dict | None = None, **metadata) -> OllamaModel:
    """Make an object that is ours already."""
    metadata = {"finalizers": [FINALIZER], "generation": generation} | metadata
    body = manifest(**metadata)
    return made(body | {"status": {"observedGeneration": 1} | (status or {})})


def wishing(value: str, **status) -> OllamaModel:
    """Make an object that is Ready and asks for a refresh, or is told that it was served."""
    return model(annotations={REFRESH: value}, status=READY | status)


def failed(reason: Reason, due=None, **status) -> dict:
    """Write the status of a failure that will be tried again when due, or never."""
    mode = condition("Reconciling" if due else "Stalled", "True", reason)
    ready = condition("Ready", "False", reason)
    retry = {"nextRetryTime": due.isoformat()} if due else {}
    return {"conditions": [ready, mode], "attempts": 1} | retry | status


def fault(digest: str | None = DIGEST, **more: bool) -> dict:
    """Write what is remembered of a version that Ollama cannot show."""
    listed = {"digest": digest} if digest else {}
    return {"model": "llama3.2:1b", "since": SOONER.isoformat()} | listed | more


# What is true of the object and around it, and what is to be done next. In the order of the rules.
LIVING: dict[str, tuple[OllamaModel, Observed, Action]] = {
    "A new object is claimed before Ollama is touched": (
        model(finalizers=[]),
        ABSENT,
        AddFinalizer(),
    ),
    "A new object is claimed during an outage too": (
        model(finalizers=["example.com/theirs"]),
        OUTAGE,
        AddFinalizer(),
    ),
    "A name that is none is said, and not even claimed": (
        made(manifest(model="a//b:c")),
        ABSENT,
        Wait(made(manifest(model="a//b:c")).desired.name),
    ),
    "A spec that cannot be read is said": (
        made(manifest() | {"spec": {"name": 5}}),
        ABSENT,
        Wait(made(manifest() | {"spec": {"name": 5}}).desired.name),
    ),
    "A model that is not there is pulled": (
        model(),
        ABSENT,
        Pull(LLAMA, Reason.PULLING),
    ),
    "A model that is there already is verified, not pulled": (
        model(),
        THERE,
        Verify(LLAMA),
    ),
    "A model that changed behind our back is verified anew": (
        model(status=READY),
        Observed(digest="e" * 64),
        Verify(LLAMA),
    ),
    "A digest that was seen under another name proves nothing": (
        model(model="phi3:mini", generation=2, status=READY),
        THERE,
        Verify(PHI),
    ),
    "A verified model rests": (
        model(status=READY),
        THERE,
        Wait(AVAILABLE),
    ),
    "A verified model that vanished is pulled again as lost": (
        model(status=READY),
        ABSENT,
        Pull(LLAMA, Reason.MODEL_LOST),
    ),
    "A changed spec is pulled as new, for it was never there": (
        model(model="phi3:mini", generation=2, status=READY),
        ABSENT,
        Pull(PHI, Reason.PULLING),
    ),
    "During an outage nothing is pulled": (
        model(),
        OUTAGE,
        Wait(UNREACHABLE),
    ),
    "During an outage nothing counts as lost, and nothing as well": (
        model(status=READY),
        OUTAGE_BUT_LISTED,
        Wait(UNREACHABLE),
    ),
    "A person's mistake stays said during an outage": (
        model(status=failed(Reason.MODEL_UNKNOWN)),
        OUTAGE,
        Wait(),
    ),
    # --- failures
    "A failed pull waits until its next try is due": (
        model(status=failed(Reason.PULL_FAILED, LATER)),
        ABSENT,
        Wait(until=LATER),
    ),
    "A failed pull is tried again when it is due": (
        model(status=failed(Reason.PULL_FAILED, NOW)),
        ABSENT,
        Pull(LLAMA, Reason.PULLING),
    ),
    "A failed pull is tried again when it is overdue, as after a restart": (
        model(status=failed(Reason.PULL_FAILED, SOONER)),
        ABSENT,
        Pull(LLAMA, Reason.PULLING),
    ),
    "A changed spec is tried at once, whatever failed before": (
        model(generation=2, status=failed(Reason.PULL_FAILED, LATER)),
        ABSENT,
        Pull(LLAMA, Reason.PULLING),
    ),
    "A stalled model is not tried again": (
        model(status=failed(Reason.MODEL_UNKNOWN)),
        ABSENT,
        Wait(),
    ),
    "A stalled model is tried when its spec has changed": (
        model(generation=2, status=failed(Reason.MODEL_UNKNOWN)),
        ABSENT,
        Pull(LLAMA, Reason.PULLING),
    ),
    "A stalled model that somebody pulled by hand is verified": (
        model(status=failed(Reason.MODEL_UNKNOWN)),
        THERE,
        Verify(LLAMA),
    ),
    "A model that could not be shown once is left alone for a while": (
        model(status=failed(Reason.VERIFICATION_FAILED, LATER, fault=fault())),
        THERE,
        Wait(until=LATER),
    ),
    "Then Ollama is asked once more": (
        model(status=failed(Reason.VERIFICATION_FAILED, NOW, fault=fault())),
        THERE,
        Verify(LLAMA, again=True),
    ),
    "A broken model waits for its turn": (
        model(status=failed(Reason.MODEL_BROKEN, LATER, fault=fault(confirmed=True))),
        THERE,
        Wait(until=LATER),
    ),
    "A broken model is repaired": (
        model(status=failed(Reason.MODEL_BROKEN, NOW, fault=fault(confirmed=True))),
        THERE,
        Pull(LLAMA, Reason.MODEL_BROKEN, repair=True),
    ),
    "A repair that the registry did not serve is tried again": (
        model(status=failed(Reason.REGISTRY_UNAVAILABLE, NOW, fault=fault(confirmed=True))),
        THERE,
        Pull(LLAMA, Reason.MODEL_BROKEN, repair=True),
    ),
    "One that is not even listed is repaired too": (
        model(status=failed(Reason.MODEL_BROKEN, NOW, fault=fault(None, confirmed=True))),
        ABSENT,
        Pull(LLAMA, Reason.MODEL_BROKEN, repair=True),
    ),
    "What failed after a fresh download is not downloaded again": (
        model(
            status=failed(Reason.MODEL_UNSUPPORTED, fault=fault(confirmed=True, downloaded=True))
        ),
        THERE,
        Wait(),
    ),
    "Not even for a changed spec": (
        model(
            generation=2,
            status=failed(Reason.MODEL_UNSUPPORTED, fault=fault(confirmed=True, downloaded=True)),
        ),
        THERE,
        Verify(LLAMA, again=True),
    ),
    "It is looked at again when the version of Ollama changes": (
        model(
            status=failed(
                Reason.MODEL_UNSUPPORTED,
                serverVersion="0.6.5",
                fault=fault(confirmed=True, downloaded=True),
            )
        ),
        Observed(digest=DIGEST, version="0.6.6"),
        Verify(LLAMA, again=True),
    ),
    "And pulled when it has been removed": (
        model(
            status=failed(Reason.MODEL_UNSUPPORTED, fault=fault(confirmed=True, downloaded=True))
        ),
        ABSENT,
        Pull(LLAMA, Reason.PULLING),
    ),
    "And looked at when somebody has pulled another version": (
        model(
            status=failed(
                Reason.MODEL_UNSUPPORTED, fault=fault("e" * 64, confirmed=True, downloaded=True)
            )
        ),
        THERE,
        Verify(LLAMA),
    ),
    "What is known of another version says nothing of this one": (
        model(status=failed(Reason.MODEL_BROKEN, NOW, fault=fault("e" * 64, confirmed=True))),
        THERE,
        Verify(LLAMA),
    ),
    # --- refresh
    "A refresh is served": (
        wishing("true"),
        THERE,
        Pull(LLAMA, Reason.REFRESHING, again=True),
    ),
    "A refresh by token is served": (
        wishing("2026-01-01"),
        THERE,
        Pull(LLAMA, Reason.REFRESHING, again=True),
    ),
    "A refresh that was served is not served again": (
        wishing("2026-01-01", lastHandledRefresh="2026-01-01"),
        THERE,
        Wait(AVAILABLE),
    ),
    "A new token asks for another refresh": (
        wishing("2026-01-02", lastHandledRefresh="2026-01-01"),
        THERE,
        Pull(LLAMA, Reason.REFRESHING, again=True),
    ),
    "A completed refresh asks for nothing": (
        wishing("completed-2026-01-01T00:00:00Z"),
        THERE,
        Wait(AVAILABLE),
    ),
    "An empty annotation asks for nothing": (
        wishing(""),
        THERE,
        Wait(AVAILABLE),
    ),
    "A refresh that failed waits until its next try is due": (
        wishing("true", **failed(Reason.REFRESH_FAILED, LATER, observedRefresh="true")),
        THERE,
        Wait(until=LATER),
    ),
    "A new wish does not wait for what failed before it": (
        wishing("again", **failed(Reason.REFRESH_FAILED, LATER, observedRefresh="true")),
        THERE,
        Pull(LLAMA, Reason.REFRESHING, again=True),
    ),
    "A wish gets a stalled model tried again": (
        model(annotations={REFRESH: "true"}, status=failed(Reason.MODEL_UNKNOWN)),
        ABSENT,
        Pull(LLAMA, Reason.PULLING, again=True),
    ),
    "A wish for a model that was never there is a first pull, and no old version stays in use": (
        model(annotations={REFRESH: "true"}),
        ABSENT,
        Pull(LLAMA, Reason.PULLING, again=True),
    ),
    "A wish for a model that was lost brings it back, and does not call it Ready meanwhile": (
        wishing("true"),
        ABSENT,
        Pull(LLAMA, Reason.MODEL_LOST, again=True),
    ),
    "A wish for a model that nobody verified has it verified first": (
        model(annotations={REFRESH: "true"}),
        THERE,
        Verify(LLAMA),
    ),
    "A wish for a broken model asks the registry too when it is mended": (
        model(
            annotations={REFRESH: "true"},
            status=failed(
                Reason.MODEL_BROKEN, NOW, observedRefresh="true", fault=fault(confirmed=True)
            ),
        ),
        THERE,
        Pull(LLAMA, Reason.MODEL_BROKEN, again=True, repair=True),
    ),
    # --- what the object stood for before
    "The model before a changed spec goes when the new one is there": (
        model(status=READY | {"ownedModels": ["phi3:mini", "llama3.2:1b"]}),
        THERE,
        PruneFormer((PHI,)),
    ),
    "The model before a changed spec stays while the new one is not there": (
        model(generation=2, status={"ownedModels": ["phi3:mini"]}),
        ABSENT,
        Pull(LLAMA, Reason.PULLING),
    ),
    "The model before a changed spec is let go of even when another object names it": (
        model(status=READY | {"ownedModels": ["phi3:mini", "llama3.2:1b"]}),
        Observed(digest=DIGEST, shared=[PHI]),
        PruneFormer((PHI,)),
    ),
    "Another spelling of the model is not another model": (
        model(status=READY | {"ownedModels": ["LLAMA3.2:1B"]}),
        THERE,
        Wait(AVAILABLE),
    ),
    "What could not be discarded is tried again later": (
        model(
            status=READY
            | {"ownedModels": ["phi3:mini", "llama3.2:1b"], "nextRetryTime": LATER.isoformat()}
        ),
        THERE,
        Wait(until=LATER),
    ),
}

GONE = {"deletionTimestamp": DYING}

DELETED: dict[str, tuple[OllamaModel, Observed, Action]] = {
    "A deleted object takes its model with it": (
        model(**GONE, status=READY),
        THERE,
        Finalize((LLAMA,)),
    ),
    "A deleted object without a status takes the model of its spec": (
        model(**GONE),
        THERE,
        Finalize((LLAMA,)),
    ),
    "A model that is not listed is removed all the same, for the list may be old": (
        model(**GONE, status=READY),
        ABSENT,
        Finalize((LLAMA,)),
    ),
    "A deleted object takes every model that it brought": (
        model(**GONE, status={"ownedModels": ["llama3.2:1b", "phi3:mini"]}),
        THERE,
        Finalize((LLAMA, PHI)),
    ),
    "A model that another object names stays": (
        model(**GONE, status=READY),
        Observed(digest=DIGEST, shared=[LLAMA]),
        Finalize(()),
    ),
    "Of several models only those go that nobody names": (
        model(**GONE, status={"ownedModels": ["llama3.2:1b", "phi3:mini"]}),
        Observed(shared=[LLAMA]),
        Finalize((PHI,)),
    ),
    "During an outage the object waits and says why": (
        model(**GONE, status=READY),
        OUTAGE,
        Wait(
            Verdict(
                Reason.DELETION_BLOCKED,
                "Model not removed: http://ollama does not answer."
                f" To let go: annotate {FORCE_DELETE}=true.",
            )
        ),
    ),
    "During an outage an object whose model stays may go": (
        model(**GONE, status=READY),
        Observed(outage="away", shared=[LLAMA]),
        Finalize(()),
    ),
    "Forced, the object goes without its model, whatever else holds": (
        model(**GONE, status=READY, annotations={FORCE_DELETE: "true"}),
        OUTAGE,
        Finalize((), "ForcedDelete"),
    ),
    "Force is taken in any spelling of yes": (
        model(**GONE, status=READY, annotations={FORCE_DELETE: "Yes"}),
        OUTAGE,
        Finalize((), "ForcedDelete"),
    ),
    "Force that says no forces nothing": (
        model(**GONE, status=READY, annotations={FORCE_DELETE: "false"}),
        THERE,
        Finalize((LLAMA,)),
    ),
    "Force that says neither yes nor no is told": (
        model(**GONE, status=READY, annotations={FORCE_DELETE: "please"}),
        OUTAGE,
        Wait(
            Verdict(
                Reason.DELETION_BLOCKED,
                "Model not removed: http://ollama does not answer."
                f" To let go: annotate {FORCE_DELETE}=true. The annotation says 'please' now.",
            )
        ),
    ),
    "Force alone deletes nothing": (
        model(status=READY, annotations={FORCE_DELETE: "true"}),
        THERE,
        Wait(AVAILABLE),
    ),
    "A removal that failed waits until its next try is due": (
        model(**GONE, status=SEEN | failed(Reason.DELETION_BLOCKED, LATER)),
        THERE,
        Wait(until=LATER),
    ),
    "A removal that failed is tried again when it is due": (
        model(**GONE, status=SEEN | failed(Reason.DELETION_BLOCKED, NOW)),
        THERE,
        Finalize((LLAMA,)),
    ),
    "Deletion does not wait for the next try of a pull": (
        model(**GONE, status=SEEN | failed(Reason.PULL_FAILED, LATER)),
        THERE,
        Finalize((LLAMA,)),
    ),
    "An object that we hold no longer is left alone": (
        model(**GONE, finalizers=["example.com/theirs"], status=READY),
        THERE,
        Wait(),
    ),
    "An object with a bad spec can be deleted, and takes what it brought before": (
        made(
            manifest(finalizers=[FINALIZER], **GONE)
            | {"spec": {}, "status": {"ownedModels": ["phi3:mini"]}}
        ),
        THERE,
        Finalize((PHI,)),
    ),
    "An object with a bad spec that brought nothing just goes": (
        made(manifest(finalizers=[FINALIZER], **GONE) | {"spec": {}}),
        OUTAGE,
        Finalize(()),
    ),
}


def ids(table: dict) -> dict:
    """Make a parametrisation of a table: its sentences are the tests' names."""
    return {"argvalues": table.values(), "ids": [name.replace(" ", "_") for name in table]}


@pytest.mark.parametrize(("obj", "seen", "action"), **ids(LIVING))
def test_a_living_object(obj, seen, action):
    """Its case is the test's name."""
    assert decide(obj, seen, NOW) == action


@pytest.mark.parametrize(("obj", "seen", "action"), **ids(DELETED))
def test_a_deleted_object(obj, seen, action):
    """Its case is the test's name."""
    assert decide(obj, seen, NOW) == action


def test_a_bad_spec_is_told_in_words():
    """What is wrong, and where."""
    assert made(manifest(model="llama3.2:-b")).desired.name == Verdict(
        Reason.INVALID_NAME,
        "spec.tag: the tag begins with '-', which Ollama does not take there; write for example 1b."
        " Correct the spec.",
    )
    verdict = made(manifest() | {"spec": {"name": 5, "tag": "1b"}}).desired.name
    assert verdict == Verdict(
        Reason.INVALID_SPEC,
        'spec.name: 5 is a number; write it as a text, in quotes: "5". Correct the spec.',
    )


def test_a_status_edited_by_hand_owns_only_what_are_names():
    """What cannot be a model cannot be removed either."""
    obj = owned(ownedModels=["phi3:mini", "https://evil", ""])
    assert obj.desired.owned == (PHI,)


@pytest.mark.parametrize(
    ("obj", "still"),
    [
        (model(), True),
        (model(model="LLAMA3.2:1b"), True),
        (model(annotations={REFRESH: "true"}), True),
        (model(model="phi3:mini"), False),
        (model(model="a//b:c"), False),
        (model(**GONE), False),
    ],
    ids=["unchanged", "another spelling", "a wish", "another model", "no name", "deleted"],
)
def test_a_pull_is_cancelled_when_it_no_longer_serves(obj, still):
    """A change that wants the same model lets the download go on."""
    assert concerns(obj, Pull(LLAMA, Reason.PULLING)) is still
