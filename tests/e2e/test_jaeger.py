"""The real Jaeger keeps what OpenTelemetry's exporter sends, and gives it back."""

from collections.abc import Iterator

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Status, StatusCode, Tracer, format_span_id, format_trace_id

from support.process.jaeger import Jaeger, records

pytestmark = pytest.mark.real


@pytest.fixture
def tracer(jaeger: Jaeger) -> Iterator[Tracer]:
    """Return a tracer of the service `trial` whose spans are on their way once they end."""
    provider = TracerProvider(resource=Resource({"service.name": "trial"}))
    exporter = OTLPSpanExporter(endpoint=f"{jaeger.otlp_url}/v1/traces", timeout=5)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("trial")
    provider.shutdown()


def test_spans_come_back_with_parents_and_attributes(jaeger: Jaeger, tracer: Tracer) -> None:
    """Two spans that were exported are one trace, with all that they were given."""
    with tracer.start_as_current_span("OllamaModel demo/a", attributes={"model": "a:1b"}) as outer:
        inner = tracer.start_span("POST /api/pull", attributes={"size_bytes": 1_000})
        inner.add_event("stalled")
        inner.set_status(Status(StatusCode.ERROR, "EOF"))
        inner.end()
    context = outer.get_span_context()

    spans = jaeger.trace(format_trace_id(context.trace_id), spans=2)

    found = {span.name: span for span in records(spans)}
    parent, child = found["OllamaModel demo/a"], found["POST /api/pull"]
    assert (None, format_span_id(context.span_id)) == (parent.parent_id, parent.span_id)
    assert (parent.span_id, False) == (child.parent_id, child.ok)
    assert parent.attributes == {"model": "a:1b"}
    assert child.attributes == {"size_bytes": 1_000, "error": "EOF"}
    assert [name for _, name in child.events] == ["stalled"]
    assert "trial" in jaeger.services()
    assert spans[0]["traceID"] in {trace[0]["traceID"] for trace in jaeger.traces("trial")}


def test_a_trace_that_never_comes_is_not_waited_for_long(jaeger: Jaeger) -> None:
    """Who waits for a trace in vain is told so."""
    with pytest.raises(AssertionError, match="has 0 of 1 spans"):
        jaeger.trace("0" * 31 + "1", within_s=0.2)
