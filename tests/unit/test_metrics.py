"""What is measured really moves, and what is gone leaves nothing behind."""

from collections.abc import AsyncGenerator

import anyio
import httpx
import pytest

from crd.v1alpha1 import REFRESH
from ollama_op.metrics.exporter import Exporter
from ollama_op.metrics.gauges import STATES
from ollama_op.metrics.recorder import Metrics
from ollama_op.sandbox.ollama.pulls import PullTrouble
from support.virtual.measured import Measured, measured
from support.virtual.pull_faults import FAULTS
from support.virtual.unruly import error_event, refuse, stream
from support.virtual.world import MB, reason


@pytest.fixture
async def m() -> AsyncGenerator[Measured]:
    """Run a measured operator."""
    async with measured() as it:
        yield it


async def brought(m: Measured, *sizes: int, **spec: object) -> None:
    """Have a model Ready as `m`."""
    m.w.ollama.publish("m:1", *(sizes or (50 * MB,)))
    await m.w.apply("m", "m:1", spec=spec)
    await m.w.ready("m")


# --- how things are


async def test_every_end_of_a_pull_is_counted_from_zero(m):
    """So the first failure is an increase: whatever Ollama may say of a pull has its series."""
    results = {labels["result"]: n for labels, n in m.all("ollama_op_pulls_total")}
    assert {fault.reason.value for fault in FAULTS if not fault.is_load} <= results.keys()
    assert set(results.values()) == {0}


async def test_models_are_counted_by_state(m):
    """Every state has a number from the start, and the sum is how many there are."""
    m.w.ollama.publish("a:1", 500 * MB)
    await m.w.apply("a", "a:1")
    await m.w.apply("b", "nobody/has:1")
    await brought(m, 1)
    await m.w.until("b", lambda s: s.get("state") == "Failed")
    await m.w.until("a", lambda s: s.get("state") == "Pulling")
    by_state = {labels["state"]: n for labels, n in m.all("ollama_op_models")}
    want = dict.fromkeys(STATES, 0) | {"Pulling": 1, "Failed": 1, "Ready": 1}
    assert by_state == want


@pytest.mark.parametrize(
    ("spec", "state"), [({"suspend": True}, "Suspended"), ({"timeout": "0s"}, "Failed")]
)
async def test_a_state_says_what_matters_most(m, spec, state):
    """Whoever reads an alert wants to know why a model is left alone."""
    await brought(m)
    await m.w.patch("m", {"spec": spec})
    await anyio.sleep(5)
    assert m.value("ollama_op_model_state", model="m", state=state) == 1
    assert len(m.all("ollama_op_model_state")) == 1


async def test_a_model_in_the_queue_is_queued(m):
    """More downloads are wanted than may run."""
    for i in range(6):
        m.w.ollama.publish(f"m{i}:1", 500 * MB)
        await m.w.apply(f"m{i}", f"m{i}:1")
    await anyio.sleep(5)
    assert m.value("ollama_op_models", state="Queued") == 2
    assert m.value("ollama_op_pulls_waiting") == 2
    assert m.value("ollama_op_pulls_in_progress", server="default") == 4
    assert m.value("ollama_op_tasks") == 6
    await anyio.sleep(400)
    assert m.value("ollama_op_pulls_waiting") == m.value("ollama_op_pulls_in_progress") == 0


async def test_a_model_is_described(m):
    """Ready, size, when it was pulled, whether it is loaded, and what kind it is."""
    await brought(m, 30 * MB, 20 * MB, keepAlive="-1")
    await m.w.until("m", lambda s: s.get("loaded") is True)
    who = {"model_namespace": "default", "model": "m"}
    assert m.all("ollama_op_model_ready") == [(who, 1)]
    assert m.all("ollama_op_model_size_bytes") == [(who, 50 * MB)]
    assert m.all("ollama_op_model_loaded") == [(who, 1)]
    pulled = anyio.current_time() + 1767225600  # the world began on 1 January 2026
    assert m.value("ollama_op_model_last_pull_timestamp_seconds") == pytest.approx(pulled, abs=60)
    kind = {"family": "llama", "parameter_size": "1B", "quantization": ""}
    assert m.all("ollama_op_model_info") == [(who | kind, 1)]


