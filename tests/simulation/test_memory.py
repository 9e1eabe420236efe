"""What is in memory: who is kept there, who yields, and who is unloaded as a courtesy."""

from typing import Any

import anyio
import pytest

from crd.v1alpha1 import FORCE_DELETE, REFRESH
from support.virtual.gateway import FOREIGN, Answer, as_json, slow
from support.virtual.world import MB, Object, World, condition, reason

PS, LOAD, DELETE = "GET /api/ps", "POST /api/generate", "DELETE /api/delete"
NO_ROUTE = FOREIGN["404 text"]

# How a courtesy is answered that does not work, whatever the reason.
TROUBLE: dict[str, Answer] = {
    "404": NO_ROUTE,
    "503": FOREIGN["503"],
    "web page": FOREIGN["200 HTML"],
    "slow": slow(20),
    "never": slow(float("inf")),
}
BY_TROUBLE: Any = pytest.mark.parametrize("answer", TROUBLE.values(), ids=TROUBLE)


async def brought(w: World, name: str = "m", **spec: object) -> None:
    """Have a model Ready."""
    w.ollama.publish(f"{name}:1", MB, MB)
    await w.apply(name, f"{name}:1", spec=spec)
    await w.ready(name)


async def loaded(w: World, name: str = "m", **spec: object) -> None:
    """Have a model Ready and in memory, as its object wishes."""
    await brought(w, name, **({"keepAlive": "-1"} | spec))
    await w.until(name, lambda s: s.get("loaded") is True, within_s=5)


async def refresh(w: World) -> None:
    """Publish a new version, and ask for it."""
    w.ollama.publish("m:1", MB, MB, seed="new")
    await w.patch("m", {"metadata": {"annotations": {REFRESH: "now"}}})


def is_refreshed(status: Object) -> bool:
    """Return True once the wish is served."""
    return status.get("lastHandledRefresh") == "now"


# --- what cannot be loaded


@pytest.mark.parametrize("words", ["Not Found", "model 'm:1' not found"])
async def test_a_model_that_is_shown_is_not_doubted_for_a_load(w: World, words: str) -> None:
    """It stays Ready, and is loaded with a back-off, whoever it is that has none."""
    w.gateway.answer(as_json(404, {"error": words}), LOAD)
    await brought(w, keepAlive="-1")
    await w.until("m", lambda s: reason(s) == "LoadFailed")
    before = len(w.writes("m"))
    for _ in range(60):
        await anyio.sleep(60)
        assert condition((await w.get("m"))["status"], "Ready") == "True"
    assert len(w.writes("m")) - before < 20


# --- many at a time


async def test_many_that_go_at_once_share_what_is_asked_for_them(w: World) -> None:
    """60 deletions take a few lists of the disk and of the memory, and each model is unloaded."""
    names = [f"m{n}" for n in range(60)]
    for name in names:
        w.ollama.publish(f"{name}:1", MB)
        await w.apply(name, f"{name}:1")
    for name in names:
        await w.ready(name)
        await w.ollama_http.post("/api/generate", json={"model": f"{name}:1"})
    w.ollama.delay_s |= {"/api/ps": 0.01, "/api/tags": 0.01, "/api/delete": 0.01}
    w.ollama.calls.clear()
    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(w.delete, name)
    for name in names:
        await w.gone(name)
    assert w.ollama.calls[DELETE] == w.ollama.calls[LOAD] == len(names)
    assert w.ollama.calls[PS] + w.ollama.calls["GET /api/tags"] < len(names) / 2


async def test_who_stops_waiting_for_a_shared_answer_spoils_it_for_nobody(w: World) -> None:
    """Ollama is asked again on behalf of those who still wait."""
    w.ollama.publish("m:1", MB)
    w.ollama.publish("n:1", MB)
    for name in ("m", "n"):
        await w.apply(name, f"{name}:1")
        await w.ready(name)
    w.ollama.delay_s["/api/ps"] = 3
    await w.delete("m")
    await anyio.sleep(1)
    await w.delete("n")
    await w.patch("m", {"metadata": {"annotations": {FORCE_DELETE: "true"}}})
    await w.gone("m")
    await w.gone("n")
    assert w.ollama.models == {}


