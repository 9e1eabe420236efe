"""What a gateway says in Ollama's place, and what the operator makes of it: nothing."""

import math
from collections import Counter

import anyio
import pytest

from support.virtual.gateway import EVERY, FOREIGN, as_json
from support.virtual.world import MB, World, condition, reason, world

LONGEST_PAUSE_S = 300 * 1.2  # between two tries
HOLD_OUT_S = 4 * 3600.0  # how long "for ever" is looked at


async def settled(w: World, count: int) -> list[str]:
    """Have so many models Ready that no registry has any more."""
    names = [f"m{number}" for number in range(count)]
    for name in names:
        w.ollama.publish(f"{name}:1b", MB)
        w.ollama.preload(f"{name}:1b")
        await w.apply(name, f"{name}:1b")
    w.start()
    for name in names:
        await w.ready(name)
        w.ollama.withdraw(f"{name}:1b")
    return names


async def outage(w: World, names: list[str]) -> None:
    """Have Ollama away until every model says so."""
    w.ollama.is_down = True
    for name in names:
        await w.until(name, lambda s: reason(s) == "OllamaUnreachable")
    w.ollama.is_down = False


def changes(w: World) -> Counter[str]:
    """Count what was asked that may change a model on the server."""
    return Counter({c: n for c, n in w.gateway.calls.items() if c.endswith(("/delete", "/pull"))})


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("after_outage", [True, False], ids=["after an outage", "steady"])
@pytest.mark.parametrize("for_s", [1, 10, 60, math.inf])
@pytest.mark.parametrize("answer", ["503", "502 empty", "404 HTML"])
async def test_a_gateway_that_answers_for_show_costs_no_model(answer, for_s, after_outage, count):
    """Whatever it says and however long: no deletion, no pull, and Ready again by itself.

    The models are in no registry any more, so each one deleted would be lost for good.
    """
    async with world() as w:
        names = await settled(w, count)
        if after_outage:
            await outage(w, names)
        w.gateway.answer(FOREIGN[answer], "POST /api/show", for_s=for_s)
        if math.isinf(for_s):
            await anyio.sleep(HOLD_OUT_S)
            for name in names:
                status = (await w.get(name))["status"]
                said = (condition(status, "Ready"), reason(status))
                assert said == (("Unknown", "NotOllama") if after_outage else ("True", "Available"))
                assert condition(status, "Stalled") is None
                assert status["digest"]
            w.gateway.let_through()
        for name in names:
            await w.ready(name, within_s=LONGEST_PAUSE_S + 60)
        assert changes(w) == Counter()
        assert len(w.ollama.models) == count


@pytest.mark.parametrize("words", ["Not Found", "Internal Server Error", "no such route"])
async def test_what_a_framework_calls_an_error_costs_no_model(w: World, words: str) -> None:
    """Its JSON has Ollama's form, and the registry has the model: it is not downloaded again."""
    w.ollama.publish("a:1b", MB)
    w.ollama.preload("a:1b")
    await w.apply("a", "a:1b")
    await w.ready("a")
    status = 500 if words.startswith("Internal") else 404
    w.gateway.answer(as_json(status, {"error": words}), "POST /api/show", for_s=600)
    await outage(w, ["a"])
    await anyio.sleep(590)
    assert condition((await w.get("a"))["status"], "Stalled") is None
    await w.ready("a", within_s=LONGEST_PAUSE_S + 60)
    assert changes(w) == Counter()


@pytest.mark.parametrize(
    ("answer", "for_s"),
    [*((each, 100) for each in FOREIGN), ("503", 1), ("502 empty", 10), ("404 HTML", math.inf)],
)
async def test_a_gateway_that_answers_for_everything_is_an_outage(answer, for_s):
    """The reason says whose fault it is; a deletion waits; and all is well once it has gone."""
    async with world() as w:
        await settled(w, 2)
        w.gateway.answer(FOREIGN[answer], EVERY, for_s=for_s)
        if for_s > 60:  # the time between two looks
            status = await w.until("m0", lambda s: reason(s) == "NotOllama")
            assert condition(status, "Ready") == "Unknown"
            assert f"HTTP {FOREIGN[answer].status}" in condition(status, "Ready", "message")
            await w.delete("m1")
            await w.until("m1", lambda s: reason(s) == "DeletionBlocked")
        if math.isinf(for_s):
            await anyio.sleep(HOLD_OUT_S)
            w.gateway.let_through()
        await w.ready("m0", within_s=LONGEST_PAUSE_S + 60)
        assert w.ollama.calls["POST /api/pull"] == 0
        assert "m0:1b" in w.ollama.models


