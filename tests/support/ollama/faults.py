"""What a test can break in the model registry, while requests are being answered."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["manifests", "blobs"]

_POLL_S = 0.1  # how soon a held answer notices that its client has left


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How the registry misbehaves; the default is not at all.

    `rate`, `stall_after`, `drop_after` and `corrupt` concern the data of a blob.
    """

    rate: int | None = None
    """Bytes a second, on each connection."""
    stall_after: int | None = None
    """Offset in a blob, in bytes, that no answer gets past: the connection stays open and silent.
    A blob no longer than that passes whole."""
    drop_after: int | None = None
    """Bytes after which an answer is cut off. Ollama then asks for the rest, so only 0 is final."""
    corrupt: bool = False
    """Flip a bit of the data."""
    status: Mapping[Kind, int] = field(default_factory=dict)
    """HTTP status to answer with instead, e.g. `{"manifests": 503}`."""
    body: str = "injected fault"
    """What goes with such a status."""
    auth: bool = False
    """Answer 401 to whoever has no bearer token; the registry gives one to anybody who asks."""
    in_place: bool = False
    """Serve blobs without saying where they are, as a stock registry on a disk does."""
    unreachable: bool = False
    """Cut every connection without an answer."""
    delay: float = 0
    """Seconds before each answer."""

    def stalls(self, offset: int) -> bool:
        """Say whether no data of a blob is sent from this offset on."""
        return self.stall_after is not None and offset >= self.stall_after


class FaultSwitch:
    """The faults in force. A change takes effect at once, in the middle of an answer too."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._default = Faults()
        self._by_repo: dict[str, Faults] = {}
        self._held = 0
        self._closed = False

    def of(self, repo: str | None = None) -> Faults:
        """Return the faults of one repository, or those that hold for all others."""
        return self._by_repo.get(repo, self._default) if repo else self._default

    def set(self, faults: Faults) -> None:
        """Let these faults hold for every repository, and forget all exceptions."""
        with self._changed:
            self._default, self._by_repo = faults, {}
            self._changed.notify_all()

    def set_for(self, repo: str, faults: Faults) -> None:
        """Let these faults hold for one repository."""
        with self._changed:
            self._by_repo = self._by_repo | {repo: faults}
            self._changed.notify_all()

    def close(self) -> None:
        """Release whoever is held or paused; from now on nobody is."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Sleep; end early at a change."""
        with self._changed:
            if not self._closed:
                self._changed.wait(seconds)

    def hold(self, repo: str, offset: int, left: Callable[[], bool]) -> None:
        """Wait while an answer is stalled at this offset and its client has not `left`."""
        with self._changed:
            self._held += 1
            self._changed.notify_all()
            while self.of(repo).stalls(offset) and not self._closed and not left():
                self._changed.wait(_POLL_S)
            self._held -= 1

    def wait_until_held(self, timeout_s: float) -> bool:
        """Wait until an answer is held; say whether one is."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self._held and (left_s := deadline - time.monotonic()) > 0:
                self._changed.wait(left_s)
            return self._held > 0
