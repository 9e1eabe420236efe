"""The layers of a pull as spans: which one took the time."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from ollama_op.base.tracing import NO_SPAN, Attributes, Span
from ollama_op.ollama.wire import Step

BYTES = "ollama_op.bytes"


@contextmanager
def layers(pull: Span) -> Generator[Callable[[Step], None]]:
    """Hand out what takes in the steps of a pull, whose span this is."""
    if pull is NO_SPAN:
        yield _take_nothing
        return
    told = _Layers(pull)
    try:
        yield told.take
    finally:
        told.end()


def _take_nothing(_: Step) -> None:
    pass


class _Layers:
    def __init__(self, pull: Span) -> None:
        self._pull, self._said = pull, ""
        self._open: dict[str, Span] = {}
        self._completed: dict[str, int] = {}

    def take(self, step: Step) -> None:
        if not step.digest:
            if step.status != self._said:
                self._pull.event(step.status)
            self._said = step.status
            return
        if step.digest not in self._completed:
            about: Attributes = {
                "ollama_op.layer.digest": step.digest,
                "ollama_op.layer.bytes": step.total,
            }
            self._open[step.digest] = self._pull.begin("layer", about)
        self._completed[step.digest] = max(step.completed, self._completed.get(step.digest, 0))
        if step.completed >= step.total:
            self._end(step.digest)

    def end(self) -> None:
        for digest in tuple(self._open):
            self._end(digest)
        self._pull.set({BYTES: sum(self._completed.values())})

    def _end(self, digest: str) -> None:
        if span := self._open.pop(digest, None):
            span.set({BYTES: self._completed[digest]})
            span.end()
