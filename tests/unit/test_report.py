import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crd.model import OllamaModel
from crd.names import ModelName
from crd.reasons import Mode, Reason
from crd.v1alpha1 import FINALIZER, REFRESH, OllamaModelStatus, Origin, Progress, State
from ollama_op.base.errors import (
    AuthenticationFailed,
    InsufficientStorage,
    ModelUnknown,
    OllamaError,
    PullFailed,
    RegistryBusy,
    RegistryUnavailable,
    StorageFailed,
)
from ollama_op.base.sizes import formatted_size
from ollama_op.ollama.wire import Entry, Loaded
from ollama_op.policy import report
from ollama_op.policy.decide import AVAILABLE, SUSPENDED_VERDICT, Verdict
from support.virtual.models import DIGEST, NOW, condition, made, manifest, owned

LLAMA = ModelName.parse("llama3.2:1b")
ENTRY = Entry(name="llama3.2:1b", digest=DIGEST, size=1_321_098_329)
GB = 1_000_000_000


def fail(obj: OllamaModel, error: OllamaError, reason: Reason | None = None) -> OllamaModelStatus:
    return report.failed(obj, error, NOW, reason=reason or error.reason, chance=0)


def again(status: OllamaModelStatus) -> OllamaModel:
    """Return an object that has this status from an earlier try."""
    return replace(owned(), status=status)


def told(status: OllamaModelStatus) -> dict[str, tuple[str, str]]:
    """Return each condition's status and reason."""
    return {c.type: (c.status, c.reason) for c in status.conditions}


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("mode", [None, Mode.WORKING])
def test_every_reason_makes_conditions_that_tools_understand(reason, mode):
    """Ready always; Reconciling or Stalled while not settled, and never both: so kstatus reads."""
    obj = made(manifest(generation=7))
    status = report.report(obj, Verdict(reason, "so"), NOW, mode=mode)
    kinds = {c.type for c in status.conditions}
    assert kinds in ({"Ready"}, {"Ready", "Reconciling"}, {"Ready", "Stalled"})
    assert {(c.reason, c.message, c.observed_generation) for c in status.conditions} == {
        (reason, "so", 7)
    }
    assert (status.observed_generation, status.state is not None) == (7, True)
    assert not (mode and "Stalled" in kinds)


READY_REASONS = {
    Reason.AVAILABLE,
    Reason.REFRESHING,
    Reason.REFRESH_FAILED,
    Reason.LOAD_FAILED,
}


@pytest.mark.parametrize("reason", Reason)
def test_state_and_ready_never_contradict(reason):
    """`kubectl get` and `kubectl wait` tell the same."""
    status = report.report(made(manifest()), Verdict(reason, "so"), NOW)
    assert (status.state is State.READY) == (told(status)["Ready"][0] == "True")
    assert (status.state is State.READY) == (reason in READY_REASONS)
    assert (status.state is State.FAILED) <= (told(status)["Ready"][0] == "False")


@pytest.mark.parametrize("reason", Reason)
def test_an_error_is_told_exactly_when_something_is_wrong(reason):
    """What is merely under way is no error."""
    status = report.report(made(manifest()), Verdict(reason, "so"), NOW)
    fine = {
        Reason.AVAILABLE,
        Reason.SUSPENDED,
        Reason.QUEUED,
        Reason.PULLING,
        Reason.REFRESHING,
    }
    assert (status.error is None) == (reason in fine)


def test_saying_the_same_again_changes_nothing():
    """An equal status is no write, however much later it is said."""
    obj = owned(conditions=[condition("Ready", "False", Reason.PULL_FAILED)])
    first = report.report(obj, Verdict(Reason.PULL_FAILED, "so"), NOW)
    later = report.report(
        replace(obj, status=first), Verdict(Reason.PULL_FAILED, "so"), NOW + timedelta(hours=1)
    )
    assert later == first


