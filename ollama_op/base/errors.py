"""Everything that goes wrong outside the operator, as one tree.

Each error says its condition reason and what happens next, so that a caller never has to know
HTTP to decide.

    OperatorError
    ├── OllamaError                 the model's own status tells
    │   ├── OllamaUnreachable       no answer; waiting for the server
    │   ├── NotOllama               something else answered; nothing is concluded from it
    │   ├── ProtocolError           an answer that makes no sense
    │   │   └── Refused             Ollama itself says no
    │   ├── ModelAbsent             the server has no such model; often no error at all
    │   ├── ModelBroken             Ollama cannot show it
    │   │   └── ModelDoubted        likewise, said only once
    │   ├── LoadFailed              it does not get into memory
    │   ├── ModelUnsupported        this Ollama cannot use the model
    │   └── PullFailed
    │       ├── ModelUnknown        the registry has no such model
    │       ├── NameRefused         this server takes no such name
    │       ├── RegistryRefused     the registry will not give this model
    │       ├── RegistryUnsupported Ollama cannot pull from this registry
    │       ├── AuthenticationFailed    stalled after a few tries
    │       ├── ServerTooOld        the model needs a newer Ollama
    │       ├── InsufficientStorage
    │       ├── StorageFailed
    │       ├── RegistryUnavailable
    │       │   └── RegistryBusy    tried again after a longer pause
    │       ├── DigestMismatch
    │       ├── UnexpectedDigest    whole, but not what spec.expectedDigest names
    │       ├── PullStalled
    │       └── PullTimedOut
    ├── KubeError                   the operator's log tells
    │   ├── KubeUnreachable         no answer, or none in time
    │   │   └── LoginFailed         no credentials to call with
    │   ├── Conflict                somebody was faster: look again
    │   ├── NotFound                the object, or its whole resource, is not there
    │   ├── NotPermitted            403
    │   │   └── Unauthenticated     401
    │   ├── Expired                 410: the past that was asked for is gone
    │   └── Rejected                any other 4xx: asking again will not help
    └── NotLeading                  another replica acts, or will soon
"""

import math
import re
from collections.abc import Sequence
from typing import ClassVar, Final

from crd.reasons import Mode, Reason

MESSAGE_LIMIT = 256  # characters of foreign text that reach a status
ADVICE_LIMIT = 640  # characters of such text with our own words around it

# Control characters, other ends of lines, and what turns the direction of writing.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
_USERINFO = re.compile(r"(?<=://)[^\s\"']+@")  # to the last @: a password may have any in it
_QUERY = re.compile(r"(?<=[^\s?])\?[^\s\"']+")


class OperatorError(Exception):
    """Anything that is expected to go wrong now and then."""


class OllamaError(OperatorError):
    """Ollama, or the registry behind it, did not do what was asked."""

    reason: ClassVar[Reason]
    stalled_after: ClassVar[float] = math.inf  # a person must act, once it was said so often
    patience_s: float = 0  # seconds that the next try waits at the least
    limit: ClassVar[int] = MESSAGE_LIMIT

    @property
    def is_final(self) -> bool:
        """Whether a person must act, since trying again cannot help."""
        return self.reason.row.mode is Mode.STALLED

    def __init__(self, problem: str, hint: str = "") -> None:
        self.problem, self.hint = sanitise(problem, self.limit), hint
        advice = f". {hint[0].upper()}{hint[1:]}" if hint else ""
        super().__init__(self.problem + advice)


class OllamaUnreachable(OllamaError):
    """No connection, or no answer in time."""

    reason = Reason.OLLAMA_UNREACHABLE


class NotOllama(OllamaError):
    """An answer that is not in Ollama's form. Nothing is concluded from it about any model."""

    reason = Reason.NOT_OLLAMA


class ProtocolError(OllamaError):
    """Ollama answered something that its API does not provide for."""

    reason = Reason.PROTOCOL_ERROR


