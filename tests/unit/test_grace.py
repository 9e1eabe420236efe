"""A grace after a deletion: an object made anew takes the model over; nothing stays for good."""

import json
from collections.abc import AsyncGenerator

import anyio
import pytest
from structlog.testing import capture_logs

from crd.markers import MARKER_NAMESPACE, Marker
from crd.names import ModelName
from crd.placement import DEFAULT_SERVER
from crd.v1alpha1 import FORCE_DELETE
from ollama_op.sandbox.http import SandboxRequest
from support.virtual.gateway import FOREIGN
from support.virtual.world import MB, World, condition, reason, world

GRACE_S = 600
COPY, DELETE, PULL = "POST /api/copy", "DELETE /api/delete", "POST /api/pull"


@pytest.fixture
async def g() -> AsyncGenerator[World]:
    """Build a world whose operator runs with a grace."""
    async with world(deletion_grace_s=GRACE_S) as it:
        it.start()
        yield it


async def brought(w: World, model: str = "m:1", **spec: object) -> str:
    """Have a model Ready by an object `m`; return its digest."""
    digest = w.ollama.publish(model, 20 * MB, MB)
    await w.apply("m", model, spec=spec)
    await w.ready("m")
    return digest


async def removed(w: World) -> None:
    """Delete the object, and wait until it is gone."""
    await w.delete("m")
    await w.gone("m", within_s=5)


def kept(w: World) -> list[str]:
    """List the models that are kept under the name of a marker."""
    return [name for name in w.ollama.models if name.startswith(MARKER_NAMESPACE)]


def plainly(w: World) -> list[str]:
    """List the models that are there under their own name."""
    return [name for name in w.ollama.models if not name.startswith(MARKER_NAMESPACE)]


def heard(w: World) -> list[str]:
    """Note each call of Ollama that changes something, from now on, with its model."""
    calls: list[str] = []

    def overhear(request: SandboxRequest) -> None:
        if request.method != "GET" and request.path != "/api/show":
            body = json.loads(request.body)
            calls.append(f"{request.path} {body.get('model') or body['source']}")

    w.ollama.overhear = overhear
    return calls


async def dies_at(w: World, path: str, *, after: bool) -> None:
    """Kill the operator at its next call of `path`, and start another one a second later."""
    died = anyio.Event()

    def overhear(request: SandboxRequest) -> None:
        if request.path == path and not died.is_set():
            died.set()
            if not after:
                w.kill()
                raise ConnectionResetError

    w.ollama.overhear = overhear
    await w.delete("m")
    await died.wait()
    await w.stop()
    w.ollama.overhear = lambda _: None
    assert ("m:1" in w.ollama.models) is not after
    await anyio.sleep(1)
    w.start()


# --- made anew in time


async def test_an_object_made_anew_takes_the_model_over(g: World) -> None:
    """Without a download, with the same digest, and told; then nothing is kept any more."""
    digest = await brought(g)
    await removed(g)
    assert plainly(g) == []
    assert list(g.ollama.models.values()) == [digest]
    pulls = g.ollama.calls[PULL]
    await g.apply("m", "m:1")
    status = await g.ready("m", within_s=5)
    assert g.ollama.calls[PULL] == pulls
    assert status["digest"] == digest
    assert status["origin"] == "Adopted"
    assert "lastPullTime" not in status
    assert g.ollama.models == {"m:1": digest}
    reasons = [reason for reason, _ in await g.events()]
    assert "TakenOver" in reasons


async def test_the_object_goes_at_once(g: World) -> None:
    """Whoever makes it anew waits for that; the event says until when the model can be had."""
    await brought(g)
    await removed(g)
    message = dict(await g.events())["Deleted"]
    assert message.startswith("m:1 is gone from Ollama; an object made anew can take it over until")


async def test_another_spelling_in_another_namespace_is_the_same_model(g: World) -> None:
    """What is taken over is a model, whoever had it."""
    await brought(g)
    await removed(g)
    await g.apply("other", "M:1", namespace="elsewhere")
    await g.until("other", lambda s: reason(s) == "Available", namespace="elsewhere")
    assert g.ollama.calls[PULL] == 1
    assert kept(g) == []


async def test_another_model_takes_nothing_over(g: World) -> None:
    """A marker is for one name."""
    await brought(g)
    g.ollama.publish("m:2", MB)
    await removed(g)
    await g.apply("m", "m:2")
    await g.ready("m")
    assert g.ollama.calls[PULL] == 2
    assert len(kept(g)) == 1


