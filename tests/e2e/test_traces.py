"""What a user sees of the operator's work in a real Jaeger."""

import json
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from crd.v1alpha1 import TRACEPARENT
from ollama_op.demo.tree import TreeSpan, lines
from support.kube.controlplane import ControlPlane
from support.ollama.registry import Faults
from support.ollama.server import OllamaServer
from support.process.child import closed_port, free_port
from support.process.jaeger import Jaeger, records
from support.process.operator import Models, Operator, reason, wait_until

pytestmark = pytest.mark.real

KEY, HEADER = "canary-of-the-api-key", "canary-of-the-collector"
API = "/api/v1/models"
CLIENT = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def url() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def operator(
    cluster: ControlPlane, ollama: OllamaServer, jaeger: Jaeger, url: str
) -> Iterator[Operator]:
    """Run an operator that sends its traces to Jaeger, every half second."""
    flags = [
        "--namespace=traces",
        "--stall-timeout=2s",
        "--enable-api-server",
        f"--api-server-bind-address={url.removeprefix('http://')}",
        f"--api-server-key={KEY}",
    ]
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp_url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-collector-key={HEADER}",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
    }
    Models(cluster, "traces")
    with Operator(cluster.kubeconfig, ollama.url, *flags, env=env) as operator:
        yield operator


@pytest.fixture
def models(cluster: ControlPlane, operator: Operator) -> Iterator[Models]:
    """Hand out the objects of one namespace, which is empty after each test."""
    models = Models(cluster, "traces")
    yield models
    models.clear()
    assert operator.bugs() == []


def trace_of(jaeger: Jaeger, trace_id: str, *names: str) -> list[TreeSpan]:
    """Wait until a trace has spans of these names, each so often; return all in order of start."""
    found: list[TreeSpan] = []

    def look() -> bool:
        found[:] = sorted(records(jaeger.trace(trace_id)), key=lambda span: span.start_s)
        return Counter(names) <= Counter(span.name for span in found)

    wait_until(look, lambda: f"{trace_id} has {[span.name for span in found]}")
    return found


def one(spans: list[TreeSpan], name: str) -> TreeSpan:
    found = [each for each in spans if each.name == name]
    assert len(found) == 1, "\n".join([name, *lines(spans, 120)])
    return found[0]


def test_a_life_from_kubectl_to_the_end_is_one_trace(registry, jaeger, models) -> None:
    """With the pull's layers inside its call, inside its try; and the removal in the same trace."""
    registry.publish("traced", seed=401, size=2_000_000)
    models.apply("traced", "traced:latest")
    life = models.ready("traced")["traceID"]
    assert life in models.get("traced")["metadata"]["annotations"][TRACEPARENT]
    models.delete("traced")
    models.gone("traced")

    spans = trace_of(jaeger, life, "OllamaModel", "pull", "delete", "DELETE /api/delete", "event")

    root, pull, call = one(spans, "OllamaModel"), one(spans, "pull"), one(spans, "POST /api/pull")
    show, delete = one(spans, "POST /api/show"), one(spans, "delete")
    layers = [span for span in spans if span.name == "layer"]
    assert [span.name for span in spans if span.parent_id is None] == ["OllamaModel"]
    assert {pull.parent_id, delete.parent_id} == {root.span_id}
    assert {call.parent_id, show.parent_id} == {pull.span_id}
    assert layers
    assert {layer.parent_id for layer in layers} == {call.span_id}
    assert one(spans, "DELETE /api/delete").parent_id == delete.span_id
    assert pull.attributes["ollama_op.model"] == "traced:latest"
    assert call.attributes["http.response.status_code"] == 200
    assert call.attributes["ollama_op.bytes"] >= 2_000_000
    assert pull.start_s <= call.start_s <= call.end_s <= pull.end_s
    assert root.start_s <= pull.start_s <= delete.start_s
    assert all(span.ok for span in spans)