async def test_the_series_of_a_model_go_with_it(m):
    """At the very next scrape, so that no alert about it stays."""
    await brought(m)
    assert m.value("ollama_op_model_ready", model="m") == 1
    await m.w.delete("m")
    await m.w.gone("m")
    await anyio.sleep(1)
    assert 'model="m"' not in m.text()
    assert m.value("ollama_op_tasks") == 0


async def test_a_blocked_deletion_is_seen(m):
    """The object waits for a server that does not answer."""
    await brought(m)
    m.w.ollama.is_down = True
    await anyio.sleep(70)
    await m.w.delete("m")
    await m.w.until("m", lambda s: reason(s) == "DeletionBlocked")
    assert m.value("ollama_op_models", state="DeletionBlocked") == 1


async def test_a_server_is_up_or_down(m):
    """And when it was looked at, which one it is, and how much it has."""
    m.w.ollama.publish("other:1", MB)
    m.w.ollama.preload("other:1")
    await anyio.sleep(130)
    assert m.value("ollama_op_server_up", server="default") == 1
    assert m.value("ollama_op_server_models") == 1
    assert m.value("ollama_op_server_info", version="0.17.4") == 1
    looked_at = m.value("ollama_op_server_last_look_timestamp_seconds")
    assert m.w.now().timestamp() - looked_at == pytest.approx(10, abs=1)
    m.w.ollama.is_down = True
    await anyio.sleep(70)
    assert m.value("ollama_op_server_up") == 0
    assert m.all("ollama_op_server_info") == []


async def test_a_watch_is_up_or_down(m):
    """And each time it begins anew is counted, by cause."""
    await anyio.sleep(1)
    assert m.value("ollama_op_watch_up") == 1
    m.api.watches.extend([stream(), stream(error_event(410))])
    m.api.reset()
    await anyio.sleep(5)
    for cause in ("broken", "closed", "expired"):
        assert m.value("ollama_op_watch_restarts_total", cause=cause) == 1
    assert m.value("ollama_op_watch_up") == 1
    m.api.watches.extend([refuse(500)] * 9)
    m.api.reset()
    await anyio.sleep(5)
    assert m.value("ollama_op_watch_up") == 0


async def test_without_series_for_each_model_the_totals_stay(m):
    """For clusters with very many."""
    m.metrics._per_model = False
    await brought(m)
    assert "ollama_op_model_" not in m.text()
    assert m.value("ollama_op_models", state="Ready") == 1


# --- what happens


async def test_a_pull_is_counted_and_timed(m):
    """With its bytes while it runs, so that a rate can be seen."""
    m.w.ollama.publish("m:1", 100 * MB)  # 10 s
    await m.w.apply("m", "m:1")
    await anyio.sleep(5)
    assert m.value("ollama_op_pulls_in_progress") == 1
    assert 30 * MB < m.value("ollama_op_pulled_bytes_total") < 60 * MB
    await m.w.ready("m")
    assert m.value("ollama_op_pulls_in_progress") == 0
    assert m.value("ollama_op_pulled_bytes_total") == pytest.approx(100 * MB, rel=0.01)
    assert m.value("ollama_op_pulls_total", result="success") == 1
    assert m.value("ollama_op_pull_duration_seconds_sum") == pytest.approx(10, abs=1)