async def test_it_can_be_made_anew_again_and_again(g: World) -> None:
    """Each deletion has the whole grace."""
    await brought(g)
    for _ in range(3):
        await removed(g)
        await anyio.sleep(GRACE_S - 60)
        await g.apply("m", "m:1")
        await g.ready("m", within_s=5)
    assert g.ollama.calls[PULL] == 1
    assert kept(g) == []


# --- not made anew


async def test_when_the_grace_is_over_nothing_is_left(g: World) -> None:
    """At the deadline, not an interval later: neither model nor marker."""
    await brought(g)
    await removed(g)
    await anyio.sleep(GRACE_S - 5)
    assert len(kept(g)) == 1
    await anyio.sleep(10)
    assert g.ollama.models == {}
    await g.apply("m", "m:1")
    await g.ready("m")
    assert g.ollama.calls[PULL] == 2


async def test_a_deadline_in_an_outage_is_kept_after_it(g: World) -> None:
    """The marker goes once Ollama answers again."""
    await brought(g)
    await removed(g)
    g.ollama.is_down = True
    await anyio.sleep(GRACE_S + 60)
    g.ollama.is_down = False
    await anyio.sleep(61)
    assert g.ollama.models == {}


async def test_a_deletion_of_the_marker_that_fails_is_tried_with_each_list(g: World) -> None:
    """And not all the time."""
    await brought(g)
    await removed(g)
    g.gateway.answer(FOREIGN["200 empty"], "/api/delete")  # it says so, and does nothing
    await anyio.sleep(GRACE_S + 300)
    assert 2 <= g.gateway.answered[DELETE] <= 12
    g.gateway.let_through()
    await anyio.sleep(61)
    assert g.ollama.models == {}


# --- crashes


async def test_a_crash_between_copy_and_deletion_makes_one_marker(g: World) -> None:
    """The next operator sees the marker, and goes on with the deletion."""
    await brought(g)
    await dies_at(g, "/api/delete", after=False)
    await g.gone("m", within_s=10)
    assert plainly(g) == []
    assert len(kept(g)) == 1
    assert g.ollama.calls[COPY] == 1
    await anyio.sleep(GRACE_S + 60)
    assert g.ollama.models == {}


async def test_a_crash_between_deletion_and_release_loses_nothing(g: World) -> None:
    """The model is gone, the marker is there, and the object goes."""
    await brought(g)
    await dies_at(g, "/api/delete", after=True)
    await g.gone("m", within_s=10)
    assert plainly(g) == []
    assert len(kept(g)) == 1
    await g.apply("m", "m:1")
    await g.ready("m", within_s=5)
    assert g.ollama.calls[PULL] == 1


async def test_a_restart_in_the_grace_forgets_nothing(g: World) -> None:
    """What is kept is in Ollama's list: it is taken over, or goes at its deadline."""
    await brought(g)
    await removed(g)
    await g.stop()
    await anyio.sleep(60)
    g.start()
    await anyio.sleep(1)
    await g.apply("m", "m:1")
    await g.ready("m", within_s=5)
    assert g.ollama.calls[PULL] == 1
    await removed(g)
    await g.stop()
    g.start()
    await anyio.sleep(GRACE_S + 5)
    assert g.ollama.models == {}


async def test_a_restart_after_the_deadline_removes_the_marker_at_once(g: World) -> None:
    """Nobody has to wait for a list that comes an interval later."""
    await brought(g)
    await removed(g)
    await g.stop()
    await anyio.sleep(GRACE_S + 60)
    g.start()
    await anyio.sleep(5)
    assert g.ollama.models == {}


async def test_a_crash_in_the_taking_over_costs_no_download(g: World) -> None:
    """The name is back and the marker still there: it goes at its deadline, the model stays."""
    digest = await brought(g)
    await removed(g)
    marker = kept(g)[0]
    await g.stop()
    await g.ollama_http.post("/api/copy", json={"source": marker, "destination": "m:1"})
    g.start()
    await g.apply("m", "m:1")
    await g.ready("m", within_s=5)
    await anyio.sleep(GRACE_S + 60)
    assert g.ollama.models == {"m:1": digest}
    assert g.ollama.is_whole("m:1")
    assert g.ollama.calls[PULL] == 1


# --- without a grace


async def test_without_a_grace_nothing_is_different(w: World) -> None:
    """The same calls, in the same order."""
    await brought(w)
    calls = heard(w)
    await removed(w)
    assert calls == ["/api/delete m:1"]
    assert w.ollama.models == {}
    await w.apply("m", "m:1")
    await w.ready("m")
    assert calls == ["/api/delete m:1", "/api/pull m:1"]


async def test_what_an_earlier_setting_left_goes_at_its_deadline(g: World) -> None:
    """Also when the grace is 0 by then."""
    await brought(g)
    await removed(g)
    await g.stop()
    g.settings = type(g.settings)(deletion_grace_s=0)
    g.start()
    await anyio.sleep(60)
    assert len(kept(g)) == 1
    await anyio.sleep(GRACE_S)
    assert g.ollama.models == {}


