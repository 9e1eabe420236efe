"""What the operator logs about its models: each change of mind once, and no more."""

import json
import math
from collections import Counter
from datetime import datetime
from typing import Any

import anyio
import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from ollama_op.base.settings import Settings
from ollama_op.reconcile import lifecycle
from ollama_op.sandbox.http import SandboxRequest
from ollama_op.sandbox.kube.server import ApiFault
from ollama_op.sandbox.ollama.pulls import PullTrouble
from support.virtual.world import MB, World, reason

Line = dict[str, Any]
MANY = 12


def said(logs: list[Any], *levels: str) -> list[str]:
    return [line["event"] for line in logs if line["log_level"] in levels]


def reasons(logs: list[Any], name: str = "default/llama") -> list[Line]:
    """Return the lines that tell of a reason of one object."""
    return [line for line in logs if line.get("object") == name and "reason_before" in line]


async def follow(w: World, seen: list[str]) -> None:
    """Note each reason of the only object, once for each time that it comes up."""
    async with w.http.stream("GET", w.path(), params={"watch": "true"}, timeout=None) as answer:
        async for line in answer.aiter_lines():
            now = reason(json.loads(line)["object"].get("status", {}))
            if now and seen[-1:] != [now]:
                seen.append(now)


async def test_each_change_of_reason_is_logged_once(w: World) -> None:
    """Whatever it is changed by; with what it was before."""
    seen: list[str] = []
    w.ollama.publish("llama3.2:1b", 100 * MB)
    w.tasks.start_soon(follow, w, seen)
    await anyio.sleep(1)
    with capture_logs() as logs:
        await w.apply("llama", "llama3.2:1b")
        await w.ready("llama")
        w.ollama.lose("llama3.2:1b")
        await w.until("llama", lambda s: reason(s) == "ModelLost")
        await w.ready("llama")
        await w.patch("llama", {"spec": {"suspend": True}})
        await w.until("llama", lambda s: reason(s) == "Suspended")
        await w.patch("llama", {"spec": {"suspend": False, "name": "none"}})
        await w.until("llama", lambda s: reason(s) == "ModelUnknown")
        await w.patch("llama", {"spec": {"name": "a b"}})
        await w.until("llama", lambda s: reason(s) == "InvalidName")
        await w.rest(quiet_s=30)
    lines = reasons(logs)
    assert [line["reason"] for line in lines] == seen
    assert [line["reason_before"] for line in lines] == [None, *seen[:-1]]
    levels = {(line["reason"], line["log_level"]) for line in lines}
    assert levels == {
        ("Pulling", "info"),
        ("Available", "info"),
        ("ModelLost", "warning"),
        ("Suspended", "info"),
        ("ModelUnknown", "warning"),
        ("InvalidName", "warning"),
    }


async def test_a_line_about_a_model_says_which(w: World) -> None:
    """By name, by uid, and by the version of its spec."""
    w.ollama.publish("llama3.2:1b", 100 * MB)
    with capture_logs() as logs:
        made = await w.apply("llama", "llama3.2:1b")
        await w.ready("llama")
        await w.patch("llama", {"spec": {"suspend": True}})
        await w.until("llama", lambda s: reason(s) == "Suspended")
        await w.delete("llama")
        await w.gone("llama")
    lines = [line for line in logs if "object" in line]
    assert {"reason changed", "pull completed", "model deleted", "released"} <= {
        line["event"] for line in lines
    }
    assert {(line["object"], line["uid"]) for line in lines} == {
        ("default/llama", made["metadata"]["uid"])
    }
    generations = {line["reason"]: line["generation"] for line in reasons(logs)}
    assert generations == {"Pulling": 1, "Available": 1, "Suspended": 2}


async def test_each_failed_attempt_is_a_warning_with_its_number(w: World) -> None:
    """And with when the next one comes."""
    w.ollama.publish("llama3.2:1b", MB)
    w.ollama.trouble("llama3.2:1b", *[PullTrouble(error="EOF")] * 3)
    with capture_logs() as logs:
        began = w.now()
        await w.apply("llama", "llama3.2:1b")
        status = await w.until("llama", lambda s: s.get("attempts") == 1)
        await w.ready("llama")
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert [line["attempt"] for line in warnings] == [1, 2, 3]
    assert {line["event"] for line in warnings} == {"failed, will retry"}
    assert {line["reason"] for line in warnings} == {"RegistryUnavailable"}
    assert all("EOF" in line["problem"] for line in warnings)
    due = datetime.fromisoformat(status["nextRetryTime"]) - began
    assert warnings[0]["retry_in_s"] == pytest.approx(due.total_seconds(), abs=1)
    assert warnings[0]["retry_in_s"] < warnings[2]["retry_in_s"]