def test_the_time_of_a_condition_moves_only_when_its_status_flips():
    """It tells since when; a new reason or message is no flip."""
    obj = owned(conditions=[condition("Ready", "False", Reason.PULL_FAILED)])
    since = obj.status.conditions[0].last_transition_time
    other = report.report(obj, Verdict(Reason.DIGEST_MISMATCH, "other words"), NOW)
    assert other.condition("Ready").last_transition_time == since
    well = report.report(obj, AVAILABLE, NOW)
    assert well.condition("Ready").last_transition_time == NOW


def test_a_model_that_is_well_shows_no_trace_of_trouble():
    """Error, attempts, next try and progress are gone."""
    obj = owned(
        error="bad",
        attempts=3,
        nextRetryTime="2026-01-01T00:00:00Z",
        progress={"completedBytes": 5},
        conditions=[
            condition("Ready", "False", Reason.PULL_FAILED),
            condition("Reconciling", "True", Reason.PULL_FAILED),
        ],
    )
    status = report.available(obj, LLAMA, ENTRY, NOW, pulled=True)
    assert (status.error, status.attempts, status.next_retry_time, status.progress) == (None,) * 4
    assert told(status) == {"Ready": ("True", "Available")}
    assert (status.state, status.digest, status.size) == (State.READY, DIGEST, ENTRY.size)
    assert (status.model, status.formatted_size) == ("llama3.2:1b", "1.2 GiB")
    assert (status.last_pull_time, status.owned_models) == (NOW, ("llama3.2:1b",))


def test_the_time_of_the_last_pull_is_of_pulls_only():
    """Verifying moves nothing."""
    obj = owned(lastPullTime="2025-01-01T00:00:00Z")
    status = report.available(obj, LLAMA, ENTRY, NOW, pulled=False)
    assert status.last_pull_time == obj.status.last_pull_time


def test_what_may_be_on_the_server_is_remembered_before_it_is_there():
    """A restart in mid-pull must know what to remove one day, the former model included."""
    obj = owned("llama3.2:1b", ownedModels=["phi3:mini"])
    status = report.under_way(obj, LLAMA, Verdict(Reason.PULLING, "so"), None, NOW)
    assert status.owned_models == ("phi3:mini", "llama3.2:1b")
    assert (status.model, status.state) == ("llama3.2:1b", State.PULLING)


@pytest.mark.parametrize(("reason", "kept"), [(Reason.PULLING, None), (Reason.REFRESHING, DIGEST)])
def test_a_first_pull_shows_no_digest_and_a_refresh_the_old_one(reason, kept):
    """The old version stays in use while a newer one is looked for."""
    obj = owned(model="llama3.2:1b", digest=DIGEST, size=5, formattedSize="5 B")
    status = report.under_way(obj, LLAMA, Verdict(reason, "so"), None, NOW)
    assert (status.digest, status.size is None) == (kept, kept is None)


def test_a_new_spec_begins_to_count_anew():
    """The failures were those of another model."""
    obj = made(
        manifest(generation=2, finalizers=[FINALIZER])
        | {"status": {"observedGeneration": 1, "attempts": 5}}
    )
    assert fail(obj, PullFailed("bad")).attempts == 1
    status = report.under_way(obj, LLAMA, Verdict(Reason.PULLING, "so"), None, NOW)
    assert status.attempts is None


def test_failures_in_a_row_are_counted():
    """And the next try is named, in the message as in the field."""
    obj = owned(attempts=2)
    status = fail(obj, PullFailed("The registry coughed."))
    assert (status.attempts, status.next_retry_time) == (3, NOW + timedelta(seconds=5))
    assert status.error == "The registry coughed."
    assert status.condition("Ready").message == (
        "The registry coughed. Attempt 3 failed; next at 12:00:05Z."
    )
    assert told(status) == {
        "Ready": ("False", "PullFailed"),
        "Reconciling": ("True", "PullFailed"),
    }


def test_what_a_person_must_mend_is_not_tried_again():
    """Stalled, and no next try."""
    status = fail(owned(nextRetryTime="2026-01-01T00:00:00Z"), ModelUnknown("No such model."))
    assert told(status) == {
        "Ready": ("False", "ModelUnknown"),
        "Stalled": ("True", "ModelUnknown"),
    }
    assert (status.next_retry_time, status.attempts) == (None, 1)


