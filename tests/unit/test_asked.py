"""What is told of a question to the webhook: spans and numbers, and nothing of what it is about."""

from datetime import UTC, datetime

import pytest

from ollama_op.metrics.recorder import Metrics
from ollama_op.metrics.served import Admitted
from support.virtual.measured import Measured
from support.virtual.reviews import Object, client, review
from support.virtual.spans import Spans

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOT_SAMPLED = SAMPLED[:-1] + "0"
SECRET = "hunter2"  # noqa: S105 - what must not be told
GOOD, BAD = {"name": "llama3.2", "tag": "1b"}, {"name": SECRET, "tag": "1b", "interval": "1ms"}
REQUESTS = "ollama_op_webhook_requests_total"


async def post(path: str, body: Object, *traceparent: str, **how: object) -> None:
    headers = {"traceparent": traceparent[0]} if traceparent else {}
    async with client(**how) as api_server:
        await api_server.post(path, json=body, headers=headers)


async def test_a_span_says_what_was_asked_and_what_was_decided(spans: Spans) -> None:
    """A part of the API server's trace, if it keeps one; with names of fields, not with values."""
    await post("/validate", review(BAD, namespace="ai"), SAMPLED)
    (span,) = spans.named("POST /validate")
    assert span.attributes == {
        "http.request.method": "POST",
        "url.path": "/validate",
        "http.response.status_code": 200,
        "k8s.namespace.name": "ai",
        "ollama_op.object": "m",
        "ollama_op.operation": "CREATE",
        "ollama_op.allowed": False,
        "ollama_op.reason": "Invalid",
        "ollama_op.fields": "spec.interval",
    }
    assert span.kind.name == "SERVER"
    assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" in SAMPLED
    assert span.status.is_ok  # to refuse is no failure
    assert SECRET not in span.to_json()


async def test_what_the_api_server_does_not_record_is_not_recorded(spans: Spans) -> None:
    """Its sampling is its own; a question without a trace begins one."""
    await post("/validate", review(GOOD), NOT_SAMPLED)
    assert spans.all() == []
    await post("/mutate", review(GOOD), "nonsense")
    (span,) = spans.all()
    assert (span.name, span.parent) == ("POST /mutate", None)
    assert span.attributes["ollama_op.allowed"] is True
    assert "ollama_op.reason" not in span.attributes


async def test_what_is_no_question_names_no_span(spans: Spans) -> None:
    """A scanner cannot make as many names as it likes."""
    await post("/any/thing", {})
    (span,) = spans.all()
    assert (span.name, span.attributes["http.response.status_code"]) == ("POST", 404)


@pytest.mark.parametrize(
    ("path", "body", "labels"),
    [
        ("/validate", review(GOOD), ("validate", "CREATE", "allowed")),
        ("/validate", review(BAD), ("validate", "CREATE", "refused")),
        ("/validate", review(GOOD, old=BAD, operation="UPDATE"), ("validate", "UPDATE", "allowed")),
        ("/mutate", review(GOOD), ("mutate", "CREATE", "allowed")),
        ("/mutate", review({"name": "a:b"}), ("mutate", "CREATE", "rewritten")),
        ("/validate", review(GOOD, operation="MAKE" * 99), ("validate", "other", "allowed")),
        ("/validate", {}, ("validate", "other", "error")),
        ("/else", {}, ("other", "other", "error")),
    ],
)
async def test_each_question_is_counted_and_timed(path, body, labels) -> None:
    """By what it was and what came of it, of which there are few."""
    m = Measured(w=None, metrics=Metrics(), api=None)
    m.metrics.admitted = Admitted(lambda: None)
    await post(path, body, observe=m.metrics.admitted.note)
    want = dict(zip(("webhook", "operation", "result"), labels, strict=True))
    assert [has for has, number in m.all(REQUESTS) if number] == [want]
    assert m.value("ollama_op_webhook_request_duration_seconds_count", **want) == 1


def test_what_may_be_counted_is_there_from_the_start() -> None:
    """The first refusal is an increase, too; without a webhook there is no word of one."""
    m = Measured(w=None, metrics=Metrics(), api=None)
    assert "webhook" not in m.text()
    m.metrics.admitted = Admitted(lambda: datetime(2030, 1, 1, tzinfo=UTC))
    assert m.value(REQUESTS, webhook="validate", operation="CREATE", result="refused") == 0
    assert len(m.all(REQUESTS)) == 8
    expiry = "ollama_op_webhook_certificate_expiry_timestamp_seconds"
    assert m.value(expiry) == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