async def test_bytes_are_not_counted_twice(m):
    """A pull that is taken up again counts what comes, not what was there; none goes back."""
    m.w.ollama.publish("m:1", 100 * MB)
    m.w.ollama.trouble("m:1", PullTrouble(cut=True, after_bytes=60 * MB))
    await m.w.apply("m", "m:1")
    await m.w.ready("m")
    assert m.value("ollama_op_pulled_bytes_total") == pytest.approx(100 * MB, rel=0.05)
    assert m.value("ollama_op_pulls_total", result="OllamaUnreachable") == 1
    assert m.value("ollama_op_pulls_total", result="success") == 1


async def test_a_download_that_is_repeated_counts_only_what_is_new():
    """Its meter goes on from where it was."""
    m, arrived = Measured(w=None, metrics=Metrics(), api=None), [0]
    for total in (70, 100):
        with m.metrics.pulling(lambda: arrived[0]):
            arrived[0] = total
            assert m.value("ollama_op_pulled_bytes_total") == total
    assert m.value("ollama_op_pulled_bytes_total") == 100


@pytest.mark.parametrize(
    ("words", "why"),
    [("no space left on device", "InsufficientStorage"), ("manifest unknown", "ModelUnknown")],
)
async def test_a_failure_is_counted_by_its_cause(m, words, why):
    """As the pull that it was, and as a failure; a cause has its series from the start."""
    assert m.value("ollama_op_pulls_total", result=why) == 0
    assert m.value("ollama_op_failures_total", reason=why) == 0
    m.w.ollama.publish("m:1", MB)
    m.w.ollama.trouble("m:1", PullTrouble(error=words))
    await m.w.apply("m", "m:1")
    await m.w.until("m", lambda s: reason(s) == why)
    assert m.value("ollama_op_pulls_total", result=why) == 1
    assert m.value("ollama_op_failures_total", reason=why, server="default") == 1


async def test_a_pull_that_nobody_wants_any_more_is_cancelled(m):
    """Which is no failure."""
    m.w.ollama.publish("m:1", 500 * MB)
    await m.w.apply("m", "m:1")
    await anyio.sleep(3)
    await m.w.delete("m")
    await m.w.gone("m")
    assert m.value("ollama_op_pulls_total", result="cancelled") == 1
    assert sum(n for _, n in m.all("ollama_op_failures_total")) == 0


async def test_calls_of_ollama_are_counted_by_endpoint(m):
    """The code is Ollama's, or `error` where none came."""
    await brought(m)
    await m.w.patch("m", {"metadata": {"annotations": {REFRESH: "now"}}})
    await m.w.until("m", lambda s: s.get("lastHandledRefresh") == "now")
    for endpoint, call in (("/api/tags", "GET /api/tags"), ("/api/pull", "POST /api/pull")):
        counted = m.value("ollama_op_ollama_requests_total", endpoint=endpoint, code="200")
        assert counted == m.w.ollama.calls[call] > 0
    m.w.ollama.delay_s["/api/tags"] = 2
    before = m.value("ollama_op_ollama_request_duration_seconds_sum", endpoint="/api/tags")
    await anyio.sleep(65)
    after = m.value("ollama_op_ollama_request_duration_seconds_sum", endpoint="/api/tags")
    assert after - before == pytest.approx(2, abs=0.1)
    m.w.ollama.is_down = True
    await anyio.sleep(65)
    assert m.value("ollama_op_ollama_requests_total", endpoint="/api/tags", code="error") >= 2


async def test_what_follows_from_a_decision_is_timed(m):
    """By what was decided; rest is no work."""
    await brought(m, 100 * MB)
    assert m.value("ollama_op_reconcile_duration_seconds_count", action="AddFinalizer") == 1
    took_s = m.value("ollama_op_reconcile_duration_seconds_sum", action="Pull")
    assert took_s == pytest.approx(10, abs=1)
    assert m.value("ollama_op_reconcile_duration_seconds_count", action="Wait") is None


async def test_status_writes_are_counted_by_result(m):
    """What Kubernetes takes, and what it does not."""
    await brought(m)
    wrote = [what for _, what in m.w.writes("m") if what == "status"]
    assert m.value("ollama_op_status_writes_total", result="success") == len(wrote)
    assert m.value("ollama_op_status_writes_total", result="error") == 0


