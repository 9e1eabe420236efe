"""What is recorded of a model's life, in virtual time and on the sandbox."""

import anyio
import httpx
import pytest
from structlog.testing import capture_logs

from crd.v1alpha1 import REFRESH, TRACEPARENT
from ollama_op.app import otel
from ollama_op.app.process import start_tracing
from ollama_op.base.otlp import wants_tracing
from ollama_op.base.parsing import ConfigError
from ollama_op.base.tracing import is_on
from ollama_op.rest import serving
from ollama_op.sandbox.ollama.pulls import PullTrouble
from ollama_op.sandbox.transport import AppTransport
from support.virtual.rest import rest_world
from support.virtual.spans import Spans
from support.virtual.world import MB, World, reason

MODELS = "/api/v1/models"
JOINED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def traced(w: World, name: str = "m") -> str:
    """Return the trace that the status names."""
    return (await w.get(name))["status"]["traceID"]


async def test_one_life_is_one_trace(w: World, spans: Spans) -> None:
    """From the first sight to the removal, with the pull's layers and all writes in between."""
    w.ollama.publish("m:1", 100 * MB)
    await w.apply("m", "m:1")
    await w.ready("m")
    life = await traced(w)
    await w.delete("m")
    await w.gone("m")
    await anyio.sleep(5)

    names = [span.name for span in spans.of(life)]
    (root,) = spans.named("OllamaModel")
    (pull,) = spans.named("pull")
    (call,) = spans.named("POST /api/pull")
    (removal,) = spans.named("delete")
    assert "cancelled" not in {event.name for event in removal.events}
    assert names[0] == "OllamaModel"
    assert root.parent is None
    assert {"pull", "delete", "POST /api/show", "DELETE /api/delete", "event"} <= set(names)
    assert {"PATCH ollamamodels", "PATCH ollamamodels/status", "POST events"} <= set(names)
    assert call in spans.parts(pull)
    layers = [span for span in spans.parts(call) if span.name == "layer"]
    assert sum(span.attributes["ollama_op.bytes"] for span in layers) == 100 * MB
    assert {event.name for event in call.events} >= {"writing manifest", "success"}


async def test_every_call_of_ollama_says_what_it_was(w: World, spans: Spans) -> None:
    """By the semantic conventions of HTTP clients, and with the model."""
    w.ollama.publish("m:1", MB)
    await w.apply("m", "m:1")
    await w.ready("m")
    *_, show = spans.named("POST /api/show")
    assert {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.template": "/api/show",
        "url.full": str(w.ollama_http.base_url.join("/api/show")),
        "server.address": w.ollama_http.base_url.host,
        "ollama_op.model": "m:1",
    }.items() <= dict(show.attributes).items()
    called = sum(count for route, count in w.ollama.calls.items() if "/api/" in route)
    assert called == sum(1 for span in spans.all() if " /api/" in span.name)


async def test_a_trace_goes_on_after_a_restart(w: World, spans: Spans) -> None:
    """Where to join it stands on the object, written together with the finalizer."""
    w.ollama.publish("m:1", 1000 * MB)
    await w.apply("m", "m:1")
    await w.until("m", lambda s: s.get("state") == "Pulling")
    await w.stop()
    w.start()
    await w.ready("m")
    life = await traced(w)
    assert life in (await w.get("m"))["metadata"]["annotations"][TRACEPARENT]
    assert [span.name for span in spans.of(life)].count("pull") == 2
    assert [write for write in w.writes("m") if "status" not in write] == w.writes("m")[:1]


async def test_a_wish_that_brings_a_trace_is_a_part_of_it(w: World, spans: Spans) -> None:
    """The annotation is the wisher's, and stays."""
    w.ollama.publish("m:1", MB)
    await w.apply("m", "m:1", **{TRACEPARENT: JOINED})
    await w.ready("m")
    assert await traced(w) == JOINED[3:35]
    assert spans.named("OllamaModel") == []
    (claim,) = spans.named("claim")
    assert f"{claim.parent.span_id:016x}" == JOINED[36:52]
    assert (await w.get("m"))["metadata"]["annotations"][TRACEPARENT] == JOINED


async def test_an_annotation_that_is_no_trace_is_replaced(w: World, spans: Spans) -> None:
    """Nonsense from somebody else keeps nobody from reading the trace."""
    w.ollama.publish("m:1", MB)
    await w.apply("m", "m:1", **{TRACEPARENT: "nonsense"})
    await w.ready("m")
    assert await traced(w) in (await w.get("m"))["metadata"]["annotations"][TRACEPARENT]
    assert len(spans.named("OllamaModel")) == 1


async def test_a_rest_request_begins_the_life(spans: Spans) -> None:
    """The client's own trace goes on through the request into the pull; the API tells its id."""
    async with rest_world() as (w, client):
        w.ollama.publish("llama3.2:1b", MB)
        async with AppTransport(serving.traced(client._transport._app)) as transport:
            seen = httpx.AsyncClient(
                transport=transport, base_url="http://api", headers=client.headers
            )
            body = {"name": "llama3.2", "tag": "1b"}
            made = await seen.post(MODELS, json=body, headers={"traceparent": JOINED})
            await w.ready("llama3.2-1b")
            assert (await seen.get(made.headers["location"])).json()["traceID"] == JOINED[3:35]
    (post,) = spans.named(f"POST {MODELS}")
    (claim,) = spans.named("claim")
    assert f"{post.parent.span_id:016x}" == JOINED[36:52]
    assert {"claim", "POST ollamamodels"} <= {span.name for span in spans.parts(post)}
    assert claim.parent.span_id == post.context.span_id
    (get,) = spans.named(f"GET {MODELS}/{{name}}")
    assert get.attributes["http.route"] == f"{MODELS}/{{name}}"
    assert get.attributes["http.response.status_code"] == 200


