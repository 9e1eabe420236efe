"""A secret in each place where one can be is in nothing that the operator says."""

import json
from typing import Any

import anyio
import pytest
import structlog
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.access import Keys
from ollama_op.app import otel
from ollama_op.metrics.recorder import Metrics
from ollama_op.sandbox.kube.server import ApiFault
from ollama_op.sandbox.ollama.pulls import PullTrouble
from support.virtual.rest import key, rest_world
from support.virtual.world import MB, reason

CANARY = "canary4711"
MODELS = "/api/v1/models"
# What Ollama repeats of its registry: a signed address, and a proxy with its password.
SAID = (
    f"max retries exceeded: Get https://me:{CANARY}@cdn.example/blob?X-Amz-Signature={CANARY}:"
    f" proxyconnect tcp: dial http://user:{CANARY}@proxy:3128"
)


@pytest.fixture
def lines() -> list[dict[str, Any]]:
    """Collect every line of the log, at every level."""
    found: list[dict[str, Any]] = []

    def keep(_logger: object, _method: str, line: dict[str, Any]) -> str:
        found.append(dict(line))
        return ""

    structlog.configure(processors=[keep], logger_factory=structlog.ReturnLoggerFactory())
    return found


async def test_no_secret_is_said_anywhere(lines) -> None:
    """In no span, metric, line of the log, event, status or answer; with failures of all kinds."""
    exporter, metrics = InMemorySpanExporter(), Metrics()
    stop = otel.start_recording(SimpleSpanProcessor(exporter))
    answers: list[str] = []
    keys = {"keys": Keys([key(CANARY)]), "kubernetes": True, "observer": metrics}
    async with rest_world(**keys) as (w, client):
        client.headers["x-api-key"] = CANARY
        w.ollama.publish("m:1", MB)
        w.ollama.trouble("m:1", PullTrouble(error=SAID))
        answers += [(await client.post(MODELS, json={"name": "m", "tag": "1"})).text]
        await w.until("m-1", lambda s: reason(s) == "RegistryUnavailable")
        status = (await w.get("m-1"))["status"]
        assert status["error"]
        answers += [(await client.get(MODELS)).text, (await client.get(f"{MODELS}/m-1")).text]
        answers += [(await client.get(f"{MODELS}?q={CANARY}")).text]
        wrong = {"x-api-key": f"{CANARY}-wrong"}
        answers += [(await client.get(MODELS, headers=wrong)).text]
        w.kube.intercept = lambda r: ApiFault() if r.method == "POST" else None
        del client.headers["x-api-key"]
        bearer = {"authorization": f"Bearer {CANARY}"}
        answers += [(await client.get(MODELS, headers=bearer)).text]
        w.kube.intercept = lambda _: None
        await anyio.sleep(60)
        said = {
            "spans": [span.to_json() for span in exporter.get_finished_spans()],
            "metrics": [metrics.scrape()().decode()],
            "log": [json.dumps(line, default=repr) for line in lines],
            "events": [f"{name}: {text}" for name, text in await w.events()],
            "status": [json.dumps((await w.get("m-1"))["status"])],
            "answers": answers,
        }
    stop()
    for where, texts in said.items():
        assert texts, where
        assert [text for text in texts if CANARY in text] == [], where