# --- what has no grace


async def test_force_keeps_nothing(g: World) -> None:
    """Whoever forces a deletion wants it over."""
    await brought(g)
    await g.patch("m", {"metadata": {"annotations": {FORCE_DELETE: "true"}}})
    await removed(g)
    assert g.ollama.models == {}


async def test_retain_needs_no_grace(g: World) -> None:
    """The model stays under its own name."""
    await brought(g, deletionPolicy="Retain")
    await removed(g)
    assert plainly(g) == ["m:1"]
    assert kept(g) == []


async def test_a_model_that_others_name_is_not_kept_apart(g: World) -> None:
    """It stays as it is; only the last one to go leaves a marker."""
    await brought(g)
    await g.apply("other", "m:1")
    await g.ready("other")
    await removed(g)
    assert g.ollama.calls[COPY] == 0
    await g.delete("other")
    await g.gone("other", within_s=5)
    assert len(kept(g)) == 1


async def test_what_a_change_of_the_spec_leaves_behind_goes_at_once(g: World) -> None:
    """Nobody makes that anew."""
    await brought(g)
    g.ollama.publish("m:2", MB)
    await g.patch("m", {"spec": {"tag": "2"}})
    await g.until("m", lambda s: s.get("ownedModels") == ["m:2"])
    assert set(g.ollama.models) == {"m:2"}


async def test_a_cloud_model_goes_at_once(g: World) -> None:
    """It is a stub of a few bytes."""
    g.ollama.run_elsewhere("m:1")
    await brought(g)
    await removed(g)
    assert g.ollama.models == {}


# --- what goes wrong


@pytest.mark.parametrize("kind", ["403 HTML", "404 text", "200 HTML"])
async def test_where_copies_are_refused_the_model_is_removed(g: World, kind: str) -> None:
    """By a gateway, say: the deletion ends without a grace, and one line of the log says why."""
    await brought(g)
    g.gateway.answer(FOREIGN[kind], "/api/copy")
    with capture_logs() as logs:
        await removed(g)
    assert g.ollama.models == {}
    told = [line for line in logs if line["event"] == "model not kept, removed at once"]
    assert [line["log_level"] for line in told] == ["warning"]


async def test_a_kept_model_that_cannot_be_shown_is_pulled_afresh(g: World) -> None:
    """Deleting and making anew is how people mend a model: what is broken does not come back."""
    digest = await brought(g)
    await removed(g)
    g.ollama.spoil(kept(g)[0])
    await g.apply("m", "m:1")
    await g.ready("m")
    assert g.ollama.models == {"m:1": digest}
    assert g.ollama.is_whole("m:1")
    assert g.ollama.calls[PULL] == 2


async def test_what_is_loaded_is_unloaded_all_the_same(g: World) -> None:
    """Nobody asks for it any more."""
    await brought(g)
    await g.ollama_http.post("/api/generate", json={"model": "m:1"})
    await removed(g)
    assert g.ollama.loaded == set()


# --- names


async def test_no_object_has_a_marker_for_its_model(g: World) -> None:
    """It would be gone at its deadline; the status says what that name is."""
    await brought(g)
    await removed(g)
    path, _, tag = kept(g)[0].partition(":")
    await g.apply("thief", f"{path}:{tag}")
    status = await g.until("thief", lambda s: reason(s) == "InvalidName")
    assert "--deletion-grace" in condition(status, "Ready", "message")


async def test_a_plan_shows_no_marker(g: World) -> None:
    """It is no model that nobody manages."""
    await brought(g)
    await removed(g)
    assert g.health.engine is not None
    assert len(g.health.engine.servers[DEFAULT_SERVER].monitor.now.models) == 1
    assert g.health.engine.servers.listed() == {}


@pytest.mark.parametrize(
    "text", [f"{MARKER_NAMESPACE}/m:1", f"{MARKER_NAMESPACE}/{'a' * 32}:latest", "m:1"]
)
def test_what_only_looks_like_a_marker_is_none(text: str) -> None:
    """A model that somebody else has put there is nobody's to delete."""
    assert Marker.read(ModelName.parse(text)) is None


def test_a_marker_can_be_read_from_its_name() -> None:
    """For any spelling of the model, and however far away the deadline is."""
    marker = Marker.of(ModelName.parse("M:1"), 10**15)
    assert Marker.read(ModelName.parse(str(marker.name))) == marker
    assert marker == Marker.of(ModelName.parse("registry.ollama.ai/library/m:1"), 10**15)
