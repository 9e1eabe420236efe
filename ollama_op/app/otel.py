"""Spans as OpenTelemetry has them. Imported only where tracing is on; that takes 0.15 s.

The SDK sends in a thread of its own, from a queue that is bounded (OTEL_BSP_MAX_QUEUE_SIZE): what a
collector that is away or slow does not take is dropped, and nobody waits.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Final
from uuid import uuid4

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ollama_op.base import tracing
from ollama_op.base.errors import OllamaError, OperatorError, sanitise
from ollama_op.base.parsing import ConfigError
from ollama_op.base.tracing import NO_ATTRIBUTES, NO_SPAN, Attributes

SCOPE_NAME: Final = "ollama-op"
FLUSH_S: Final = 2.0  # what the last spans get to leave in at the end
W3C: Final = TraceContextTextMapPropagator()


def sender() -> SpanProcessor:
    """Return what sends spans to where OTEL_EXPORTER_OTLP_* say.

    Raises: ConfigError.
    """
    with _from_environment():
        return BatchSpanProcessor(OTLPSpanExporter())


def start_recording(*processors: SpanProcessor) -> Callable[[], None]:
    """Record from now on, for these; return what ends that.

    Raises: ConfigError.
    """
    # The SDK's own end could wait for half a minute.
    with _from_environment():
        provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    tracing.use(_Recorder(provider.get_tracer(SCOPE_NAME, version(SCOPE_NAME))))
    return partial(_stop, provider)


@contextmanager
def _from_environment() -> Generator[None]:
    try:
        yield
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(
            f"OpenTelemetry cannot be set up: {sanitise(str(error))}",
            "correct the OTEL_* variables of the environment",
        ) from error


def _stop(provider: TracerProvider) -> None:
    tracing.use(None)
    thread = threading.Thread(target=provider.shutdown, daemon=True)
    thread.start()
    thread.join(FLUSH_S)


def _resource() -> Resource:
    """Return whose spans these are. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    ours = {
        SERVICE_NAME: SCOPE_NAME,
        "service.version": version(SCOPE_NAME),
        "service.instance.id": str(uuid4()),
    }
    return Resource.create(ours).merge(OTELResourceDetector().detect())


class _Span(tracing.Span):
    def __init__(self, span: trace.Span, tracer: trace.Tracer) -> None:
        self._span, self._tracer = span, tracer

    @property
    def traceparent(self) -> str | None:  # type: ignore[override]  # read-only here
        carrier: dict[str, str] = {}
        W3C.inject(carrier, trace.set_span_in_context(self._span))
        return carrier.get("traceparent")

    @property
    def trace_id(self) -> str | None:  # type: ignore[override]  # read-only here
        context = self._span.get_span_context()
        return trace.format_trace_id(context.trace_id) if context.trace_flags.sampled else None

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def event(self, name: str, attributes: Attributes = NO_ATTRIBUTES) -> None:
        self._span.add_event(name, attributes)

    def fail(self, error_type: str, message: str) -> None:
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(Status(StatusCode.ERROR, message))

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def begin(self, name: str, attributes: Attributes) -> tracing.Span:
        context = trace.set_span_in_context(self._span)
        return _Span(self._tracer.start_span(name, context, attributes=attributes), self._tracer)

    def end(self) -> None:
        self._span.end()


class _Recorder:
    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def span(
        self, name: str, kind: str, parent: str | None, *, root: bool, link: str | None
    ) -> Generator[tracing.Span]:
        context = Context() if root else None
        if parent is not None:
            context = W3C.extract({"traceparent": parent}, context)
        with self._tracer.start_as_current_span(
            name,
            context,
            kind=SpanKind[kind.upper()],
            links=None if link is None else [Link(_joined(link))],
            record_exception=False,  # the variables of a stack can hold what must not leave
            set_status_on_exception=False,
        ) as recorded:
            span = _Span(recorded, self._tracer)
            try:
                yield span
            except Exception as error:
                span.fail(*_told(error))
                raise
            except BaseException:
                span.event("cancelled")
                raise

    def current(self) -> tracing.Span:
        span = trace.get_current_span()
        return _Span(span, self._tracer) if span.get_span_context().is_valid else NO_SPAN

    def is_valid(self, traceparent: str) -> bool:
        return _joined(traceparent).is_valid


def _joined(traceparent: str) -> trace.SpanContext:
    context = W3C.extract({"traceparent": traceparent}, Context())
    return trace.get_current_span(context).get_span_context()


def _told(error: Exception) -> tuple[str, str]:
    """Return the kind of an error and its words, if it is one of ours, which say nothing secret."""
    kind = error.reason if isinstance(error, OllamaError) else type(error).__name__
    return kind, str(error) if isinstance(error, OperatorError) else ""
