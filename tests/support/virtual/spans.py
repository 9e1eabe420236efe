"""What is recorded in a process of its own tests."""

from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ollama_op.app import otel


@contextmanager
def recording() -> Generator["Spans"]:
    """Record, and hand out what was."""
    exporter = InMemorySpanExporter()
    stop = otel.start_recording(SimpleSpanProcessor(exporter))
    try:
        yield Spans(exporter)
    finally:
        stop()


class Spans:
    """The spans that have ended."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self) -> list[ReadableSpan]:
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def of(self, trace_id: str) -> list[ReadableSpan]:
        """Return those of one trace, by the id that the status shows."""
        return [each for each in self.all() if f"{each.context.trace_id:032x}" == trace_id]

    def named(self, name: str) -> list[ReadableSpan]:
        return [each for each in self.all() if each.name == name]

    def parts(self, whole: ReadableSpan) -> list[ReadableSpan]:
        """Return the direct parts of a span."""
        inside = whole.context.span_id
        return [each for each in self.all() if each.parent and each.parent.span_id == inside]
