"""What each reason says of the model: the table behind every condition."""

from collections.abc import Mapping
from enum import Enum
from typing import Final, Literal

from crd.v1alpha1 import Reason, State

Truth = Literal["True", "False", "Unknown"]


class Mode(Enum):
    """Which condition stands beside Ready."""

    SETTLED = None
    WORKING = "Reconciling"
    STALLED = "Stalled"


# Ready's status, what stands beside it, and `state`; being suspended changes none of them.
WORDS: Final[Mapping[Reason, tuple[Truth, Mode, State]]] = {
    Reason.AVAILABLE: ("True", Mode.SETTLED, State.READY),
    Reason.QUEUED: ("Unknown", Mode.WORKING, State.PENDING),
    Reason.PULLING: ("Unknown", Mode.WORKING, State.PULLING),
    Reason.REFRESHING: ("True", Mode.WORKING, State.READY),
    Reason.REFRESH_FAILED: ("True", Mode.WORKING, State.READY),
    Reason.MODEL_LOST: ("False", Mode.WORKING, State.PULLING),
    Reason.VERIFICATION_FAILED: ("Unknown", Mode.WORKING, State.PENDING),
    Reason.MODEL_BROKEN: ("False", Mode.WORKING, State.PULLING),
    Reason.OLLAMA_UNREACHABLE: ("Unknown", Mode.WORKING, State.PENDING),
    Reason.NOT_OLLAMA: ("Unknown", Mode.WORKING, State.PENDING),
    Reason.INVALID_SPEC: ("False", Mode.STALLED, State.FAILED),
    Reason.INVALID_NAME: ("False", Mode.STALLED, State.FAILED),
    Reason.MODEL_UNKNOWN: ("False", Mode.STALLED, State.FAILED),
    Reason.REGISTRY_REFUSED: ("False", Mode.STALLED, State.FAILED),
    Reason.REGISTRY_UNSUPPORTED: ("False", Mode.STALLED, State.FAILED),
    Reason.SERVER_TOO_OLD: ("False", Mode.STALLED, State.FAILED),
    Reason.MODEL_UNSUPPORTED: ("False", Mode.STALLED, State.FAILED),
    Reason.PROTOCOL_ERROR: ("False", Mode.WORKING, State.FAILED),
    Reason.AUTHENTICATION_FAILED: ("False", Mode.WORKING, State.FAILED),
    Reason.INSUFFICIENT_STORAGE: ("False", Mode.WORKING, State.FAILED),
    Reason.STORAGE_FAILED: ("False", Mode.WORKING, State.FAILED),
    Reason.REGISTRY_UNAVAILABLE: ("False", Mode.WORKING, State.FAILED),
    Reason.DIGEST_MISMATCH: ("False", Mode.WORKING, State.FAILED),
    Reason.UNEXPECTED_DIGEST: ("False", Mode.STALLED, State.FAILED),
    Reason.LOAD_FAILED: ("True", Mode.WORKING, State.READY),
    Reason.PULL_TIMED_OUT: ("False", Mode.WORKING, State.FAILED),
    Reason.PULL_STALLED: ("False", Mode.WORKING, State.FAILED),
    Reason.PULL_FAILED: ("False", Mode.WORKING, State.FAILED),
    Reason.DELETION_BLOCKED: ("False", Mode.WORKING, State.FAILED),
}

# With these nothing is wrong.
FINE: Final = frozenset(
    {Reason.SUSPENDED, Reason.AVAILABLE, Reason.QUEUED, Reason.PULLING, Reason.REFRESHING}
)

# Stalled until Ollama's version is another one.
NEEDS_ANOTHER_VERSION: Final = frozenset(
    {Reason.SERVER_TOO_OLD, Reason.MODEL_UNSUPPORTED, Reason.INVALID_NAME}
)
# With these no refresh helps: the spec has to change, or the server.
NO_REFRESH_HELPS: Final = frozenset(
    {Reason.INVALID_SPEC, Reason.INVALID_NAME, Reason.SERVER_TOO_OLD}
)

# With these nobody knows how the model is: Ollama did not answer.
UNANSWERED: Final = frozenset({Reason.OLLAMA_UNREACHABLE, Reason.NOT_OLLAMA})