# --- a courtesy holds up nothing


@BY_TROUBLE
async def test_a_list_does_not_wait_for_what_is_in_memory(w: World, answer: Answer) -> None:
    """A loss is noticed and mended as soon as ever, whatever /api/ps and /api/version do."""
    await loaded(w)
    w.gateway.answer(answer, PS, "GET /api/version")
    await anyio.sleep(100)
    w.ollama.lose("m:1")
    await w.until("m", lambda s: reason(s) == "ModelLost", within_s=61)
    await w.ready("m", within_s=5)


@BY_TROUBLE
@pytest.mark.parametrize("routes", [(PS,), (LOAD,), (PS, LOAD)], ids=["ps", "unload", "both"])
async def test_a_refresh_and_a_deletion_do_not_wait_for_memory(
    w: World, answer: Answer, routes: tuple[str, ...]
) -> None:
    """Both end within 45 s, although the model is in memory and cannot be taken out of it."""
    await brought(w)
    await w.ollama_http.post("/api/generate", json={"model": "m:1"})
    w.gateway.answer(answer, *routes)
    await refresh(w)
    await w.until("m", is_refreshed, within_s=45)
    assert condition((await w.get("m"))["status"], "Ready") == "True"
    await w.delete("m")
    await w.gone("m", within_s=45)
    assert w.ollama.models == {}


async def test_what_may_stay_in_memory_is_told(w: World) -> None:
    """After two unloads that failed the deletion goes on, and an event says what that means."""
    await brought(w)
    await w.ollama_http.post("/api/generate", json={"model": "m:1"})
    w.gateway.answer(FOREIGN["503"], LOAD)
    await w.delete("m")
    await w.gone("m", within_s=10)
    assert w.gateway.answered[LOAD] == 2
    told = dict(await w.events())["UnloadFailed"]
    assert told.startswith("m:1 may stay in memory until Ollama unloads it or is restarted: ")
    assert "503" in told
    assert w.ollama.loaded == {"m:1"}


async def test_an_ollama_that_is_away_is_not_blamed_for_its_memory(w: World) -> None:
    """Nothing was deleted yet: the deletion waits, and tells of no model that stays in memory."""
    await loaded(w)
    w.ollama.is_down = True
    await w.delete("m")
    await w.until("m", lambda s: reason(s) == "DeletionBlocked", within_s=10)
    await anyio.sleep(100)
    w.ollama.is_down = False
    await w.gone("m", within_s=120)
    assert (w.ollama.models, w.ollama.loaded) == ({}, set())
    assert "UnloadFailed" not in dict(await w.events())


async def test_what_is_not_in_memory_is_not_unloaded(w: World) -> None:
    """A refresh and a deletion of a model that nobody uses send no unload, and tell of none."""
    await brought(w)
    await refresh(w)
    await w.until("m", is_refreshed, within_s=10)
    await w.delete("m")
    await w.gone("m", within_s=10)
    assert w.ollama.calls[LOAD] == 0
    assert "UnloadFailed" not in dict(await w.events())


async def test_one_unload_that_fails_is_tried_again(w: World) -> None:
    """Nothing is told then: the model is out of memory."""
    await brought(w)
    await w.ollama_http.post("/api/generate", json={"model": "m:1"})
    w.gateway.answer(FOREIGN["502 empty"], LOAD, times=1)
    await w.delete("m")
    await w.gone("m", within_s=10)
    assert w.ollama.loaded == set()
    assert "UnloadFailed" not in dict(await w.events())


# --- what is said of it


