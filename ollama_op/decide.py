"""The rules: what to do next for one model, from what is known right now.

Pure: no I/O, no clock of its own, no memory. Whatever a decision depends on is in the object, in
its status, or observed; so a restarted operator decides as the one before it did.
"""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from msgspec import UNSET

from crd.names import InvalidNameError, ModelName
from crd.v1alpha1 import FINALIZER, FORCE_DELETE, REFRESHED, Malformed, OllamaModel, Reason


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the status shall say."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Observed:
    """What surrounds the object at the moment of the decision."""

    outage: str | None = None  # why Ollama cannot be asked; None while it answers
    digest: str | None = None  # of spec's model in Ollama's list; None when it is not there
    shared: Collection[ModelName] = field(default_factory=frozenset)  # named by other live objects


@dataclass(frozen=True, slots=True)
class Claim:
    """Put our finalizer on the object, before Ollama is touched for it."""


@dataclass(frozen=True, slots=True)
class Pull:
    """Download the model and see that it is whole.

    With `again` the registry is asked even if the model is there; with `repair` what is there is
    deleted first.
    """

    name: ModelName
    why: Reason
    again: bool = False
    repair: bool = False


@dataclass(frozen=True, slots=True)
class Verify:
    """Ask Ollama to show the model that it lists."""

    name: ModelName


