"""Spans, as the rest of the operator sees them. Off, they cost a function call and import nothing.

The backend is one for the process, as OpenTelemetry's own is; `otel.py` is the real one.
"""

from collections.abc import Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Value = str | bool | int | float
Attributes = Mapping[str, Value]

MODEL = "ollama_op.model"  # full name of a model
NO_ATTRIBUTES: Attributes = {}


class Span:
    """Something that takes time, being recorded; this one is not."""

    traceparent: str | None = None  # where others can join it, in the form of W3C; None for nobody
    trace_id: str | None = None  # 32 hexadecimal digits; None if it is not recorded

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""

    def event(self, name: str, attributes: Attributes = NO_ATTRIBUTES) -> None:
        """Record a moment in it."""

    def fail(self, error_type: str, message: str) -> None:
        """Record that it failed: the kind of error, and words that hold no secret."""

    def answered(self, code: int, size_bytes: int | None = None) -> None:
        """Record what an HTTP server answered."""
        self.set({"http.response.status_code": code})
        if size_bytes is not None:
            self.set({"http.response.body.size": size_bytes})
        if code >= 400:  # noqa: PLR2004 - HTTP errors
            self.fail(str(code), f"HTTP {code}")

    def rename(self, name: str) -> None:
        """Give it a name that was not known at its beginning."""

    def begin(self, name: str, attributes: Attributes) -> "Span":  # noqa: ARG002 - others use them
        """Begin a part of it, beside whatever else it has; the part lasts until its `end`."""
        return NO_SPAN

    def end(self) -> None:
        """End a part that was begun."""


NO_SPAN = Span()


class Backend(Protocol):
    """Records spans."""

    def span(
        self, name: str, kind: str, parent: str | None, *, root: bool, link: str | None
    ) -> AbstractContextManager[Span]:
        """Record a span, with what is called inside as its parts."""

    def current(self) -> Span:
        """Return the span that this is called in."""

    def is_valid(self, traceparent: str) -> bool:
        """Return True if somebody can join there."""


_backend: Backend | None = None


def use(backend: Backend | None) -> None:
    """Record with `backend` from now on; None for not at all."""
    global _backend  # noqa: PLW0603 - as the logging of a process is one
    _backend = backend


def is_on() -> bool:
    """Return True if anything is recorded."""
    return _backend is not None


@contextmanager
def span(
    name: str,
    attributes: Attributes = NO_ATTRIBUTES,
    *,
    kind: str = "internal",
    parent: str | None = None,
    root: bool = False,
    link: str | None = None,
) -> Generator[Span]:
    """Record what happens inside, as a part of the span around it.

    `kind` is internal, client or server. `parent` is a traceparent to join instead; `root` begins a
    trace, and `link` names another that it has to do with. What is raised inside, it failed with.
    """
    if _backend is None:
        yield NO_SPAN
        return
    with _backend.span(name, kind, parent, root=root, link=link) as recorded:
        recorded.set(attributes)
        yield recorded


def current() -> Span:
    """Return the span that this is called in."""
    return NO_SPAN if _backend is None else _backend.current()


def is_valid(traceparent: object) -> bool:
    """Return True if somebody can join there."""
    if _backend is None or not isinstance(traceparent, str):
        return False
    return _backend.is_valid(traceparent)


def sent(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the traceparent among the headers of a request, if somebody can join there."""
    found = dict(headers).get(b"traceparent", b"").decode("latin-1")
    return found if found and is_valid(found) else None