@pytest.mark.parametrize("answer", FOREIGN)
async def test_a_gateways_answer_to_a_deletion_removes_nothing(w: World, answer):
    """A 404 of a gateway's is no "not found", and its 200 no deletion: the finalizer stays."""
    w.ollama.publish("a:1b", MB)
    await w.apply("a", "a:1b")
    await w.ready("a")
    w.gateway.answer(FOREIGN[answer], "DELETE /api/delete", for_s=60)
    await w.delete("a")
    await w.until("a", lambda s: reason(s) == "DeletionBlocked")
    await anyio.sleep(55)
    assert await w.exists("a")
    assert "a:1b" in w.ollama.models
    await w.gone("a")
    assert w.ollama.models == {}


@pytest.mark.parametrize("answer", FOREIGN)
async def test_a_gateways_answer_to_a_pull_is_no_failure_of_the_model(w: World, answer):
    """Neither before the stream nor as its only line; it is pulled as soon as Ollama is asked."""
    w.gateway.answer(FOREIGN[answer], "POST /api/pull", for_s=60)
    w.ollama.publish("a:1b", MB)
    await w.apply("a", "a:1b")
    status = await w.until("a", lambda s: reason(s) == "NotOllama")
    assert (condition(status, "Ready"), condition(status, "Stalled")) == ("Unknown", None)
    await w.ready("a")
    assert w.ollama.calls["POST /api/pull"] == 1


@pytest.mark.parametrize("answer", FOREIGN)
async def test_a_gateways_answer_to_a_refresh_leaves_the_model_in_use(w: World, answer):
    """It stays Ready, and the wish stands until the registry was asked."""
    w.ollama.publish("a:1b", MB)
    await w.apply("a", "a:1b")
    await w.ready("a")
    w.gateway.answer(FOREIGN[answer], "POST /api/pull", for_s=60)
    await w.patch("a", {"metadata": {"annotations": {"ollama.smithforge.dev/refresh": "now"}}})
    status = await w.until("a", lambda s: reason(s) == "RefreshFailed")
    assert condition(status, "Ready") == "True"
    status = await w.until("a", lambda s: s.get("lastHandledRefresh") == "now")
    assert condition(status, "Ready") == "True"


@pytest.mark.parametrize("answer", FOREIGN)
async def test_a_gateways_answer_to_a_load_says_nothing_of_the_model(w: World, answer):
    """It was seen whole and stays Ready; loading is tried again, ever more slowly."""
    w.gateway.answer(FOREIGN[answer], "POST /api/generate", "POST /api/embed", for_s=1800)
    w.ollama.publish("a:1b", MB)
    await w.apply("a", "a:1b", spec={"keepAlive": "-1"})
    status = await w.until("a", lambda s: reason(s) == "LoadFailed")
    assert condition(status, "Ready") == "True"
    await anyio.sleep(1790)
    assert w.gateway.calls["POST /api/generate"] < 20
    assert reason((await w.get("a"))["status"]) == "LoadFailed"
    await w.until("a", lambda s: s.get("loaded") is True, within_s=LONGEST_PAUSE_S + 60)


async def test_a_refusal_after_an_outage_is_no_proof_that_the_model_answers(w: World):
    """Nobody was looking meanwhile, so it is Ready only once Ollama has shown it."""
    w.ollama.publish("a:1b", MB)
    await w.apply("a", "a:1b")
    await w.ready("a")
    await outage(w, ["a"])
    w.gateway.answer(as_json(400, {"error": "no"}), "POST /api/show", for_s=60)
    status = await w.until("a", lambda s: reason(s) != "OllamaUnreachable")
    assert reason(status) == "ProtocolError"
    before = w.ollama.calls["POST /api/show"]
    await w.ready("a")
    assert w.ollama.calls["POST /api/show"] > before