class Refused(ProtocolError):
    """Ollama itself says no, in its own form: an HTTP status, and its words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"Ollama answered HTTP {status}: {words}")
        self.status, self.words = status, words


class ModelAbsent(OllamaError):
    """The server does not have this model."""

    reason = Reason.MODEL_LOST


class ModelBroken(OllamaError):
    """Ollama itself says that it cannot show the model.

    `fresh` is for one that was downloaded in full right before it. `whole` is for words by which
    the model is as it should be, and this Ollama cannot use it.
    """

    reason = Reason.MODEL_BROKEN
    limit = ADVICE_LIMIT

    def __init__(
        self, problem: str, hint: str = "", *, fresh: bool = False, whole: bool = False
    ) -> None:
        super().__init__(problem, hint)
        self.fresh, self.whole = fresh, whole


class ModelDoubted(ModelBroken):
    """Likewise, said only once: it is asked again before anything is done about it."""

    reason = Reason.VERIFICATION_FAILED
    patience_s = 30


class LoadFailed(OllamaError):
    """The server does not get the model into memory, or not for long."""

    reason = Reason.LOAD_FAILED
    patience_s: float = 60

    def __init__(self, problem: str, hint: str = "", *, patience_s: float = patience_s) -> None:
        super().__init__(problem, hint)
        self.patience_s = patience_s


class ModelUnsupported(OllamaError):
    """This version of Ollama, or this build of it, cannot use the model."""

    reason = Reason.MODEL_UNSUPPORTED
    limit = ADVICE_LIMIT


class PullFailed(OllamaError):
    """A pull ended without a model, for a cause that has no class of its own."""

    reason = Reason.PULL_FAILED
    limit = ADVICE_LIMIT


class ModelUnknown(PullFailed):
    """The registry has no such model."""

    reason = Reason.MODEL_UNKNOWN


class NameRefused(PullFailed):
    """This server takes no such name, most often for its length."""

    reason = Reason.INVALID_NAME


class RegistryRefused(PullFailed):
    """The registry will not give this model, and says why."""

    reason = Reason.REGISTRY_REFUSED


class RegistryUnsupported(PullFailed):
    """The registry does not do what Ollama needs to pull from it."""

    reason = Reason.REGISTRY_UNSUPPORTED


class AuthenticationFailed(PullFailed):
    """The registry wants credentials that the server does not have."""

    reason = Reason.AUTHENTICATION_FAILED
    stalled_after = 3
    patience_s = 60


class ServerTooOld(PullFailed):
    """The model needs a newer Ollama."""

    reason = Reason.SERVER_TOO_OLD


class InsufficientStorage(PullFailed):
    """The server's disk is full."""

    reason = Reason.INSUFFICIENT_STORAGE
    patience_s = 300


class StorageFailed(PullFailed):
    """The server cannot write to its disk, or read from it."""

    reason = Reason.STORAGE_FAILED
    patience_s = 300


class RegistryUnavailable(PullFailed):
    """The registry does not answer, or answers with a server error."""

    reason = Reason.REGISTRY_UNAVAILABLE


class RegistryBusy(RegistryUnavailable):
    """The registry limits how often it is asked. Ollama does not wait for it by itself."""

    patience_s = 300


class DigestMismatch(PullFailed):
    """What was downloaded is not what the manifest promised."""

    reason = Reason.DIGEST_MISMATCH


class UnexpectedDigest(PullFailed):
    """The model is whole, but not the one that spec.expectedDigest names."""

    reason = Reason.UNEXPECTED_DIGEST


class PullStalled(PullFailed):
    """No byte came for too long."""

    reason = Reason.PULL_STALLED


class PullTimedOut(PullFailed):
    """The pull took longer than spec.timeout."""

    reason = Reason.PULL_TIMED_OUT


class KubeError(OperatorError):
    """The Kubernetes API did not do what was asked. The message is for the log, not for a client.

    `hint` says what to do, for the doctor. `reason` is that of the Status that came. `fields` are
    paths in the spec that are refused, and sentences. `by_admission` says that the refusal is about
    the object: it comes from a webhook, a policy, a quota, or a namespace that is being deleted.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float = 0,
        hint: str = "",
        reason: str = "",
        fields: Sequence[tuple[str, str]] = (),
        by_admission: bool = False,
    ) -> None:
        super().__init__(sanitise(message))
        self.hint, self.retry_after_s = hint, retry_after_s
        self.reason, self.fields, self.by_admission = reason, tuple(fields), by_admission


class KubeUnreachable(KubeError):
    """No connection, no answer in time, or a server error."""

    is_silence = False  # whether it was connected, and then nothing came in time


class LoginFailed(KubeUnreachable):
    """There are no credentials that work. The login itself tells the log, once."""


class Conflict(KubeError):
    """The object has changed, or is another one by now."""


class NotFound(KubeError):
    """There is no such object, or no such resource."""


class NotPermitted(KubeError):
    """These credentials may not do that."""


class Unauthenticated(NotPermitted):
    """The API server does not know who calls: a new login may help."""


class Expired(KubeError):
    """The resourceVersion asked for is no longer kept."""


class Rejected(KubeError):
    """The API server refuses the request itself."""


REFUSED: Final = (NotPermitted, NotFound, Rejected)  # what asking again at once does not change


class NotLeading(OperatorError):
    """This replica may not change anything now. Nobody is told: another one will do it."""


def sanitise(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Make foreign text fit to be shown: one line, of bounded length, without URL secrets.

    Signed URLs carry their signature as a query, and a proxy's password stands before its host.
    """
    text = _CONTROL.sub(" ", text).strip()
    text = _QUERY.sub("?…", _USERINFO.sub("…@", text))
    return text if len(text) <= limit else text[: limit - 1] + "…"
