"""The words of a crash sweep: what a write is, and what may befall one."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from crd.v1alpha1 import PLURAL
from ollama_op.sandbox.http import SandboxRequest

_READS = ("POST /api/show",)  # what reads although it is no GET


class Mishap(Enum):
    """What befalls a write."""

    NOTHING = "nothing befalls it"
    DIE_BEFORE = "the operator dies before it"
    DIE_AFTER = "the operator dies after it"
    LOST = "it is done, and the connection breaks before the answer"
    SILENCE = "it is done, and no answer ever comes"
    CONFLICT = "it is answered 409"
    UNAVAILABLE = "it is answered 503"
    # Not about one write:
    DIE_AFTER_EACH = "the operator dies after each write that is not like one before it"
    DIE_AT_REST = "the operator dies when all is done"
    NO_EVENTS = "no event is taken"
    LATE_ANSWERS = "every answer comes late"
    LATE_NEWS = "the watch tells everything late"


class Step(Enum):
    """When somebody else steps in: while the write is on its way, or while its answer is."""

    BEFORE = "somebody acts while it is on its way"
    AFTER = "somebody acts while its answer is on its way"


@dataclass(frozen=True)
class Point:
    """One way to disturb a story.

    `write` counts from 0, and is None where the mishap is not about one write. `line` is how many
    lines of a pull get through before the mishap; None lets the pull end on the server.
    """

    mishap: Mishap
    write: int | None = None
    line: int | None = None
    meanwhile: Step | None = None

    def __str__(self) -> str:
        words = [self.mishap.value] if self.meanwhile is None else []
        if self.meanwhile and self.mishap is not Mishap.NOTHING:
            words = [self.mishap.value, "and somebody acts while it is away"]
        elif self.meanwhile:
            words = [self.meanwhile.value]
        return ", ".join(words) + (f" (line {self.line})" if self.line is not None else "")


CALM = Point(Mishap.NOTHING)


@dataclass
class Write:
    """One write of the operator; the witness adds what it saw."""

    request: SandboxRequest
    lines: int = 0  # that came of the answer to a pull
    uid: str = ""  # of the object that had the name when this was sent
    before: dict[str, Any] | None = None  # the object right before this was done
    is_progress: bool = False  # whether all that it said was how far a pull is

    @property
    def is_to_kube(self) -> bool:
        """Whether it goes to the Kubernetes API."""
        return f"/{PLURAL}/" in self.request.path

    @property
    def is_of_status(self) -> bool:
        """Whether it says what an object's status is."""
        return self.request.path.endswith("/status")

    @property
    def is_pull(self) -> bool:
        """Whether it is a pull, whose answer is a stream."""
        return self.request.path == "/api/pull"

    @property
    def is_deletion(self) -> bool:
        """Whether it deletes a model."""
        return self.request.path == "/api/delete"

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the object that it is about."""
        namespace, _, name, *_ = self.request.path.partition("/namespaces/")[2].split("/")
        return namespace, name

    @property
    def model(self) -> str:
        """The model that Ollama is told about."""
        return str(self._body.get("model", ""))

    @property
    def _body(self) -> Any:
        return msgspec.json.decode(self.request.body)

    def __str__(self) -> str:
        if not self.is_to_kube:
            return f"{self.request.method} {self.request.path} {self.model}"
        match self._body:
            case list(steps):
                status = next(s["value"] for s in steps if s["path"] == "/status")
                what = next(c["reason"] for c in status["conditions"] if c["type"] == "Ready")
            case body:
                what = " and ".join(body["metadata"].keys() - {"uid", "resourceVersion"})
        return f"{self.request.method} {self.key[1]}: {what}"


def is_write(request: SandboxRequest) -> bool:
    """Return True if a request changes anything that counts.

    Events do not: the operator neither waits for one nor acts on it, so that to die at an event is
    to die between the writes around it.
    """
    reads = request.method == "GET" or f"{request.method} {request.path}" in _READS
    return not reads and not is_event(request)


def is_watch(request: SandboxRequest) -> bool:
    """Return True if a request is for news of the objects."""
    return request.method == "GET" and request.flag("watch")


def is_event(request: SandboxRequest) -> bool:
    """Return True if a request sends a Kubernetes event, or counts one that is said again."""
    return request.method in ("POST", "PATCH") and "/events" in request.path
