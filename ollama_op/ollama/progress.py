"""How far a pull is: Ollama's steps in, one monotonic figure over the whole model out.

Ollama counts each layer by itself, sends the same count sixteen times a second while a registry
hangs, and may step back when it resumes. What counts here is the high-water mark.
"""

from collections import deque

from crd.v1alpha1 import Progress
from ollama_op.ollama.wire import Step

SPEED_WINDOW_S = 10.0
NEARLY = 99  # percent; 100 is for a model that was seen whole


class Meter:
    """Adds up the layers of one download. `now` is in seconds of any steady clock."""

    def __init__(self, now: float) -> None:
        self._completed: dict[str, int] = {}  # bytes by layer, each its own high-water mark
        self._totals: dict[str, int] = {}
        self._received = 0
        self._said = ""
        self._percent = 0
        self._marks: deque[tuple[float, int]] = deque([(now, 0)])
        self._base: int | None = None  # bytes that were there already when the first step came

    def take(self, step: Step, now: float) -> bool:
        """Record one step; tell whether it shows any advance, in bytes or by a new phase."""
        advanced = step.status != self._said
        self._said = step.status
        if step.digest:
            advanced |= self._note_layer(step)
        if advanced:
            self._mark(now)
        return advanced

    @property
    def completed_bytes(self) -> int:
        """Bytes that are on the server by now."""
        return sum(self._completed.values())

    def received(self) -> int:
        """Count the bytes that were seen to arrive: what was there before is not among them."""
        return self._received

    @property
    def is_mostly_new(self) -> bool:
        """Whether most of the bytes were seen to arrive. A small layer comes between two lines."""
        return 2 * self._received >= self.total_bytes

    @property
    def total_bytes(self) -> int:
        """Bytes of the layers announced so far."""
        return sum(self._totals.values())

    def progress(self, now: float) -> Progress:
        """Return how far it is, at what speed, and how long it will take."""
        completed, total = self.completed_bytes, self.total_bytes
        if total:
            # A layer announced late makes the total grow; the figure shown waits rather than
            # going back.
            self._percent = max(self._percent, min(completed * 100 // total, NEARLY))
        speed = self._speed(now)
        return Progress(
            completed_bytes=completed,
            total_bytes=total or None,
            percent=self._percent if total else None,
            text=f"{self._percent}%" if total else "",
            bytes_per_second=speed,
            eta_seconds=max(total - completed, 0) // speed if speed and total else None,
        )

    def _note_layer(self, step: Step) -> bool:
        mark = self._completed.get(step.digest, 0)
        if step.digest in self._completed:
            self._received += max(step.completed - mark, 0)
        self._totals[step.digest] = max(step.total, self._totals.get(step.digest, 0))
        self._completed[step.digest] = max(mark, step.completed)
        return step.completed > mark

    def _mark(self, now: float) -> None:
        completed = self.completed_bytes
        if self._base is None and completed:
            self._base = completed  # a resumed part came at no speed
            self._marks.clear()
        self._marks.append((now, completed))
        while len(self._marks) > 2 and now - self._marks[1][0] > SPEED_WINDOW_S:  # noqa: PLR2004 - a span has two ends
            self._marks.popleft()

    def _speed(self, now: float) -> int | None:
        """Bytes a second between the oldest mark in the window and now; None when none came since.

        It does not fade while nothing comes: each new figure would be a write.
        """
        if now - self._marks[-1][0] > SPEED_WINDOW_S:
            return None
        since, then = self._marks[0]
        gained = self.completed_bytes - then
        return int(gained / (now - since)) if gained > 0 and now > since else None