@dataclass(frozen=True, slots=True)
class Discard:
    """Let go of models that the object stood for before its spec changed."""

    names: tuple[ModelName, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """Remove these models, see them gone, then drop the finalizer."""

    names: tuple[ModelName, ...]


@dataclass(frozen=True, slots=True)
class Rest:
    """Do nothing until something changes, or it is `until`."""

    verdict: Verdict | None = None  # None leaves the status as it is
    until: datetime | None = None


Action = Claim | Pull | Verify | Discard | Leave | Rest

AVAILABLE = Verdict(Reason.AVAILABLE, "Model is present and answers.")


def decide(model: OllamaModel, seen: Observed, now: datetime) -> Action:
    """Choose the one next action: deletion first, ownership second, then the model itself."""
    if model.metadata.deletion_timestamp is not None:
        return _part(model, seen, now)
    name = wanted(model)
    if isinstance(name, Verdict):
        return Rest(name)
    if FINALIZER not in model.metadata.finalizers:
        return Claim()
    if seen.outage is not None:
        return Rest(None if _is_stalled(model) else _unreachable(seen.outage))
    if seen.digest is None and _is_said_ready(model):
        return _bring(model, name)  # whatever the next try was for: this is not to be said longer
    if seen.digest is None or _is_broken(model):
        return _next_try(model, now, _bring(model, name))
    if not is_verified(model, name, seen.digest):
        return _next_try(model, now, Verify(name)) if _was_unanswered(model) else Verify(name)
    if refresh_wish(model) is not None:
        return _next_try(model, now, Pull(name, Reason.REFRESHING, again=True))
    if former := tuple(n for n in owned(model) if n != name):
        due = _retry_due(model, now)
        return Rest(until=due) if due else Discard(former)
    return Rest(AVAILABLE)


def wanted(model: OllamaModel) -> ModelName | Verdict:
    """Read the model's name from the spec, or say what is wrong with it."""
    if isinstance(model.spec, Malformed):
        return Verdict(Reason.INVALID_SPEC, f"The spec cannot be read: {model.spec.problem}.")
    try:
        return ModelName.of(model.spec.name, model.spec.tag)
    except InvalidNameError as error:
        return Verdict(Reason.INVALID_NAME, f"Not a model name: {error}. Correct the spec.")


def owned(model: OllamaModel) -> tuple[ModelName, ...]:
    """List the models that this object may have brought to the server.

    Without a record (an object of an earlier operator) it is the model of its spec.
    """
    names = []
    for text in model.status.owned_models:
        with contextlib.suppress(InvalidNameError):  # status can be edited by hand
            names.append(ModelName.parse(text))
    if not names and isinstance(name := wanted(model), ModelName):
        names.append(name)
    return tuple(names)


def with_wanted(model: OllamaModel) -> tuple[ModelName, ...]:
    """List what the object owns together with what it names now."""
    name = wanted(model)
    names = (*owned(model), name) if isinstance(name, ModelName) else owned(model)
    return tuple(dict.fromkeys(names))


def refresh_wish(model: OllamaModel) -> str | None:
    """Return the value of the refresh annotation while it asks for something."""
    value = model.metadata.annotations.refresh
    if value is UNSET or not value or value.startswith(REFRESHED):
        return None
    return None if value == model.status.last_handled_refresh else value


def concerns(model: OllamaModel, action: Action) -> bool:
    """Tell whether an action, and so its outcome, still concerns the object as it is now."""
    match action:
        case Pull(name=name) | Verify(name=name):
            return model.metadata.deletion_timestamp is None and wanted(model) == name
        case _:
            return True


def is_verified(model: OllamaModel, name: ModelName, digest: str | None) -> bool:
    """Tell whether exactly this version of the model was seen to answer before."""
    status = model.status
    return status.model == str(name) and status.digest is not None and status.digest == digest


def is_current(model: OllamaModel) -> bool:
    """Tell whether the status speaks of this spec and this refresh wish, and not of older ones."""
    status = model.status
    return (
        status.observed_generation == model.metadata.generation
        and status.observed_refresh == refresh_wish(model)
    )


def blocked(problem: str) -> str:
    """Say why a deletion waits, and how to end the waiting."""
    return f"Model not removed: {problem.rstrip('.')}. To let go: annotate {FORCE_DELETE}=true."


def _next_try(model: OllamaModel, now: datetime, action: Action) -> Action:
    """Return `action`, unless the last failure says to wait with it."""
    if _is_stalled(model):
        return Rest()
    due = _retry_due(model, now)
    return Rest(until=due) if due else action


def _bring(model: OllamaModel, name: ModelName) -> Pull:
    again = refresh_wish(model) is not None
    if _is_broken(model):
        return Pull(name, Reason.MODEL_BROKEN, again=again, repair=True)
    had_it = model.status.model == str(name) and model.status.digest is not None
    return Pull(name, Reason.MODEL_LOST if had_it else Reason.PULLING, again=again)


def _is_said_ready(model: OllamaModel) -> bool:
    ready = model.status.condition("Ready")
    return ready is not None and ready.status == "True"


def _was_unanswered(model: OllamaModel) -> bool:
    ready = model.status.condition("Ready")
    return ready is not None and ready.reason in (Reason.PROTOCOL_ERROR, Reason.OLLAMA_UNREACHABLE)


def _retry_due(model: OllamaModel, now: datetime) -> datetime | None:
    """Return when the next try may be made, if that is still to come."""
    due = model.status.next_retry_time
    return due if due and now < due and is_current(model) else None


def _is_stalled(model: OllamaModel) -> bool:
    return is_current(model) and model.status.condition("Stalled") is not None


def _unreachable(outage: str) -> Verdict:
    return Verdict(Reason.OLLAMA_UNREACHABLE, f"{outage}. Waiting until Ollama answers.")


def _is_broken(model: OllamaModel) -> bool:
    ready = model.status.condition("Ready")
    return ready is not None and ready.reason == Reason.MODEL_BROKEN and is_current(model)


def _part(model: OllamaModel, seen: Observed, now: datetime) -> Action:
    if FINALIZER not in model.metadata.finalizers:
        return Rest()  # somebody else's finalizer keeps the object
    if model.metadata.annotations.force_delete == "true":
        return Leave(())
    names = _unshared(with_wanted(model), seen)
    if names and seen.outage is not None:
        return Rest(Verdict(Reason.DELETION_BLOCKED, blocked(seen.outage)))
    ready = model.status.condition("Ready")
    if ready and ready.reason == Reason.DELETION_BLOCKED and (due := _retry_due(model, now)):
        return Rest(until=due)
    return Leave(names)


def _unshared(names: Collection[ModelName], seen: Observed) -> tuple[ModelName, ...]:
    return tuple(name for name in names if name not in seen.shared)
