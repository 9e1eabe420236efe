"""One object's life as a trace: a chapter for each thing that is done for it.

The trace begins where the wish came from: with the REST request, or when the operator first sees
the object. Where it is joined stands in an annotation, so it goes on after a restart and ends with
the removal. Refreshes and repairs, which come months later, are traces of their own, linked to that
of the life; what is tried again joins the first try.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from crd.model import OllamaModel
from crd.reasons import Reason
from crd.v1alpha1 import TRACEPARENT
from ollama_op.base import tracing
from ollama_op.base.tracing import MODEL, NO_SPAN, Attributes, Span, Value
from ollama_op.policy.decide import (
    Action,
    AddFinalizer,
    Finalize,
    Load,
    PruneFormer,
    Pull,
    Unload,
    Verify,
    Wait,
)

LIFE = "OllamaModel"  # the span with which the trace of a life begins

_ASIDE = {
    Reason.REFRESHING: "refresh",
    Reason.MODEL_LOST: "restore",
    Reason.MODEL_BROKEN: "repair",
}


class LifeTrace:
    """The traces of one object."""

    def __init__(self) -> None:
        self.trace_id: str | None = None  # of what was last done
        self._life: str | None = None  # where to join, until the object says so itself
        self._aside: dict[str, str | None] = {}  # where the last trace apart is joined, by name
        self._is_open = False

    @contextmanager
    def chapter(self, model: OllamaModel, action: Action) -> Generator[Span]:
        """Record what is done for the object. To rest is to do nothing."""
        if not tracing.is_on() or isinstance(action, Wait):
            yield NO_SPAN
            return
        apart = isinstance(action, Pull) and action.why in _ASIDE
        tell = self._tell_apart if apart else self._tell
        self._is_open = True
        try:
            with tell(model, _name(action), _about(model, action)) as span:
                self.trace_id = span.trace_id
                yield span
        finally:
            self._is_open = False

    @contextmanager
    def remark(self, model: OllamaModel) -> Generator[None]:
        """Record what is written between chapters."""
        if not tracing.is_on() or self._is_open:
            yield
            return
        with self._tell(model, "report", _of(model)):
            yield

    def annotations(self, model: OllamaModel) -> Mapping[str, str]:
        """Return what is to be written on the object, for a successor to join its trace."""
        if self._life is None or tracing.is_valid(model.metadata.annotations.traceparent):
            return {}
        return {TRACEPARENT: self._life}

    @contextmanager
    def _tell(self, model: OllamaModel, name: str, about: Attributes) -> Generator[Span]:
        life = self._joined(model)
        name = LIFE if life is None else name
        with tracing.span(name, about, parent=life, root=life is None) as span:
            self._life = life or span.traceparent
            yield span

    @contextmanager
    def _tell_apart(self, model: OllamaModel, name: str, about: Attributes) -> Generator[Span]:
        first = self._aside.get(name) if model.status.attempts else None
        link = self._joined(model) if first is None else None
        with tracing.span(name, about, parent=first, root=first is None, link=link) as span:
            self._aside = {name: first or span.traceparent}
            yield span

    def _joined(self, model: OllamaModel) -> str | None:
        said = model.metadata.annotations.traceparent
        return said if isinstance(said, str) and tracing.is_valid(said) else self._life


def _name(action: Action) -> str:
    match action:
        case Pull(why=why):
            return _ASIDE.get(why, "pull")
        case AddFinalizer():
            return "claim"
        case Verify():
            return "verify"
        case Load():
            return "load"
        case Unload():
            return "unload"
        case PruneFormer():
            return "discard"
        case Finalize():
            return "delete"
        case Wait():
            return "report"


def _about(model: OllamaModel, action: Action) -> Attributes:
    about = _of(model)
    match action:
        case Pull(name=name) | Verify(name=name) | Load(name=name) | Unload(name=name):
            about[MODEL] = str(name)
        case PruneFormer(names=names) | Finalize(names=names):
            about[MODEL] = ", ".join(map(str, names))
        case _:
            pass
    if isinstance(action, Pull):
        about["ollama_op.attempt"] = 1 + (model.status.attempts or 0)
    return about


def _of(model: OllamaModel) -> dict[str, Value]:
    meta = model.metadata
    return {
        "k8s.namespace.name": meta.namespace,
        "ollama_op.object": meta.name,
        "ollama_op.uid": meta.uid,
        "ollama_op.generation": meta.generation,
    }