async def test_what_a_person_must_mend_is_said_so(w: World) -> None:
    """There is no next attempt to wait for."""
    with capture_logs() as logs:
        await w.apply("llama", "none:1b")
        await w.until("llama", lambda s: reason(s) == "ModelUnknown")
        await w.rest()
    (warning,) = [line for line in logs if line["log_level"] == "warning"]
    assert warning["event"] == "failed, a person must act"
    assert (warning["reason"], warning["attempt"]) == ("ModelUnknown", 1)
    assert "retry_in_s" not in warning


@pytest.mark.parametrize("pulling", [False, True])
async def test_an_outage_of_ollama_is_one_warning_and_one_line_at_its_end(
    w: World, *, pulling: bool
) -> None:
    """Not one for each model, also where it cuts downloads."""
    w.settings = Settings(max_concurrent_pulls=MANY)
    await w.stop()
    w.start()
    for number in range(MANY):
        w.ollama.publish(f"m{number}:1b", 600 * MB if pulling else MB)
        if pulling:  # at 10 MB/s, so that all are cut a second after the server has gone
            w.ollama.trouble(f"m{number}:1b", PullTrouble(cut=True, after_bytes=300 * MB))
        await w.apply(f"m{number}", f"m{number}:1b")
    await anyio.sleep(29)
    assert len(w.ollama.pulling) == (MANY if pulling else 0)
    with capture_logs() as logs:
        w.ollama.is_down = True
        await anyio.sleep(1200)
        for number in range(MANY):
            assert reason((await w.get(f"m{number}"))["status"]) == "OllamaUnreachable"
        down = said(logs, "info", "warning", "error")
        w.ollama.is_down = False
        while said(logs, "info", "warning", "error") == down:  # noqa: ASYNC110 - a log has no event
            await anyio.sleep(1)
        await anyio.sleep(5)
        up = said(logs, "info", "warning", "error")[len(down) :]
        for number in range(MANY):
            await w.ready(f"m{number}")
    assert down == ["ollama unreachable"]
    assert up == ["ollama answers again"]
    cut = [line for line in logs if line["event"] == "failed, will retry"]
    assert len(cut) == (MANY if pulling else 0)  # at debug level


async def test_a_model_lost_in_an_outage_is_news(w: World) -> None:
    """The outage is over, and not all is well."""
    w.ollama.publish("llama3.2:1b", MB)
    await w.apply("llama", "llama3.2:1b")
    await w.ready("llama")
    w.ollama.is_down = True
    await w.until("llama", lambda s: reason(s) == "OllamaUnreachable")
    w.ollama.lose("llama3.2:1b")
    with capture_logs() as logs:
        w.ollama.is_down = False
        await w.ready("llama")
    assert [(line["reason"], line["log_level"]) for line in reasons(logs)] == [
        ("ModelLost", "warning"),
        ("Available", "info"),
    ]


async def test_writes_that_kubernetes_does_not_take_are_one_warning(w: World) -> None:
    """However many models have something to say."""

    def refuse(request: SandboxRequest) -> ApiFault | None:
        return ApiFault(code=500) if request.method == "PATCH" else None

    await anyio.sleep(1)
    with capture_logs() as logs:
        w.kube.intercept = refuse
        for number in range(MANY):
            w.ollama.publish(f"m{number}:1b", MB)
            await w.apply(f"m{number}", f"m{number}:1b")
        await anyio.sleep(600)
        assert said(logs, "info", "warning") == ["kubernetes takes no writes, will retry"]
        w.kube.intercept = lambda _request: None
        for number in range(MANY):
            await w.ready(f"m{number}")
    infos = Counter(said(logs, "info"))
    assert infos["kubernetes takes writes again"] == 1
    assert said(logs, "warning") == ["kubernetes takes no writes, will retry"]


@pytest.mark.parametrize("fault", [ApiFault(code=0), ApiFault(delay_s=math.inf)])
async def test_a_cluster_that_is_away_is_one_warning_and_one_line_at_its_end(
    w: World, fault: ApiFault
) -> None:
    """Also when it is away for long."""
    await anyio.sleep(10)
    with capture_logs() as logs:
        w.kube.intercept = lambda _request: fault
        w.kube.hang_up()
        await anyio.sleep(1800)
        w.kube.intercept = lambda _request: None
        await anyio.sleep(120)
    assert said(logs, "info", "warning", "error") == [
        "watch broken, will retry",
        "watching ollamamodels",
    ]


async def test_a_crash_says_whose_it_was(w: World, monkeypatch) -> None:
    """Though the supervisor knows of tasks, and of no models."""

    def crash(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(lifecycle, "decide", crash)
    with capture_logs(processors=[merge_contextvars]) as logs:
        made = await w.apply("llama", "llama3.2:1b")
        await w.apply("other", "llama3.2:1b")
        await anyio.sleep(0.5)
    (crashed,) = [line for line in logs if line.get("object") == "default/llama"]
    assert (crashed["log_level"], crashed["event"]) == ("error", "model task crashed")
    assert (crashed["uid"], crashed["generation"]) == (made["metadata"]["uid"], 1)
