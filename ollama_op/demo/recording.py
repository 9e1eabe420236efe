"""The spans of a demo: kept for its end, and sent where the environment says."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from ollama_op.app import otel
from ollama_op.base.otlp import wants_tracing
from ollama_op.demo.tree import TreeSpan, finished

KEPT: Final = 5000  # spans; a demo that is left running must not grow
RECORDED_OBJECT: Final = "ollama_op.object"


class Recording(SpanExporter):
    """Keeps the newest spans."""

    def __init__(self) -> None:
        self._spans: deque[ReadableSpan] = deque(maxlen=KEPT)

    def start(self) -> Callable[[], None]:
        """Record from now on; return what ends that.

        Raises: ConfigError if the environment wants them sent in a way that is not here.
        """
        senders = [otel.sender()] if wants_tracing(os.environ) else []
        return otel.start_recording(SimpleSpanProcessor(self), *senders)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Record what has ended."""
        self._spans.extend(spans)
        return SpanExportResult.SUCCESS

    def life_of(self, name: str) -> list[TreeSpan]:
        """Return the trace in which the object of this name began; empty if none did."""
        for first in self._spans:
            attributes = first.attributes or {}
            if first.parent is None and attributes.get(RECORDED_OBJECT) == name and first.context:
                trace_id = first.context.trace_id
                return finished(
                    s for s in self._spans if s.context and s.context.trace_id == trace_id
                )
        return []