@pytest.mark.parametrize("answer", [NO_ROUTE, slow(20)], ids=["404", "slow"])
async def test_memory_that_is_not_seen_any_more_is_not_told_of(w: World, answer: Answer) -> None:
    """For two intervals what was seen counts; then nothing is said, until it is seen again."""
    await loaded(w)
    w.gateway.answer(answer, PS)
    await anyio.sleep(100)
    assert (await w.get("m"))["status"]["loaded"] is True
    status = await w.until("m", lambda s: "loaded" not in s, within_s=100)
    assert reason(status) == "Available"
    writes = len(w.writes("m"))
    await anyio.sleep(600)
    assert len(w.writes("m")) == writes
    w.gateway.let_through()
    await w.until("m", lambda s: s.get("loaded") is True, within_s=61)
    assert w.ollama.calls[LOAD] == 1


async def test_memory_is_not_told_of_while_ollama_is_away(w: World) -> None:
    """It may have been restarted, with nothing in memory."""
    await loaded(w)
    w.ollama.is_down = True
    await w.until("m", lambda s: reason(s) == "OllamaUnreachable", within_s=65)
    await w.until("m", lambda s: "loaded" not in s, within_s=121)


async def test_a_suspended_model_is_not_said_to_be_in_memory(w: World) -> None:
    """Nobody looks."""
    await loaded(w)
    await w.patch("m", {"spec": {"suspend": True}})
    status = await w.until("m", lambda s: reason(s) == "Suspended", within_s=5)
    assert "loaded" not in status


# --- a refresh unloads as late as it can, and only if it must


async def test_a_model_stays_in_memory_while_its_refresh_waits_for_a_slot(w: World) -> None:
    """It is unloaded as the download begins, and not before."""
    await brought(w)
    await w.ollama_http.post("/api/generate", json={"model": "m:1"})
    for i in range(4):
        w.ollama.publish(f"big{i}:1", 600 * MB)  # 60 s
        await w.apply(f"big{i}", f"big{i}:1")
    await w.until("big3", lambda s: s.get("state") == "Pulling", within_s=10)
    await refresh(w)
    await w.until("m", lambda s: reason(s) == "Refreshing", within_s=5)
    await anyio.sleep(20)
    assert w.ollama.loaded == {"m:1"}
    await w.until("m", is_refreshed, within_s=100)
    assert w.ollama.loaded == set()


async def test_a_refresh_that_finds_nothing_newer_unloads_nothing(w: World) -> None:
    """Every night, a model would be cold in the morning."""
    await brought(w)
    await w.ollama_http.post("/api/generate", json={"model": "m:1"})
    await w.patch("m", {"metadata": {"annotations": {REFRESH: "now"}}})
    await w.until("m", is_refreshed, within_s=10)
    assert w.ollama.loaded == {"m:1"}


async def test_a_refresh_that_fails_unloads_nothing(w: World) -> None:
    """A registry that is away would cost the model its place, with each try."""
    await brought(w)
    await w.ollama_http.post("/api/generate", json={"model": "m:1"})
    w.ollama.withdraw("m:1")
    await w.patch("m", {"metadata": {"annotations": {REFRESH: "now"}}})
    await w.until("m", lambda s: reason(s) == "RefreshFailed", within_s=10)
    await anyio.sleep(200)
    assert w.ollama.loaded == {"m:1"}


async def test_an_old_version_that_cannot_be_unloaded_any_more_is_told_of(w: World) -> None:
    """The new one was on the disk already, so there was no download before which to unload."""
    await brought(w)
    await w.ollama_http.post("/api/generate", json={"model": "m:1"})
    w.ollama.publish("m:1", MB, MB, seed="new")
    w.ollama.stock("m:1")
    await w.patch("m", {"metadata": {"annotations": {REFRESH: "now"}}})
    await w.until("m", is_refreshed, within_s=10)
    assert "m:1 may stay in memory" in dict(await w.events())["UnloadFailed"]


# --- a wish taken back, of several