def test_a_life_that_a_client_began_is_a_part_of_its_trace(registry, jaeger, models, url) -> None:
    """From its traceparent through the REST request into the pull."""
    registry.publish("posted", seed=402)
    headers = {"x-api-key": KEY, "traceparent": f"00-{CLIENT}-b7ad6b7169203331-01"}
    body = {"name": "posted", "tag": "latest"}
    made = httpx.post(f"{url}{API}", json=body, headers=headers, trust_env=False)
    assert made.status_code == 201
    models.ready("posted-latest")
    read = httpx.get(f"{url}{made.headers['location']}", headers=headers, trust_env=False)
    assert read.json()["traceID"] == CLIENT

    spans = trace_of(jaeger, CLIENT, f"POST {API}", "claim", "pull", "layer")

    post = one(spans, f"POST {API}")
    assert post.attributes["http.response.status_code"] == 201
    assert {one(spans, "claim").parent_id, one(spans, "pull").parent_id} == {post.span_id}


def test_a_stall_and_its_retry_can_be_seen(registry, jaeger, models) -> None:
    """Two tries in one trace: the first says what stood still and when it is tried again."""
    registry.publish("stands", seed=403, size=4_000_000)
    registry.set_faults("stands", Faults(stall_after=1_000_000))
    models.apply("stands", "stands:latest")
    models.until("stands", lambda status: reason(status) == "PullStalled")
    registry.set_faults("stands", Faults())
    life = models.ready("stands")["traceID"]

    spans = trace_of(jaeger, life, "POST /api/show")

    first, *_, last = tries = [span for span in spans if span.name == "pull"]
    assert [each.attributes["ollama_op.attempt"] for each in tries] == [*range(1, len(tries) + 1)]
    assert (first.ok, first.attributes["error.type"], last.ok) == (False, "PullStalled", True)
    assert 2 <= first.duration_s < 30
    said = " ".join(name for _, name in first.events)
    assert "stalled" in said
    assert "will retry" in said


def test_a_life_goes_on_in_the_next_operator(registry, jaeger, models, operator) -> None:
    """A restart in mid-pull leaves one trace, in which the second operator takes over."""
    registry.publish("survives", seed=404, size=4_000_000)
    registry.set_faults("survives", Faults(stall_after=1_000_000))
    models.apply("survives", "survives:latest")
    life = models.until("survives", lambda s: s.get("state") == "Pulling")["traceID"]
    operator.restart()
    registry.set_faults("survives", Faults())
    assert models.ready("survives")["traceID"] == life
    trace_of(jaeger, life, "POST /api/show", "pull", "pull")


def test_no_secret_is_in_any_trace_or_log(registry, jaeger, models, operator, url) -> None:
    """Neither the API's key nor the collector's, nor a wrong key that somebody sent."""
    headers = {"x-api-key": "canary-of-a-wrong-key", "authorization": "Bearer canary-of-a-token"}
    answer = httpx.get(f"{url}{API}?q=canary-of-a-query", headers=headers, trust_env=False)
    assert answer.status_code == 401
    registry.publish("quiet", seed=405)
    models.apply("quiet", "quiet:latest")
    trace_of(jaeger, models.ready("quiet")["traceID"], "pull")
    wait_until(lambda: "GET unmatched" in json.dumps(jaeger.traces("ollama-op", limit=500)), str)
    everything = json.dumps(jaeger.traces("ollama-op", limit=1000)) + operator.log.read_text()
    assert "canary" not in everything


def test_a_collector_that_is_away_costs_nothing(cluster, ollama, registry) -> None:
    """The model is Ready all the same, it is told once, and the end does not wait for it."""
    registry.publish("alone", seed=406)
    models = Models(cluster, "no-collector")
    with closed_port() as port:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        env |= {"OTEL_BSP_SCHEDULE_DELAY": "100"}
        with Operator(cluster.kubeconfig, ollama.url, "--namespace=no-collector", env=env) as it:
            models.apply("alone", "alone:latest")
            models.ready("alone")
            wait_until(lambda: "traces not sent" in it.log.read_text(), it.tail)
            models.clear()
            assert it.stop(grace_s=5) == 0
            told = [line for line in it.logs() if "trace" in line["msg"] or "span" in line["msg"]]
            assert len(told) == 1
            assert it.bugs() == []


def test_a_way_to_send_that_is_not_here_is_a_warning(cluster, ollama) -> None:
    """A cluster may set it for all pods: the operator runs, and says so once."""
    env = {"OTEL_TRACES_EXPORTER": "zipkin"}
    with Operator(cluster.kubeconfig, ollama.url, env=env) as it:
        (told,) = [line for line in it.logs() if "trace" in line["msg"]]
    assert (told["level"], told["msg"]) == ("warning", "no traces are sent")
    assert "zipkin" in told["problem"]
    assert "otlp" in told["hint"]
