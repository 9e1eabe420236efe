"""Questions to the webhook, seen in a real kube-apiserver's traces and in numbers."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.kube.controlplane import ControlPlane, controlplane
from support.kube.manifests import CONFIG, NAMESPACE, rendered
from support.process.child import free_port
from support.process.jaeger import Jaeger
from support.process.operator import Models, Operator, apply_crd, wait_until
from support.virtual.door import create, hooks_at, put

pytestmark = pytest.mark.real

NOWHERE = "http://127.0.0.1:9"  # an Ollama that is never there: none of this needs one
TRACED = {
    "apiVersion": "apiserver.config.k8s.io/v1beta1",
    "kind": "TracingConfiguration",
    "endpoint": "127.0.0.1:9",  # its own spans go nowhere
    "samplingRatePerMillion": 1_000_000,
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run a Kubernetes API that keeps a trace of each request."""
    path: Path = tmp_path_factory.mktemp("tracing") / "tracing.json"
    path.write_text(json.dumps(TRACED))
    with controlplane([f"--tracing-config-file={path}"]) as plane:
        apply_crd(plane, CONFIG / "crd")
        plane.kubectl("create", "namespace", NAMESPACE)
        yield plane


def test_a_question_is_a_part_of_the_api_servers_trace_and_counted(
    cluster: ControlPlane, jaeger: Jaeger
) -> None:
    """Both questions of one `kubectl create` are in one trace that the operator did not begin."""
    models, port, metrics = Models(cluster, "seen"), free_port(), f"127.0.0.1:{free_port()}"
    put(cluster, hooks_at(port, rendered("webhook")))
    flags = (
        f"--webhook-bind-address=127.0.0.1:{port}",
        f"--webhook-service=ollama-op-webhook.{NAMESPACE}",
        f"--metrics-bind-address={metrics}",
    )
    sends = {"OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp_url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    env = sends | {"OTEL_SERVICE_NAME": "webhook-seen"}
    with Operator(cluster.kubeconfig, NOWHERE, *flags, env=env) as operator:
        assert "spec.interval" in create(models, "refused", interval="1ms")
        found: list[dict[str, str]] = []

        def look() -> bool:
            found[:] = [
                {tag["key"]: tag["value"] for tag in span["tags"]}
                | {"name": span["operationName"], "trace": span["traceID"]}
                | {"parent": str([each["spanID"] for each in span["references"]])}
                for trace in jaeger.traces("webhook-seen", limit=100)
                for span in trace
                if span["operationName"] in ("POST /mutate", "POST /validate")
            ]
            return len(found) == 2

        wait_until(look, lambda: str(found))
        mutate, validate = sorted(found, key=lambda span: span["name"])
        assert mutate["trace"] == validate["trace"]
        assert "[]" not in (mutate["parent"], validate["parent"])
        assert validate["ollama_op.object"] == "refused"
        assert (validate["ollama_op.allowed"], mutate["ollama_op.allowed"]) == (False, True)
        assert validate["ollama_op.fields"] == "spec.interval"

        text = httpx.get(f"http://{metrics}/metrics", trust_env=False).text
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
        asked = {
            (s.labels["webhook"], s.labels["result"]): s.value
            for s in samples
            if s.name == "ollama_op_webhook_requests_total" and s.labels["operation"] == "CREATE"
        }
        assert (asked["validate", "refused"], asked["mutate", "allowed"]) == (1, 1)
        assert "ollama_op_webhook_certificate_expiry_timestamp_seconds" in {s.name for s in samples}
        assert operator.bugs() == []