def test_a_refresh_that_fails_leaves_the_model_ready():
    """Even when it could not be served ever: the old version stays in use."""
    body = manifest(annotations={REFRESH: "true"}, finalizers=[FINALIZER])
    obj = made(body | {"status": {"digest": DIGEST, "observedGeneration": 1}})
    status = fail(obj, ModelUnknown("No such model."), Reason.REFRESH_FAILED)
    assert told(status) == {
        "Ready": ("True", "RefreshFailed"),
        "Reconciling": ("True", "RefreshFailed"),
    }
    assert status.error.startswith("Refresh failed: No such model.")
    assert (status.digest, status.observed_refresh) == (DIGEST, "true")
    assert status.next_retry_time is not None


def test_a_sentence_ends_with_one_full_stop():
    """Also where one message is put into another."""
    obj = owned(digest=DIGEST)
    for reason in (Reason.REFRESH_FAILED, Reason.DELETION_BLOCKED, Reason.AVAILABLE):
        status = fail(obj, PullFailed("The registry coughed."), reason)
        assert not re.search(r"[^.]\.\.(?!\.)", status.error), status.error


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("will_retry", [True, False])
def test_no_message_is_too_long_for_the_schema(reason, will_retry):
    """Whatever Ollama says: error and message take 1024 characters."""
    error = (PullFailed if will_retry else ModelUnknown)("x" * 5000)
    status = fail(owned(), error, reason)
    assert len(status.error or "") <= 1024
    assert all(len(c.message) <= 1024 for c in status.conditions)


@given(st.integers(1, 10**6), st.sampled_from([0.0, 300.0]), st.floats(0, 1, exclude_max=True))
def test_a_delay_has_bounds(attempts, patience_s, chance):
    """Never shorter than doubling or patience ask, never longer than the longest and its jitter."""
    delay_s = report.retry_delay(attempts, patience_s, chance).total_seconds()
    assert delay_s >= max(min(2 ** min(attempts - 1, 20), 300), patience_s)
    assert delay_s <= 300 * 1.2 + 1
    assert delay_s == int(delay_s)


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_later_attempt_never_comes_sooner(attempts, chance):
    """Given the same chance."""
    first, second = (report.retry_delay(attempts + n, 0, chance) for n in (0, 1))
    assert first <= second


def test_what_takes_a_person_some_time_is_tried_rarely():
    """A full disk or a wrong password does not mend within a second, nor does a rate limit."""
    for error in (InsufficientStorage("full"), StorageFailed("read-only"), RegistryBusy("often")):
        status = fail(owned(), error)
        assert status.next_retry_time >= NOW + timedelta(seconds=300)
        assert "Stalled" not in told(status)


def test_who_is_denied_access_time_and_again_needs_a_person():
    """A gateway says 403 once; a registry that says it three times in a row means it."""
    denied = AuthenticationFailed("denied")
    status = fail(owned(), denied)
    assert status.next_retry_time >= NOW + timedelta(seconds=60)
    status = fail(again(status), denied)
    assert told(status)["Reconciling"] == ("True", Reason.AUTHENTICATION_FAILED)
    status = fail(again(status), denied)
    assert told(status)["Stalled"] == ("True", Reason.AUTHENTICATION_FAILED)
    assert status.next_retry_time is None


def test_one_denial_after_other_failures_is_no_verdict():
    """It has to be said in a row: an outage that ends in one 403 goes on being tried."""
    status = OllamaModelStatus()
    for _ in range(5):
        status = fail(again(status), RegistryUnavailable("down"))
    status = fail(again(status), AuthenticationFailed("denied"))
    assert "Stalled" not in told(status)
    assert status.attempts == 6


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1_321_098_329, "1.2 GiB"),
        (1_825_361_100, "1.7 GiB"),
        (2**40, "1.0 TiB"),
        (2000 * 2**40, "2000.0 TiB"),
    ],
)
def test_a_size_is_written_in_binary_units(size_bytes, text):
    """With one decimal, as the Go operator has it."""
    assert formatted_size(size_bytes) == text


