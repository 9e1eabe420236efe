"""What the status says: every verdict becomes conditions and `state` in this one place.

Pure, as the decisions are. The conditions follow kstatus: Ready always, Reconciling while the
operator works or will try again, Stalled while a person must act; never both of these.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from crd.model import OllamaModel, is_current, is_said_ready, refresh_due
from crd.names import ModelName
from crd.reasons import Mode, Reason, Truth, Verdict
from crd.v1alpha1 import FINALIZER, Condition, Fault, OllamaModelStatus, Origin, Progress, State
from ollama_op.base.backoff import Backoff
from ollama_op.base.errors import OllamaError
from ollama_op.base.sizes import formatted_part, formatted_size
from ollama_op.ollama.wire import Entry, Loaded
from ollama_op.policy.decide import blocked, load_ahead, present

MODEL_RETRY = Backoff(first_s=1, longest_s=300, jitter=0.2)

_BY_TRUTH: dict[Truth, State] = {
    "True": State.READY,
    "False": State.FAILED,
    "Unknown": State.PENDING,
}


def report(
    model: OllamaModel,
    verdict: Verdict,
    now: datetime,
    /,
    *,
    mode: Mode | None = None,
    **changes: Any,
) -> OllamaModelStatus:
    """Return the status that says `verdict`, with `changes` to its other fields.

    `error` is set by what is wrong and stays until the model is well again. `mode` is for a reason
    that has another one here than it mostly has.
    """
    row, (ready, usual, state) = verdict.reason.row, _words(model, verdict.reason)
    mode = mode or usual
    if verdict.reason is Reason.AVAILABLE:
        trouble = ("error", "attempts", "next_retry_time", "progress", "server_version", "fault")
        changes = dict.fromkeys(trouble) | changes
        changes["next_refresh_time"] = _next_refresh(model, changes, now)
    elif verdict.reason is Reason.SUSPENDED:
        moot = ("attempts", "next_retry_time", "next_refresh_time", "progress")
        changes = dict.fromkeys(moot) | changes
    elif not row.is_fine:
        changes.setdefault("error", verdict.message)
    if row.of_server:
        changes.setdefault("next_retry_time", None)  # not a time is waited for, but a server
        if (fault := model.status.fault) and not fault.confirmed:
            changes["fault"] = None  # only what Ollama says twice without a gap counts
    if FINALIZER in model.metadata.finalizers and model.metadata.deletion_timestamp is None:
        # Whoever names a model answers for it, even if somebody else brings it.
        changes.setdefault("owned_models", tuple(map(str, model.desired.names)))
    conditions = [_condition(model, "Ready", ready, verdict, now)]
    if mode.value is not None:
        conditions.append(_condition(model, mode.value, "True", verdict, now))
    return replace(
        model.status,
        observed_generation=model.metadata.generation,
        observed_refresh=model.refresh_wish,
        state=state,
        conditions=tuple(conditions),
        **changes,
    )


def _words(model: OllamaModel, reason: Reason) -> tuple[Truth, Mode, State]:
    row = reason.row
    if row.ready is not None and row.state is not None:
        return row.ready, row.mode, row.state
    # What was true stays true, and what was not cannot become so: waiting for it would be in vain.
    truth: Truth = "True" if _is_still_ready(model) else "Unknown"
    old = model.status.condition("Ready")
    if old is not None and old.status == "False":
        truth = "False"
    mode = Mode.SETTLED if truth == "True" else Mode.STALLED
    return truth, mode, _BY_TRUTH[truth]


def _is_still_ready(model: OllamaModel) -> bool:
    """Return True if what made the model Ready is what the spec asks for now."""
    name, care = model.desired.name, model.desired.options
    if isinstance(name, Verdict) or isinstance(care, Verdict):
        return False
    is_same = model.status.model == str(name)
    is_pinned = care.expected_digest in (None, model.status.digest)
    return is_said_ready(model) and is_same and is_pinned


def _next_refresh(model: OllamaModel, changes: dict[str, Any], now: datetime) -> datetime | None:
    status = model.status
    return refresh_due(
        model,
        now,
        digest=changes.get("digest", status.digest),
        last_pull=changes.get("last_pull_time", status.last_pull_time),
    )


def in_memory(
    model: OllamaModel, memory: Loaded | None, now: datetime, *, is_lost: bool = False
) -> dict[str, Any]:
    """Return the fields that say whether the model is in memory, while somebody wants it there.

    Without `memory` what was said stays, unless it `is_lost`: not seen for too long to be said. How
    long the model stays moves with each use, and each word about it would be a write; so the time
    said is the earliest one, and moves when it has come near.
    """
    care = model.desired.options
    if not isinstance(care, Verdict) and care.keep_alive_s is None and model.status.loaded:
        return {}  # it is yet to be unloaded
    if isinstance(care, Verdict) or care.keep_alive_s is None or care.suspend or is_lost:
        return {"loaded": None, "expires_at": None}
    if memory is None:
        return {}
    if memory.is_for_ever(now):
        return {"loaded": True, "expires_at": None}
    said = model.status.expires_at
    is_near = said is None or said - load_ahead(care.keep_alive_s) <= now
    expires_at = memory.expires_at.replace(microsecond=0).astimezone(UTC)
    return {
        "loaded": True,
        "expires_at": min(said, expires_at) if said and not is_near else expires_at,
    }


def fetching(why: Reason, progress: Progress | None) -> str:
    """Return what a pull under way is doing."""
    if why is not Reason.PULLING or progress is None or not progress.total_bytes:
        return why.row.message
    done, total = formatted_part(progress.completed_bytes, progress.total_bytes)
    return f"Downloading {done} of {total}."


def under_way(
    model: OllamaModel, name: ModelName, verdict: Verdict, progress: Progress | None, now: datetime
) -> OllamaModelStatus:
    """Return the status of a model that is being fetched; it will be ours to remove."""
    changes: dict[str, Any] = {"progress": progress, "next_retry_time": None}
    if not is_current(model):
        changes["attempts"] = None
    if verdict.reason is not Reason.REFRESHING:
        changes |= {"digest": None, "size": None, "formatted_size": None}
        changes["next_refresh_time"] = None
        if verdict.reason is not Reason.MODEL_BROKEN:  # what is repaired was there before
            changes["origin"] = Origin.PULLED
        changes |= {"loaded": None, "expires_at": None, "remote_host": None}
        if not _is_about(model, name):
            changes["last_pull_time"] = None
    return report(model, verdict, now, model=str(name), **changes)


def available(
    model: OllamaModel,
    name: ModelName,
    entry: Entry,
    now: datetime,
    *,
    pulled: bool,
    found: bool = False,
) -> OllamaModelStatus:
    """Return the status of a model that was seen whole as `entry`, without earlier trouble.

    One that was `found` has been there before, whatever was said while it was looked for.
    """
    last_pull = model.status.last_pull_time if _is_about(model, name) else None
    origin = Origin.PULLED if pulled or last_pull else Origin.ADOPTED
    if model.status.model == str(name) and model.status.origin is not None and not found:
        origin = model.status.origin
    return report(
        model,
        present(entry.runs_on),
        now,
        model=str(name),
        remote_host=entry.runs_on,
        digest=entry.digest,
        size=entry.size,
        formatted_size=formatted_size(entry.size),
        last_pull_time=now if pulled else last_pull,
        origin=origin,
    )


def _is_about(model: OllamaModel, name: ModelName) -> bool:
    """Return True if the status speaks of this name; without one it is of an earlier operator."""
    return model.status.model in (None, str(name))


def failed(
    model: OllamaModel,
    error: OllamaError,
    now: datetime,
    *,
    reason: Reason,
    chance: float,
    fault: Fault | None = None,
) -> OllamaModelStatus:
    """Return the status that says what went wrong and, unless a person must act, the next try.

    `reason` may place the error in what was being done; `chance`, a number in [0, 1), spreads
    the delay. `fault` is what is to be remembered of the version that is there.
    """
    problem = _in_context(model, reason, str(error))
    attempts = 1 + (model.status.attempts or 0 if is_current(model) else 0)
    if reason is Reason.VERIFICATION_FAILED:
        attempts = 1  # whatever had failed before, Ollama has answered since
    is_final = _is_final(model, error, problem, attempts)
    gone: dict[str, Any] = {"fault": fault}
    if fault is not None and fault.confirmed:
        gone["digest"] = None
    if is_final and reason is error.reason:
        gone |= {"attempts": attempts, "next_retry_time": None, "progress": None}
        return report(model, Verdict(reason, problem), now, mode=Mode.STALLED, **gone)
    if reason is Reason.LOAD_FAILED:
        gone |= {"loaded": False, "expires_at": None}
    due, mode = now + retry_delay(attempts, error.patience_s, chance), Mode.WORKING
    if is_final and reason is Reason.REFRESH_FAILED:
        # The old version is well, and the registry has said its last word: until the next time.
        planned = _next_refresh(model, {"last_pull_time": now}, now)
        due, mode = (planned, Mode.SETTLED) if planned else (due, mode)
        gone["next_refresh_time"] = planned
    message = f"{problem.rstrip('.')}. Attempt {attempts} failed; next at {_moment(due, now)}."
    return report(
        model,
        Verdict(reason, message),
        now,
        mode=mode,
        error=problem,
        attempts=attempts,
        next_retry_time=due,
        **gone,
    )


def _in_context(model: OllamaModel, reason: Reason, problem: str) -> str:
    """Return what a problem means for what was being done."""
    match reason:
        case Reason.DELETION_BLOCKED:
            return blocked(model, problem)
        case Reason.REFRESH_FAILED:
            return f"Refresh failed: {problem.rstrip('.')}. The old version stays in use."
        case Reason.LOAD_FAILED:
            return f"Model is present and answers, but not loaded: {problem}"
        case Reason.AVAILABLE:
            return f"Model is present and answers. Cleaning up failed: {problem}"
        case _:
            return problem


def _moment(due: datetime, now: datetime) -> str:
    """Write a time; with its date, where that is another one."""
    return f"{due:%H:%M:%SZ}" if due.date() == now.date() else f"{due:%Y-%m-%d %H:%M:%SZ}"


def _is_final(model: OllamaModel, error: OllamaError, problem: str, attempts: int) -> bool:
    """Return True if trying again has not helped, or cannot, and no refresh asks for it."""
    if model.refresh_wish is not None:
        return False
    return error.is_final or (attempts >= error.stalled_after and model.status.error == problem)


def retry_delay(attempts: int, patience_s: float, chance: float) -> timedelta:
    """Return how long to wait after so many failed attempts, and never below `patience_s`."""
    seconds = MODEL_RETRY.after(attempts, chance=chance, at_least_s=patience_s)
    # Status times have whole seconds; rounding up never makes a retry come early.
    return timedelta(seconds=int(seconds) + 1)


def _condition(
    model: OllamaModel, kind: str, truth: Truth, verdict: Verdict, now: datetime
) -> Condition:
    old = model.status.condition(kind)
    return Condition(
        type=kind,
        status=truth,
        reason=verdict.reason,
        message=verdict.message,
        observed_generation=model.metadata.generation,
        # Its time tells since when: it moves only when the status flips.
        last_transition_time=old.last_transition_time if old and old.status == truth else now,
    )
