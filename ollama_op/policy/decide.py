"""The rules: what to do next for one model, from what is known right now.

Pure: no I/O, no clock of its own, no memory. Whatever a decision depends on is in the object, in
its status, or observed; so a restarted operator decides as the one before it did.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from crd.model import (
    OllamaModel,
    fault_of,
    is_current,
    is_said_ready,
    is_stalled,
    is_verified,
    needs_version,
    ready_reason,
    refresh_due,
    retry_due,
)
from crd.names import ModelName
from crd.options import Options, never_in_memory
from crd.reasons import Reason, Verdict
from crd.v1alpha1 import FINALIZER
from ollama_op.base.errors import sanitise
from ollama_op.ollama.wire import Loaded

# Why an object is let go of, as its event says.
DELETED, FORCED, RETAINED = "Deleted", "ForcedDelete", "Retained"


@dataclass(frozen=True, slots=True)
class Observed:
    """What surrounds the object at the moment of the decision."""

    outage: str | None = None  # why Ollama cannot be asked; None while it answers
    is_foreign: bool = False  # in an outage: something answers, and it is not Ollama
    doubt: str | None = None  # why it is not known whether, or as what, Ollama has spec's model
    digest: str | None = None  # of spec's model in Ollama's list; None when it is not there
    shared: Collection[ModelName] = field(default_factory=frozenset)  # named by other live objects
    memory: Loaded | None = None  # spec's model in memory; None when it is not
    memory_known: bool = False  # whether `memory` was looked at
    runs_on: str | None = None  # where a cloud model runs; None for one that runs on the server
    version: str | None = None  # of Ollama, where somebody waits for another one


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Put our finalizer on the object, before Ollama is touched for it."""


@dataclass(frozen=True, slots=True)
class Pull:
    """Download the model and see that it is whole.

    With `again` the registry is asked even if the model is there. With `repair` one that cannot be
    shown is deleted and pulled afresh, where a pull alone does not mend it.
    """

    name: ModelName
    why: Reason
    again: bool = False
    repair: bool = False
    insecure: bool = False  # Ollama's own word: without TLS
    timeout_s: float = math.inf  # of the download, once its turn has come


@dataclass(frozen=True, slots=True)
class Verify:
    """Ask Ollama to show the model that it lists.

    With `again` it could not be shown before: only Ollama's own word may confirm that.
    """

    name: ModelName
    again: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """Have the model in memory for so long after each use; infinite is for ever."""

    name: ModelName
    keep_alive_s: float


@dataclass(frozen=True, slots=True)
class Unload:
    """Take the model out of memory: nobody asks any more to keep it there."""

    name: ModelName


@dataclass(frozen=True, slots=True)
class PruneFormer:
    """Let go of models that the object stood for before its spec changed."""

    names: tuple[ModelName, ...]
    retained: bool = False  # they stay on the server