async def test_a_model_that_another_object_keeps_is_not_unloaded(w: World) -> None:
    """Only the last one who takes back keepAlive takes the model out of memory."""
    await loaded(w)
    await w.apply("other", "m:1", spec={"keepAlive": "10m"})
    await w.until("other", lambda s: s.get("loaded") is True, within_s=5)
    calls = w.ollama.calls[LOAD]
    await w.patch("m", {"spec": {"keepAlive": None}})
    await w.until("m", lambda s: "loaded" not in s, within_s=5)
    assert (w.ollama.calls[LOAD], w.ollama.loaded) == (calls, {"m:1"})
    await w.patch("other", {"spec": {"keepAlive": None}})
    await w.until("other", lambda s: "loaded" not in s, within_s=5)
    assert w.ollama.loaded == set()


@pytest.mark.parametrize("how", ["shared", "retained"])
async def test_a_model_that_stays_on_the_server_does_not_stay_in_memory(w: World, how: str) -> None:
    """Nobody is left who wants it there for ever."""
    await loaded(w, deletionPolicy="Retain" if how == "retained" else "Delete")
    if how == "shared":
        await w.apply("other", "m:1")
        await w.ready("other")
    await w.delete("m")
    await w.gone("m", within_s=10)
    assert (set(w.ollama.models), w.ollama.loaded) == ({"m:1"}, set())


async def test_a_model_that_another_object_keeps_stays_in_memory(w: World) -> None:
    """Whoever goes does not take it from those who stay."""
    await loaded(w)
    await w.apply("other", "m:1", spec={"keepAlive": "-1"})
    await w.until("other", lambda s: s.get("loaded") is True, within_s=5)
    calls = w.ollama.calls[LOAD]
    await w.delete("m")
    await w.gone("m", within_s=10)
    assert (w.ollama.calls[LOAD], w.ollama.loaded) == (calls, {"m:1"})


# --- two that do not fit together


async def test_two_that_do_not_fit_together_take_turns_ever_more_slowly(w: World) -> None:
    """At most 12 loads in 2 h for both; both are Ready; the one that is out names the other."""
    w.ollama.room = 1
    for name in ("m", "n"):
        await brought(w, name, keepAlive="-1", interval="10s")
    seen = set[str]()
    for _ in range(120):
        await anyio.sleep(60)
        seen |= w.ollama.loaded
    assert seen == {"m:1", "n:1"}
    assert 4 <= w.ollama.calls[LOAD] <= 12
    statuses = {name: (await w.get(name))["status"] for name in ("m", "n")}
    assert {condition(status, "Ready") for status in statuses.values()} == {"True"}
    (out,) = [name for name, status in statuses.items() if reason(status) == "LoadFailed"]
    (other,) = {"m", "n"} - {out}
    assert f"{other}:1 came in" in statuses[out]["error"]
    assert statuses[out]["loaded"] is False
    assert statuses[other]["loaded"] is True


async def test_a_short_stay_does_not_shorten_the_pause(w: World) -> None:
    """At the end each waits for half an hour, though it was in memory for a while in between."""
    w.ollama.room = 1
    for name in ("m", "n"):
        await brought(w, name, keepAlive="-1")
    await anyio.sleep(6 * 3600)
    before = w.ollama.calls[LOAD]
    await anyio.sleep(6 * 3600)
    assert 8 <= w.ollama.calls[LOAD] - before <= 12  # one after the other, half an hour each


async def test_models_that_fit_again_are_both_loaded(w: World) -> None:
    """Nothing is held against them once there is room."""
    w.ollama.room = 1
    for name in ("m", "n"):
        await brought(w, name, keepAlive="-1")
    await anyio.sleep(7200)
    w.ollama.room = 2
    for name in ("m", "n"):
        await w.until(name, lambda s: s.get("loaded") is True, within_s=2400)
        await w.until(name, lambda s: reason(s) == "Available", within_s=5)
    before = w.ollama.calls[LOAD]
    await anyio.sleep(7200)
    assert w.ollama.calls[LOAD] == before