@given(st.integers(0, 2**50))
def test_a_formatted_size_is_near_the_truth(size_bytes):
    """Half of the last decimal off at most."""
    number, unit = formatted_size(size_bytes).split()
    factor = 1024 ** ("B", "KiB", "MiB", "GiB", "TiB").index(unit)
    assert abs(float(number) * factor - size_bytes) <= 0.0501 * factor


@pytest.mark.parametrize(
    ("why", "progress", "text"),
    [
        (Reason.PULLING, None, "Downloading."),
        (Reason.PULLING, Progress(), "Downloading."),
        (
            Reason.PULLING,
            Progress(completed_bytes=GB, total_bytes=2 * GB),
            "Downloading 0.9 of 1.9 GiB.",
        ),
        (Reason.MODEL_LOST, None, "Model vanished from the server; pulling it again."),
    ],
)
def test_a_pull_under_way_says_what_it_does(why, progress, text):
    """In sizes while they are known."""
    assert report.fetching(why, progress) == text


@pytest.mark.parametrize(
    ("ready", "state", "stalled"),
    [("True", State.READY, None), ("False", State.FAILED, "True"), (None, State.PENDING, "True")],
)
def test_a_pause_keeps_what_was_true(ready, state, stalled):
    """And who waits for what was not true is told that a person must act."""
    conditions = [condition("Ready", ready, Reason.AVAILABLE)] if ready else []
    status = {"model": "llama3.2:1b", "digest": DIGEST, "conditions": conditions, "attempts": 3}
    status = report.report(made(manifest() | {"status": status}), SUSPENDED_VERDICT, NOW)
    assert (status.state, status.condition("Ready").status) == (state, ready or "Unknown")
    assert (status.condition("Stalled") is not None) == (stalled is not None)
    assert status.attempts is None


@pytest.mark.parametrize(
    ("status", "pulled", "origin"),
    [
        ({}, False, Origin.ADOPTED),
        ({}, True, Origin.PULLED),
        ({"model": "llama3.2:1b", "origin": "Pulled"}, False, Origin.PULLED),
        ({"model": "llama3.2:1b", "origin": "Adopted"}, True, Origin.ADOPTED),
        ({"model": "phi3:mini", "origin": "Pulled"}, False, Origin.ADOPTED),
        ({"lastPullTime": "2025-01-01T00:00:00Z"}, False, Origin.PULLED),
    ],
)
def test_the_origin_is_that_of_the_model_that_is_there(status, pulled, origin):
    """A refresh does not change it, a change of name does; an earlier operator's pull counts."""
    obj = made(manifest() | {"status": status})
    assert report.available(obj, LLAMA, ENTRY, NOW, pulled=pulled).origin is origin


def cared(keep_alive: str | None, **status) -> OllamaModel:
    """Make an object that wishes its model in memory."""
    body = manifest(finalizers=[FINALIZER])
    care = {} if keep_alive is None else {"keepAlive": keep_alive}
    return made(body | {"spec": body["spec"] | care, "status": status})


def test_how_long_a_model_stays_loaded_is_not_written_at_every_use():
    """The time said is the earliest one; it moves when it has come near, or was too late."""
    until = {minutes: Loaded(NOW + timedelta(minutes=minutes)) for minutes in (5, 9, 10, 12)}
    said = {"expiresAt": until[10].expires_at.isoformat(), "loaded": True}
    for minutes, now, shown in ((12, 0, 10), (5, 0, 5), (12, 9, 12)):
        at = NOW + timedelta(minutes=now)
        told = report.in_memory(cared("10m", **said), until[minutes], at)
        assert told == {"loaded": True, "expires_at": until[shown].expires_at}


def test_a_model_that_is_loaded_for_ever_has_no_end():
    """Ollama's three centuries are not shown; and nothing is, where nobody wants it loaded."""
    ever = Loaded(NOW + timedelta(days=365 * 290))
    assert report.in_memory(cared("-1"), ever, NOW) == {"loaded": True, "expires_at": None}
    assert report.in_memory(cared("-1"), None, NOW) == {}
    assert report.in_memory(cared(None), ever, NOW) == {"loaded": None, "expires_at": None}
