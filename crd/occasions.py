"""Every occasion on which a Kubernetes event is sent: its reason, its type and its words.

The engine sends no other, and docs/reference.md lists these. Reasons are public API: added, never
renamed. One reason may have several occasions, where more than one thing can be said.
"""

from enum import Enum, unique
from typing import Final, Literal

EventType = Literal["Normal", "Warning"]
NORMAL: Final = "Normal"
WARNING: Final = "Warning"


@unique
class Occasion(Enum):
    """Reason and type of an event, when it is sent, and its message with places for values."""

    PULLING = ("Pulling", NORMAL, "a first download has begun", "Pulling {model}.")
    PULLED = (
        "Pulled",
        NORMAL,
        "a download has ended, and Ollama shows the model",
        "Pulled {model}, {size} in {seconds:g} s.",
    )
    TAKEN_OVER = (
        "TakenOver",
        NORMAL,
        "the model was still kept for `--deletion-grace`, and nothing was downloaded",
        "{model} was still kept on Ollama, and is taken over; nothing was downloaded.",
    )
    PULL_FAILED = ("PullFailed", WARNING, "a pull failed", "{problem}")
    MODEL_LOST = (
        "ModelLost",
        WARNING,
        "a model that was there is not any more; it is pulled again",
        "{model} vanished from Ollama.",
    )
    VERIFICATION_FAILED = (
        "VerificationFailed",
        WARNING,
        "Ollama says that it cannot show a model; it is asked once more",
        "{problem}",
    )
    MODEL_BROKEN = (
        "ModelBroken",
        WARNING,
        "Ollama has said twice that it cannot show a model; it is pulled again",
        "{problem}",
    )
    MODEL_RESTORED = (
        "ModelRestored",
        NORMAL,
        "a model that was lost or broken is there again",
        "{model} is back.",
    )
    REFRESH_STARTED = (
        "RefreshStarted",
        NORMAL,
        "a refresh begins, wished by annotation or due by `spec.refreshInterval`",
        "Asking for a newer {model}.",
    )
    REFRESHED = (
        "RefreshCompleted",
        NORMAL,
        "a refresh has brought another version",
        "Digest changed from {old} to {new}.",
    )
    NOTHING_NEWER = (
        "RefreshCompleted",
        NORMAL,
        "a refresh has found nothing newer",
        "Digest is still {new}.",
    )
    REFRESH_FAILED = (
        "RefreshFailed",
        WARNING,
        "a refresh failed; the old version stays in use",
        "{problem}",
    )
    UNEXPECTED_DIGEST = (
        "UnexpectedDigest",
        WARNING,
        "the model that is there is not the one that `spec.expectedDigest` names",
        "{problem}",
    )
    LOAD_FAILED = (
        "LoadFailed",
        WARNING,
        "Ollama does not get the model into memory, as `spec.keepAlive` wishes",
        "{problem}",
    )
    MODEL_UNSUPPORTED = (
        "ModelUnsupported",
        WARNING,
        "a model is there, and this version of Ollama cannot use it",
        "{problem}",
    )
    OLLAMA_UNREACHABLE = (
        "OllamaUnreachable",
        WARNING,
        "Ollama did not answer while the model was looked at or loaded",
        "{problem}",
    )
    NOT_OLLAMA = (
        "NotOllama",
        WARNING,
        "something else than Ollama answered while the model was looked at or loaded",
        "{problem}",
    )
    PROTOCOL_ERROR = (
        "ProtocolError",
        WARNING,
        "Ollama's answer made no sense while the model was looked at or loaded",
        "{problem}",
    )
    SUSPENDED = (
        "Suspended",
        NORMAL,
        "`spec.suspend` was turned on",
        "Paused by spec.suspend; not being checked.",
    )
    RESUMED = (
        "Resumed",
        NORMAL,
        "`spec.suspend` was turned off",
        "No longer paused; the model is checked again.",
    )
    INVALID_NAME = (
        "InvalidName",
        WARNING,
        "`spec.name` and `spec.tag` make no name that Ollama takes",
        "{problem}",
    )
    INVALID_SPEC = (
        "InvalidSpec",
        WARNING,
        "the spec cannot be read, or one of its options is invalid",
        "{problem}",
    )
    DISCARDED = (
        "Discarded",
        NORMAL,
        "the spec names another model, and the one before was let go of",
        "Let go of {models}; the spec moved on.",
    )
    KEPT_BEHIND = (
        "Discarded",
        NORMAL,
        "likewise, with `spec.deletionPolicy: Retain`",
        "Kept {models}; the spec moved on.",
    )
    CLEANUP_FAILED = (
        "CleanupFailed",
        WARNING,
        "the model before a change of the spec could not be deleted, or one be unloaded",
        "{problem}",
    )
    UNLOAD_FAILED = (
        "UnloadFailed",
        WARNING,
        "a model was deleted or replaced, and Ollama did not unload it before; that went on",
        "{model} may stay in memory until Ollama unloads it or is restarted: {problem}.",
    )
    DELETING = (
        "Deleting",
        NORMAL,
        "the object is being deleted, and its model is removed",
        "Removing {models} from Ollama.",
    )
    DELETED = (
        "Deleted",
        NORMAL,
        "the model was removed, and the object goes",
        "{models} is gone from Ollama.",
    )
    KEPT = (
        "Deleted",
        NORMAL,
        "likewise, with `--deletion-grace`",
        "{models} is gone from Ollama; an object made anew can take it over until {until}.",
    )
    SHARED = (
        "Deleted",
        NORMAL,
        "the object goes, and its model is still needed",
        "{models} stays on Ollama: another OllamaModel names it.",
    )
    RETAINED = (
        "Retained",
        NORMAL,
        "the object goes, and its model stays, as `spec.deletionPolicy: Retain` says",
        "{models} stays on Ollama, as spec.deletionPolicy says.",
    )
    FORCED = (
        "ForcedDelete",
        WARNING,
        "the object goes as its annotation asks, and Ollama did not remove its model",
        "Let go by annotation; {models} may still be on Ollama.",
    )
    FORCED_REMOVED = (
        "ForcedDelete",
        NORMAL,
        "the object goes as its annotation asks, and its model was removed all the same",
        "Let go by annotation; {models} is gone from Ollama.",
    )
    DELETION_BLOCKED = (
        "DeletionBlocked",
        WARNING,
        "the model of an object that is being deleted cannot be removed",
        "{problem}",
    )

    def __init__(self, reason: str, kind: EventType, when: str, message: str) -> None:
        self.reason, self.kind, self.when, self.message = reason, kind, when, message