async def test_a_crash_is_counted(m, monkeypatch):
    """A bug is the one thing that nobody is told of otherwise."""
    from ollama_op.reconcile import lifecycle  # noqa: PLC0415 - patched in this test only

    assert m.value("ollama_op_task_crashes_total") == 0
    monkeypatch.setattr(lifecycle, "decide", lambda *_: 1 / 0)
    await m.w.apply("m", "m:1")
    await anyio.sleep(0.5)
    assert m.value("ollama_op_task_crashes_total") == 1


# --- labels


async def test_foreign_words_are_no_labels(m):
    """Methods, paths and messages that somebody makes up do not make series."""
    for i in range(100):
        m.metrics.served.note("unmatched", f"X{i}", 404, 0.001)
        m.metrics.called(f"/api/{i}", "200", 0.1)
    m.metrics.called("/under/some/prefix/api/tags", "200", 0.1)
    assert m.value("ollama_api_requests_total", method="other", route="unmatched") == 100
    assert m.value("ollama_op_ollama_requests_total", endpoint="other") == 100
    assert m.value("ollama_op_ollama_requests_total", endpoint="/api/tags") >= 1
    assert len(m.metrics.served._counts) == 1


def test_requests_to_the_rest_api_are_counted_by_route():
    """The names are those of the Go operator."""
    m = Measured(w=None, metrics=Metrics(), api=None)
    route = "/api/v1/models/{name:str}"
    for code in (200, 200, 404):
        m.metrics.served.note(route, "GET", code, 0.002)
    labels = {"method": "GET", "route": route, "code": "200"}
    assert (labels, 2) in m.all("ollama_api_requests_total")
    assert m.value("ollama_api_request_duration_seconds_sum", route=route) == pytest.approx(0.006)
    assert m.value("ollama_api_request_duration_seconds_bucket", le="0.0025", code="404") == 1


def test_before_the_cluster_is_reached_there_are_metrics():
    """Of the process, and none of what is not known yet; nobody acts yet."""
    m = Measured(w=None, metrics=Metrics(), api=None)
    assert m.value("ollama_op_leader") == 0
    assert m.value("ollama_op_build_info") == 1
    assert m.value("ollama_op_server_up") is None
    assert m.value("process_cpu_seconds_total") > 0


# --- /metrics


async def test_metrics_are_at_one_path_only(m):
    """The rest says where they are."""
    transport = httpx.ASGITransport(Exporter(m.metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://pod") as prometheus:
        answer = await prometheus.get("/metrics")
        assert (answer.status_code, "ollama_op_leader " in answer.text) == (200, True)
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        elsewhere = await prometheus.get("/")
        assert (elsewhere.status_code, elsewhere.text) == (404, "only /metrics is here\n")
        assert (await prometheus.post("/metrics")).status_code == 405


@pytest.mark.parametrize(
    ("token", "code"), [(None, 401), ("nobody", 401), ("reader", 403), ("prometheus", 200)]
)
async def test_metrics_may_be_for_those_whom_kubernetes_lets_in(m, token, code):
    """As controller-runtime has it: a right to get the path, which models are no part of."""
    m.w.kube.people = {"reader": [("get", "")], "prometheus": [("get", "/metrics")]}
    await anyio.sleep(1)
    transport = httpx.ASGITransport(Exporter(m.metrics, locked=True))
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://pod") as client:
        answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == code
    assert ("www-authenticate" in answer.headers) == (code == 401)


async def test_nobody_gets_in_while_kubernetes_cannot_be_asked():
    """It is said that it may work later."""
    transport = httpx.ASGITransport(Exporter(Metrics(), locked=True))
    async with httpx.AsyncClient(transport=transport, base_url="http://pod") as client:
        answer = await client.get("/metrics", headers={"authorization": "Bearer t"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
