"""One object as it is read: what it asks for, what it remembers, and pure questions to it.

Each question is answered here once, so that the rules, the reports, the store and the REST API
never disagree about it.
"""

import contextlib
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final, Self

import msgspec
from msgspec import UNSET

from crd.door import read_name
from crd.form import complaint
from crd.names import InvalidNameError, ModelName
from crd.options import InvalidOptionError, Options, options
from crd.placement import DEFAULT_SERVER, Placement, ServerRef
from crd.reasons import Reason, Verdict
from crd.resource import Resource
from crd.v1alpha1 import (
    GROUP,
    KIND,
    PLURAL,
    REFRESHED,
    UNREADABLE,
    VERSION,
    DeletionPolicy,
    Fault,
    ObjectMeta,
    OllamaModelSpec,
    OllamaModelStatus,
)

REFRESH_JITTER = 0.1  # part of the refresh interval by which an object may be later than another


class Malformed(msgspec.Struct, frozen=True, kw_only=True):
    """Stands where a spec should be that is not one; `problem` says why not.

    What it says of deletion and of the model is read all the same: a mistake elsewhere must not
    cost the model, whether this object names it or another one is about to let it go.
    """

    problem: str
    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE
    name: str | None = None
    tag: str | None = None


class OllamaModel(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One version of an OllamaModel as the API server holds it."""

    metadata: ObjectMeta
    spec: OllamaModelSpec | Malformed
    status: OllamaModelStatus = OllamaModelStatus()

    @property
    def refresh_wish(self) -> str | None:
        """The value of the refresh annotation while it asks for something."""
        value = self.metadata.annotations.refresh
        if value is UNSET or not value or value.startswith(REFRESHED):
            return None
        return None if value == self.status.last_handled_refresh else value

    @cached_property
    def desired(self) -> "Desired":
        """What this version asks for, read once."""
        return Desired.of(self)


@dataclass(frozen=True, slots=True)
class Desired:
    """What one version of an object asks for, and what it answers for.

    `name` and `options` are a Verdict where the spec is wrong. Wrong options stop the care; they do
    not make the object name another model, or none. A spec that cannot be read names its model all
    the same, if those two fields can be read.
    """

    server: ServerRef
    name: ModelName | Verdict
    options: Options | Verdict
    owned: tuple[ModelName, ...]  # models that this object may have brought to the server
    is_suspended: bool  # the model is left as it is
    is_retained: bool  # the model stays on the server when the object lets go of it
    is_removed: bool  # the object is being deleted, and its model goes with it

    @classmethod
    def of(cls, model: OllamaModel) -> Self:
        """Read what a version of an object asks for."""
        spec, meta = model.spec, model.metadata
        name = _name(spec)
        is_retained = spec.deletion_policy is DeletionPolicy.RETAIN
        is_going = meta.deletion_timestamp is not None
        return cls(
            server=DEFAULT_SERVER,
            name=name,
            options=_options(spec),
            owned=_owned(model.status, name),
            is_suspended=not isinstance(spec, Malformed) and spec.suspend,
            is_retained=is_retained,
            is_removed=is_going and not is_retained and not meta.annotations.forces_deletion,
        )

    @property
    def placement(self) -> Placement | None:
        """Where the model is that the object names, if it names one."""
        return Placement(self.server, self.name) if isinstance(self.name, ModelName) else None

    @property
    def names(self) -> tuple[ModelName, ...]:
        """What the object owns together with what it names."""
        named = (self.name,) if isinstance(self.name, ModelName) else ()
        return tuple(dict.fromkeys((*self.owned, *named)))

    @property
    def keeps_loaded(self) -> bool:
        """Whether the model is kept in memory."""
        return isinstance(self.options, Options) and self.options.keep_alive_s is not None


def _name(spec: OllamaModelSpec | Malformed) -> ModelName | Verdict:
    try:
        return read_name(spec.name, spec.tag)
    except InvalidNameError as error:
        if isinstance(spec, Malformed):
            return _unreadable(spec)
        return Verdict.about(Reason.INVALID_NAME, f"spec.{error.field}: {error}")


def _options(spec: OllamaModelSpec | Malformed) -> Options | Verdict:
    if isinstance(spec, Malformed):
        return _unreadable(spec)
    try:
        return options(spec)
    except InvalidOptionError as error:
        return Verdict.about(Reason.INVALID_SPEC, str(error))


def _unreadable(spec: Malformed) -> Verdict:
    return Verdict.about(Reason.INVALID_SPEC, spec.problem)


def _owned(status: OllamaModelStatus, name: ModelName | Verdict) -> tuple[ModelName, ...]:
    """Without a record (an object of an earlier operator) it is the model of its spec."""
    names = []
    for text in status.owned_models:
        with contextlib.suppress(InvalidNameError):  # status can be edited by hand
            names.append(ModelName.parse(text))
    if not names and isinstance(name, ModelName):
        names.append(name)
    return tuple(names)


def refresh_due(
    model: OllamaModel, now: datetime, *, digest: str | None, last_pull: datetime | None
) -> datetime | None:
    """Return when the next scheduled refresh may begin: `now` at the latest once it is due.

    `digest` and `last_pull` are those of the model as it is on the server.
    """
    care = model.desired.options
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
    """Return True if the status says that the model can be used."""
    ready = model.status.condition("Ready")
    return ready is not None and ready.status == "True"


def is_verified(model: OllamaModel, name: ModelName, digest: str | None) -> bool:
    """Return True if exactly this version of the model was seen to answer, with no gap since."""
    status, reason = model.status, ready_reason(model)
    return (
        status.model == str(name)
        and status.digest is not None
        and status.digest == digest
        and not (reason is not None and reason.row.is_gap)
    )


def is_current(model: OllamaModel) -> bool:
    """Return True if the status is of this spec and this refresh request, not of older ones."""
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
    """Return True if nothing is tried again until a person acts."""
    return is_current(model) and model.status.condition("Stalled") is not None


def retry_due(model: OllamaModel, now: datetime) -> datetime | None:
    """Return when the next try may be made, if that is still to come."""
    due = model.status.next_retry_time
    return due if due and now < due and is_current(model) else None


class _Envelope(msgspec.Struct, frozen=True):
    metadata: ObjectMeta
    spec: msgspec.Raw = msgspec.Raw(b"{}")
    status: msgspec.Raw = msgspec.Raw(b"{}")


class _Rest(msgspec.Struct, rename="camel"):
    """What is read of a spec that is not one."""

    deletion_policy: object = DeletionPolicy.DELETE
    name: object = None
    tag: object = None


_rest = msgspec.json.Decoder(_Rest)
_envelope = msgspec.json.Decoder(_Envelope)
_spec = msgspec.json.Decoder(OllamaModelSpec)
_status = msgspec.json.Decoder(OllamaModelStatus)


def decode(raw: bytes | msgspec.Raw) -> OllamaModel:
    """Read an object from JSON, whatever state its spec and status are in.

    A spec that breaks the schema becomes Malformed, so that its owner can be told and the object
    can still be deleted. A status that breaks it was written by somebody else and counts as none:
    all of it can be found again.

    Raises: one of UNREADABLE if it is no Kubernetes object at all.
    """
    envelope = _envelope.decode(raw)
    spec: OllamaModelSpec | Malformed
    try:
        spec = _spec.decode(envelope.spec)
    except UNREADABLE as error:
        spec = _malformed(error, envelope.spec)
    try:
        status = _status.decode(envelope.status)
    except UNREADABLE:
        status = OllamaModelStatus()
    return OllamaModel(metadata=envelope.metadata, spec=spec, status=status)


def _malformed(error: Exception, spec: msgspec.Raw) -> Malformed:
    try:
        rest, raw = _rest.decode(spec), msgspec.json.decode(spec)
    except UNREADABLE:  # no object, so it says nothing of anything
        return Malformed(problem=f"spec: {complaint(error, None, OllamaModelSpec)[1]}")
    field, problem = complaint(error, raw, OllamaModelSpec)
    deletes = str(rest.deletion_policy or "delete").lower() == DeletionPolicy.DELETE.lower()
    return Malformed(
        problem=f"{f'spec.{field}'.rstrip('.')}: {problem}",
        # Whoever writes something else does not ask for a deletion that cannot be undone.
        deletion_policy=DeletionPolicy.DELETE if deletes else DeletionPolicy.RETAIN,
        name=rest.name if isinstance(rest.name, str) else None,
        tag=rest.tag if isinstance(rest.tag, str) else None,
    )


OLLAMA_MODELS: Final = Resource(GROUP, VERSION, PLURAL, KIND, decode)