@dataclass(frozen=True, slots=True)
class Finalize:
    """Remove these models, see them gone, then drop the finalizer."""

    names: tuple[ModelName, ...]
    event: str = DELETED


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until something changes, or it is `until`."""

    verdict: Verdict | None = None  # None leaves the status as it is
    until: datetime | None = None
    memory: Loaded | None = None  # what the status is to say of the model in memory


Action = AddFinalizer | Pull | Verify | Load | Unload | PruneFormer | Finalize | Wait

AVAILABLE = Verdict.of(Reason.AVAILABLE)
SUSPENDED_VERDICT = Verdict.of(Reason.SUSPENDED)


def present(runs_on: str | None) -> Verdict:
    """Return the verdict of a model that is well; it says where a cloud model runs."""
    if runs_on is None:
        return AVAILABLE
    message = f"{AVAILABLE.message} It is a cloud model: it runs on {runs_on}."
    return Verdict(Reason.AVAILABLE, message)


def decide(model: OllamaModel, seen: Observed, now: datetime) -> Action:
    """Choose the one next action: deletion first, ownership second, then the model itself."""
    if model.metadata.deletion_timestamp is not None:
        return _part(model, seen, now)
    name, care = model.desired.name, model.desired.options
    if isinstance(name, Verdict):
        return Wait(name)
    if FINALIZER not in model.metadata.finalizers:
        return (
            AddFinalizer()
        )  # others leave the model to whoever names it, so that one has to answer for it
    if isinstance(care, Verdict):
        return Wait(care)
    if care.suspend:
        return Wait(SUSPENDED_VERDICT)
    if seen.outage is not None:
        return Wait(None if is_stalled(model) else _unreachable(seen))
    if seen.doubt is not None:
        return Wait(None if is_stalled(model) else _unread(seen.doubt))
    if care.keep_alive_s is not None and seen.runs_on is not None:
        return Wait(_never_in_memory(seen.runs_on))
    return _bring(model, name, care, seen, now) or _keep(model, name, care, seen, now)


def _bring(
    model: OllamaModel, name: ModelName, care: Options, seen: Observed, now: datetime
) -> Action | None:
    """Return how to get the right version there and verified; None when it is."""
    again = model.refresh_wish is not None
    if seen.digest is None and is_said_ready(model):
        # Whatever the next try was for: this is not to be said longer.
        return _pull(name, care, _why(model, name), again=again)
    if (fault := fault_of(model, name, seen.digest)) is not None:
        repair = fault.confirmed and not fault.downloaded
        pull = _pull(name, care, Reason.MODEL_BROKEN, again=again, repair=repair)
        return _mend(model, pull, seen, now)
    if seen.digest is None:
        return _next_try(model, seen, now, _pull(name, care, _why(model, name), again=again))
    if care.expected_digest not in (None, seen.digest):
        return _next_try(model, seen, now, _pull(name, care, Reason.PULLING, again=True))
    if not is_verified(model, name, seen.digest):
        verify = Verify(name)
        return _next_try(model, seen, now, verify) if _was_unanswered(model) else verify
    due = refresh_due(model, now, digest=seen.digest, last_pull=model.status.last_pull_time)
    if again or (due is not None and due <= now):
        return _next_try(model, seen, now, _pull(name, care, Reason.REFRESHING, again=True))
    return None


def _mend(model: OllamaModel, pull: Pull, seen: Observed, now: datetime) -> Action:
    """Treat a model that Ollama cannot show: ask again, and only then have it repaired."""
    verify = Verify(pull.name, again=True)
    if not is_current(model):
        return verify  # first of all: what could not be shown may be well by now
    return _next_try(model, seen, now, pull if pull.repair or pull.again else verify)


def _keep(
    model: OllamaModel, name: ModelName, care: Options, seen: Observed, now: datetime
) -> Action:
    """Tidy up around a model that is well, and keep it in memory if that is wished."""
    if former := tuple(n for n in model.desired.owned if n != name):
        due = retry_due(model, now)
        return Wait(until=due) if due else PruneFormer(former, retained=model.desired.is_retained)
    if care.keep_alive_s is None:
        if model.status.loaded:
            return _next_try(model, seen, now, Unload(name))
    elif seen.memory_known and wants_loading(care.keep_alive_s, seen.memory, now):
        return _next_try(model, seen, now, Load(name, care.keep_alive_s))
    due = refresh_due(model, now, digest=seen.digest, last_pull=model.status.last_pull_time)
    if care.keep_alive_s is None or seen.memory is None:
        return Wait(present(seen.runs_on), until=due)
    if not seen.memory.is_for_ever(now):
        again = seen.memory.expires_at - load_ahead(care.keep_alive_s)
        due = min(due, again) if due else again
    return Wait(AVAILABLE, until=due, memory=seen.memory)


def load_ahead(keep_alive_s: float) -> timedelta:
    """Return how long before it would be unloaded a model is loaded again."""
    return timedelta(seconds=min(keep_alive_s / 2, 60))


def wants_loading(keep_alive_s: float, memory: Loaded | None, now: datetime) -> bool:
    """Return True if a model has to be loaded, anew or for longer."""
    if memory is None:
        return True
    if math.isinf(keep_alive_s):
        return not memory.is_for_ever(now)
    return memory.expires_at - load_ahead(keep_alive_s) <= now


def concerns(model: OllamaModel, action: Action) -> bool:
    """Return True if an action, and so its outcome, still concerns the object as it is now."""
    match action:
        case Pull() | Verify() | Load():
            if model.metadata.deletion_timestamp is not None or model.desired.is_suspended:
                return False
            return model.desired.name == action.name and _as_wished(model, action)
        case _:
            return True


def _as_wished(model: OllamaModel, action: Pull | Verify | Load) -> bool:
    care = model.desired.options
    if isinstance(care, Verdict):
        return False
    match action:
        case Pull():
            return action == _pull(
                action.name, care, action.why, again=action.again, repair=action.repair
            )
        case Load():
            return action.keep_alive_s == care.keep_alive_s
        case Verify():
            return True


def blocked(model: OllamaModel, problem: str) -> str:
    """Return why a deletion waits, and how to end the waiting."""
    unclear = model.metadata.annotations.unclear_force
    hint = f" The annotation says {sanitise(unclear)!r} now." if unclear is not None else ""
    return Verdict.about(Reason.DELETION_BLOCKED, f"Model not removed: {problem}").message + hint


def _next_try(model: OllamaModel, seen: Observed, now: datetime, action: Action) -> Action:
    """Return `action`, unless the last failure says to wait with it."""
    if is_stalled(model) and not (_has_new_version(model, seen) or _has_new_digest(model, seen)):
        return Wait()
    due = retry_due(model, now)
    return Wait(until=due) if due else action


def _has_new_version(model: OllamaModel, seen: Observed) -> bool:
    """Return True if the server that cannot use the model is another version by now."""
    if not needs_version(model) or seen.version is None:
        return False
    return seen.version != model.status.server_version


def _has_new_digest(model: OllamaModel, seen: Observed) -> bool:
    """Return True if the version of the model that Ollama cannot use is not there any more."""
    fault = model.status.fault
    if ready_reason(model) != Reason.MODEL_UNSUPPORTED or fault is None:
        return False
    return fault.digest != seen.digest


def _pull(
    name: ModelName, care: Options, why: Reason, *, again: bool, repair: bool = False
) -> Pull:
    timeout_s = math.inf if care.timeout_s is None else care.timeout_s
    return Pull(name, why, again=again, repair=repair, insecure=care.insecure, timeout_s=timeout_s)


def _why(model: OllamaModel, name: ModelName) -> Reason:
    had_it = model.status.model == str(name) and model.status.digest is not None
    return Reason.MODEL_LOST if had_it else Reason.PULLING


def _was_unanswered(model: OllamaModel) -> bool:
    reason = ready_reason(model)
    return reason is not None and reason.row.of_server


def _unreachable(seen: Observed) -> Verdict:
    reason = Reason.NOT_OLLAMA if seen.is_foreign else Reason.OLLAMA_UNREACHABLE
    return Verdict.about(reason, seen.outage or "")


def _never_in_memory(host: str) -> Verdict:
    return Verdict(Reason.INVALID_SPEC, f"spec.keepAlive: {never_in_memory(host)}.")


def _unread(doubt: str) -> Verdict:
    return Verdict(
        Reason.PROTOCOL_ERROR, f"{doubt}. It is left as it is, and looked at with each list."
    )


def _part(model: OllamaModel, seen: Observed, now: datetime) -> Action:
    if FINALIZER not in model.metadata.finalizers:
        return Wait()  # somebody else's finalizer keeps the object
    stay = model.desired.is_retained
    names = tuple(name for name in model.desired.names if name not in seen.shared and not stay)
    if model.metadata.annotations.forces_deletion:
        return Finalize(names if seen.outage is None else (), FORCED)
    if stay:
        return Finalize((), RETAINED)
    if names and seen.outage is not None:
        return Wait(Verdict(Reason.DELETION_BLOCKED, blocked(model, seen.outage)))
    if ready_reason(model) == Reason.DELETION_BLOCKED and (due := retry_due(model, now)):
        return Wait(until=due)
    return Finalize(names)
