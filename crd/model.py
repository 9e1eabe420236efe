"""What one object asks for and remembers: the questions that rules and reports put to it.

Pure, and of the object alone. Each question is answered here once, so that the rules, the reports
and the store never disagree about it.
"""

import contextlib
import zlib
from datetime import datetime, timedelta

from crd.markers import MARKER_NAMESPACE, is_reserved
from crd.names import InvalidNameError, ModelName
from crd.options import InvalidOptionError, Options, options
from crd.reasons import Reason, Verdict
from crd.v1alpha1 import DeletionPolicy, Fault, Malformed, OllamaModel, OllamaModelStatus

REFRESH_JITTER = 0.1  # part of the refresh interval by which an object may be later than another


def wanted(model: OllamaModel) -> ModelName | Verdict:
    """Read the model's name from the spec, or say what is wrong with it.

    A spec that cannot be read names its model all the same, if those two fields can.
    """
    spec = model.spec
    try:
        name = ModelName.of(spec.name, spec.tag)
    except InvalidNameError as error:
        if isinstance(spec, Malformed):
            return _unreadable(spec)
        return Verdict.about(Reason.INVALID_NAME, f"spec.{error.field}: {error}")
    return _reserved() if is_reserved(name) else name


def _reserved() -> Verdict:
    problem = (
        f"spec.name: {MARKER_NAMESPACE} is where the operator keeps models for --deletion-grace"
    )
    return Verdict(Reason.INVALID_NAME, f"{problem}; name the model by its own name.")


def wishes(model: OllamaModel) -> Options | Verdict:
    """Read how the model is to be cared for, or say what is wrong with that.

    A wrong option stops the care; it does not make the object name another model, or none.
    """
    if isinstance(model.spec, Malformed):
        return _unreadable(model.spec)
    try:
        return options(model.spec)
    except InvalidOptionError as error:
        return Verdict.about(Reason.INVALID_SPEC, str(error))


def _unreadable(spec: Malformed) -> Verdict:
    return Verdict.about(Reason.INVALID_SPEC, spec.problem)


def retains(model: OllamaModel) -> bool:
    """Tell whether the model stays on the server when the object lets go of it."""
    return model.spec.deletion_policy is DeletionPolicy.RETAIN


def keeps_loaded(model: OllamaModel) -> bool:
    """Return True if the model is to be kept in memory."""
    care = wishes(model)
    return not isinstance(care, Verdict) and care.keep_alive_s is not None


def removes(model: OllamaModel) -> bool:
    """Return True if the object is being deleted, and its model is to go with it."""
    is_going = model.metadata.deletion_timestamp is not None
    return is_going and not retains(model) and not model.metadata.annotations.forces_deletion


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


def refresh_due(
    model: OllamaModel, now: datetime, *, digest: str | None, last_pull: datetime | None
) -> datetime | None:
    """Return when the next scheduled refresh may begin: `now` at the latest once it is due.

    `digest` and `last_pull` are those of the model as it is on the server.
    """
    care = wishes(model)
    if isinstance(care, Verdict) or care.refresh_interval_s is None:
        return None
    if care.expected_digest is not None and care.expected_digest == digest:
        return None  # the registry has nothing better to offer
    since = last_pull or model.metadata.creation_timestamp or now
    # By the object, not by chance: a restarted operator comes to the same moment.
    late = 1 + REFRESH_JITTER * zlib.crc32(model.metadata.uid.encode()) / 2**32
    due = max(since + timedelta(seconds=int(care.refresh_interval_s * late)), now)
    return care.refresh_window.first_open(due) if care.refresh_window else due


def ready_reason(model: OllamaModel) -> Reason | None:
    """Return why the Ready condition is as it is; None if nobody has said so yet."""
    return reason_of(model.status)


def reason_of(status: OllamaModelStatus) -> Reason | None:
    """Return why the Ready condition of a status is as it is."""
    ready = status.condition("Ready")
    return Reason.of(ready.reason) if ready else None


def needs_version(model: OllamaModel) -> bool:
    """Return True if the model waits for another version of Ollama."""
    reason = ready_reason(model)
    return reason is not None and reason.row.needs_version


def is_said_ready(model: OllamaModel) -> bool:
    """Tell whether the status says that the model can be used."""
    ready = model.status.condition("Ready")
    return ready is not None and ready.status == "True"


def is_suspended(model: OllamaModel) -> bool:
    """Tell whether the model is to be left as it is."""
    return not isinstance(model.spec, Malformed) and model.spec.suspend


def is_verified(model: OllamaModel, name: ModelName, digest: str | None) -> bool:
    """Tell whether exactly this version of the model was seen to answer, with no gap since."""
    status, reason = model.status, ready_reason(model)
    return (
        status.model == str(name)
        and status.digest is not None
        and status.digest == digest
        and not (reason is not None and reason.row.is_gap)
    )


def is_current(model: OllamaModel) -> bool:
    """Tell whether the status speaks of this spec and this refresh wish, and not of older ones."""
    status = model.status
    return (
        status.observed_generation == model.metadata.generation
        and status.observed_refresh == model.refresh_wish
    )


def fault_of(model: OllamaModel, name: ModelName, digest: str | None) -> Fault | None:
    """Return what is remembered of this version of the model, if Ollama could not show it."""
    fault = model.status.fault
    if fault is None or (fault.model, fault.digest) != (str(name), digest):
        return None
    return fault


def is_stalled(model: OllamaModel) -> bool:
    """Tell whether nothing is tried again until a person acts."""
    return is_current(model) and model.status.condition("Stalled") is not None


def retry_due(model: OllamaModel, now: datetime) -> datetime | None:
    """Return when the next try may be made, if that is still to come."""
    due = model.status.next_retry_time
    return due if due and now < due and is_current(model) else None
