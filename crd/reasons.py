"""Why a condition is as it is: one row for each reason, and all that follows from it.

Conditions, `state`, events, the REST API and docs/reference.md are made from these rows. Reasons
are public API: added, never renamed. To add one, write its row here, the error class that means
it (if one does), and its section in docs/reasons.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Any, Final, Literal, Self

from crd.occasions import Occasion
from crd.v1alpha1 import FORCE_DELETE, State

Truth = Literal["True", "False", "Unknown"]


class Mode(Enum):
    """Which condition stands beside Ready."""

    SETTLED = None
    WORKING = "Reconciling"
    STALLED = "Stalled"  # a person must act; trying again cannot help


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a reason says of the model."""

    ready: Truth | None = None  # of the Ready condition; None is as it was
    mode: Mode = Mode.SETTLED
    state: State | None = None  # None is as it was
    is_fine: bool = True  # nothing is wrong
    of_server: bool = False  # the cause is the server or what stands before it, not this model
    is_unanswered: bool = False  # likewise, and nobody knows how the model is
    is_gap: bool = False  # what became of the model meanwhile was not seen: it is verified anew
    needs_version: bool = False  # stalled until Ollama's version is another one
    is_refreshable: bool = True  # a refresh may help; else the spec or the server has to change
    event: Occasion | None = None  # of a failure, or a verdict; without one a failure is a pull's
    is_of_pull: bool = True  # where a pull fails so, the event is that of any failed pull
    message: str = ""  # the condition's, where it is always the same
    advice: str = ""  # the last sentence of the message: what follows, or what to do
    again: str = ""  # when it is tried again, where that does not follow from the rest

    def but(self, **changes: Any) -> "Row":
        """Return this row with other values in some columns."""
        return replace(self, **changes)


_READY: Final = Row(ready="True", state=State.READY)
_IN_USE: Final = _READY.but(mode=Mode.WORKING, is_fine=False)
_WAITING: Final = Row(ready="Unknown", mode=Mode.WORKING, state=State.PENDING, is_fine=False)
_UNANSWERED: Final = _WAITING.but(
    of_server=True, is_unanswered=True, is_gap=True, advice="Waiting until Ollama answers."
)
_FAILED: Final = Row(ready="False", mode=Mode.WORKING, state=State.FAILED, is_fine=False)
_STALLED: Final = _FAILED.but(mode=Mode.STALLED)
_INVALID: Final = _STALLED.but(is_gap=True, is_refreshable=False, advice="Correct the spec.")


class Reason(StrEnum):
    """Why a condition is as it is. One cause each."""

    row: Row

    def __new__(cls, word: str, row: Row) -> Self:
        """Make the member that is the word, and has the row."""
        it = str.__new__(cls, word)
        it._value_, it.row = word, row
        return it

    @classmethod
    def of(cls, word: str | None) -> "Reason | None":
        """Return the reason that a condition has; None if another operator wrote it."""
        return _BY_WORD.get(word)

    AVAILABLE = "Available", _READY.but(message="Model is present and answers.")
    SUSPENDED = (
        "Suspended",
        Row(is_gap=True, event=Occasion.SUSPENDED, message=Occasion.SUSPENDED.message),
    )
    QUEUED = "Queued", _WAITING.but(is_fine=True, message="Waiting for {what}.")
    PULLING = (
        "Pulling",
        _WAITING.but(state=State.PULLING, is_fine=True, message="Downloading."),
    )
    REFRESHING = (
        "Refreshing",
        _READY.but(
            mode=Mode.WORKING,
            message="Asking the registry for a newer version; the old one stays in use.",
        ),
    )
    REFRESH_FAILED = (
        "RefreshFailed",
        _IN_USE.but(event=Occasion.REFRESH_FAILED, is_of_pull=False),
    )
    MODEL_LOST = (
        "ModelLost",
        _FAILED.but(
            state=State.PULLING, message="Model vanished from the server; pulling it again."
        ),
    )
    VERIFICATION_FAILED = (
        "VerificationFailed",
        _WAITING.but(is_gap=True, event=Occasion.VERIFICATION_FAILED, is_of_pull=False),
    )
    MODEL_BROKEN = (
        "ModelBroken",
        _FAILED.but(
            state=State.PULLING,
            event=Occasion.MODEL_BROKEN,
            is_of_pull=False,
            message="Model cannot be shown; pulling it again.",
        ),
    )
    OLLAMA_UNREACHABLE = (
        "OllamaUnreachable",
        _UNANSWERED.but(event=Occasion.OLLAMA_UNREACHABLE, again="as soon as Ollama answers"),
    )
    NOT_OLLAMA = "NotOllama", _UNANSWERED.but(event=Occasion.NOT_OLLAMA)
    PROTOCOL_ERROR = (
        "ProtocolError",
        _FAILED.but(of_server=True, is_gap=True, event=Occasion.PROTOCOL_ERROR),
    )
    INVALID_SPEC = "InvalidSpec", _INVALID.but(event=Occasion.INVALID_SPEC)
    INVALID_NAME = (
        "InvalidName",
        _INVALID.but(
            needs_version=True,
            event=Occasion.INVALID_NAME,
            again="when the spec changes; if Ollama refused it, also with its version",
        ),
    )
    MODEL_UNKNOWN = "ModelUnknown", _STALLED
    AUTHENTICATION_FAILED = "AuthenticationFailed", _FAILED
    REGISTRY_REFUSED = "RegistryRefused", _STALLED
    REGISTRY_UNSUPPORTED = "RegistryUnsupported", _STALLED
    SERVER_TOO_OLD = "ServerTooOld", _STALLED.but(needs_version=True, is_refreshable=False)
    MODEL_UNSUPPORTED = (
        "ModelUnsupported",
        _STALLED.but(needs_version=True, event=Occasion.MODEL_UNSUPPORTED, is_of_pull=False),
    )
    INSUFFICIENT_STORAGE = "InsufficientStorage", _FAILED
    STORAGE_FAILED = "StorageFailed", _FAILED
    REGISTRY_UNAVAILABLE = "RegistryUnavailable", _FAILED
    DIGEST_MISMATCH = "DigestMismatch", _FAILED
    UNEXPECTED_DIGEST = (
        "UnexpectedDigest",
        _STALLED.but(is_gap=True, event=Occasion.UNEXPECTED_DIGEST),
    )
    PULL_STALLED = "PullStalled", _FAILED
    PULL_TIMED_OUT = "PullTimedOut", _FAILED
    PULL_FAILED = "PullFailed", _FAILED
    LOAD_FAILED = "LoadFailed", _IN_USE.but(event=Occasion.LOAD_FAILED)
    DELETION_BLOCKED = (
        "DeletionBlocked",
        _FAILED.but(
            event=Occasion.DELETION_BLOCKED,
            advice=f"To let go: annotate {FORCE_DELETE}=true.",
        ),
    )


_BY_WORD: Final[Mapping[str | None, Reason]] = {reason.value: reason for reason in Reason}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the status shall say."""

    reason: Reason
    message: str

    @classmethod
    def of(cls, reason: Reason, **values: object) -> Self:
        """Return the fixed message of a reason, with values in its places."""
        return cls(reason, reason.row.message.format(**values))

    @classmethod
    def about(cls, reason: Reason, problem: str) -> Self:
        """Return a message of what is wrong, and what follows from it."""
        return cls(reason, f"{problem.rstrip('.')}. {reason.row.advice}")