async def test_of_many_reads_a_few_are_recorded(spans: Spans) -> None:
    """All of those that belong to a client's trace, and all writes."""
    async with (
        rest_world() as (_, client),
        AppTransport(serving.traced(client._transport._app)) as transport,
    ):
        seen = httpx.AsyncClient(transport=transport, base_url="http://api", headers=client.headers)
        for _ in range(50):
            await seen.get(MODELS)
        for _ in range(20):
            await seen.get(MODELS, headers={"traceparent": JOINED})
            await seen.delete(f"{MODELS}/nobody")
    assert 30 <= len(spans.named(f"GET {MODELS}")) <= 20 + 2 * serving.READS_PER_S
    assert len(spans.named(f"DELETE {MODELS}/{{name}}")) == 20


async def test_refresh_and_repair_are_traces_of_their_own(w: World, spans: Spans) -> None:
    """Each is linked to the life, and shown in the status."""
    w.ollama.publish("m:1", MB)
    await w.apply("m", "m:1")
    await w.ready("m")
    life = await traced(w)
    await w.patch("m", {"metadata": {"annotations": {REFRESH: "now"}}})
    await w.until("m", lambda s: s.get("lastHandledRefresh") == "now")
    w.ollama.lose("m:1")
    await w.until("m", lambda s: reason(s) == "ModelLost", within_s=70)
    await w.ready("m")
    (refresh,), (restore,) = spans.named("refresh"), spans.named("restore")
    assert await traced(w) == f"{restore.context.trace_id:032x}"
    for apart in (refresh, restore):
        assert apart.parent is None
        assert [f"{link.context.trace_id:032x}" for link in apart.links] == [life]


async def test_a_stall_and_the_retry_after_it_are_in_the_picture(w: World, spans: Spans) -> None:
    """Each try is a span; the first says what went wrong, how long it waited, and what is next."""
    w.ollama.publish("m:1", 100 * MB)
    w.ollama.trouble("m:1", PullTrouble(after_bytes=50 * MB, stall_s=600))
    await w.apply("m", "m:1")
    await w.until("m", lambda s: reason(s) == "PullStalled", within_s=400)
    await w.ready("m")
    first, second = spans.named("pull")
    assert (first.attributes["error.type"], first.status.is_ok) == ("PullStalled", False)
    assert [event.name for event in first.events] == [
        "download slot taken",
        "stalled",
        "will retry",
    ]
    assert (second.attributes["ollama_op.attempt"], second.status.is_ok) == (2, True)
    assert first.context.trace_id == second.context.trace_id


async def test_rest_writes_nothing_for_the_trace_alone(w: World, spans: Spans) -> None:
    """An hour of checks changes no status, and begins no trace but theirs.

    They are of Ollama's list, and of that of the objects where the watch has nothing to tell.
    """
    w.ollama.publish("m:1", MB)
    await w.apply("m", "m:1")
    await w.ready("m")
    await anyio.sleep(10)
    writes, before = len(w.writes("m")), len(spans.all())
    await anyio.sleep(3600)
    assert len(w.writes("m")) == writes
    assert {span.name for span in spans.all()[before:]} == {"GET /api/tags", "GET ollamamodels"}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, False),
    ],
)
def test_the_standard_variables_turn_it_on(environ, wanted) -> None:
    """An endpoint is enough; what turns it off wins."""
    assert wants_tracing(environ) is wanted


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_what_cannot_be_sent_is_refused(environ) -> None:
    """Silence would be a trace that never comes."""
    with pytest.raises(ConfigError) as caught:
        wants_tracing(environ)
    assert "otlp" in caught.value.hint.lower()


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "nonsense"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:99999"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:hunter2@collector:4318"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces?token=hunter2"},
    ],
)
def test_an_endpoint_that_cannot_be_meant_is_refused_without_repeating_it(environ) -> None:
    """A late warning would be overlooked, and a key in an address would be in the log."""
    with pytest.raises(ConfigError) as caught:
        wants_tracing(environ)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert "OTEL_EXPORTER_OTLP" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-5"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "abc"),
    ],
)
def test_variables_that_are_meant_for_others_keep_nobody_from_running(
    monkeypatch, name, value
) -> None:
    """A cluster injects them into all pods: one warning with a hint, and no traces."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setenv(name, value)
    with capture_logs() as lines:
        start_tracing()()
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("no traces are sent", "warning")
    ]
    assert "OTEL_" in lines[0]["hint"]
    assert not is_on()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-5"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
    ],
)
def test_numbers_that_cannot_be_meant_are_a_bad_setting(monkeypatch, name, value) -> None:
    """No traceback, and not only once there is a span."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        otel.sender()
    assert "OTEL_" in caught.value.hint


def test_limits_that_cannot_be_meant_are_a_bad_setting(monkeypatch) -> None:
    """The same for what is read when recording begins."""
    monkeypatch.setenv("OTEL_ATTRIBUTE_COUNT_LIMIT", "abc")
    with pytest.raises(ConfigError, match="OpenTelemetry"):
        otel.start_recording()
