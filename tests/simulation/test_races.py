"""What happens between two looks: changes, losses and outages in the middle of something."""

import anyio

from crd.v1alpha1 import REFRESH
from ollama_op.sandbox.kube.server import ApiFault
from ollama_op.sandbox.ollama.pulls import PullTrouble
from support.virtual.world import MB, Object, World, condition, reason

FULL = PullTrouble(error="no space left on device")


async def ready(w: World, **models: str) -> None:
    """Publish and apply models, each by its object's name, and see them Ready."""
    for name, model in models.items():
        w.ollama.publish(model, MB, MB)
        await w.apply(name, model)
    for name in models:
        await w.ready(name)


async def outage(w: World) -> None:
    """Take Ollama away, for long enough to be noticed."""
    w.ollama.is_down = True
    await anyio.sleep(130)


async def called(w: World, call: str, times: int) -> None:
    """Wait until Ollama was asked something so often."""
    while w.ollama.calls[call] < times:  # noqa: ASYNC110 - a counter has no event
        await anyio.sleep(0.1)


async def refresh(w: World, name: str) -> None:
    """Ask for a refresh by a token."""
    await w.patch(name, {"metadata": {"annotations": {REFRESH: "now"}}})


async def test_an_outage_may_last_for_days(w: World) -> None:
    """However often the probes have failed, the next one that succeeds is taken up."""
    await ready(w, m="m:1")
    w.ollama.is_down = True
    await anyio.sleep(18 * 3600)
    w.ollama.is_down = False
    await w.ready("m", within_s=90)


async def test_a_blocked_deletion_wakes_when_ollama_is_back(w: World) -> None:
    """Also that of an object whose spec names no model any more."""
    await ready(w, m="m:1")
    await w.patch("m", {"spec": {"name": "bad name"}})
    await w.until("m", lambda s: reason(s) == "InvalidName")
    await outage(w)
    await w.delete("m")
    await w.until("m", lambda s: reason(s) == "DeletionBlocked")
    w.ollama.is_down = False
    await w.gone("m", within_s=120)
    assert w.ollama.models == {}


async def test_who_takes_a_model_over_in_an_outage_answers_for_it(w: World) -> None:
    """A leaves a model to b; when b goes as well, before it was seen there, the model goes too."""
    await ready(w, a="m:1", b="x:1")
    await outage(w)
    await w.patch("b", {"spec": {"name": "m"}})
    await anyio.sleep(5)
    await w.delete("a")
    await w.gone("a", within_s=60)
    await w.delete("b")
    w.ollama.is_down = False
    await w.gone("b", within_s=120)
    assert w.ollama.models == {}


async def test_who_gives_a_model_back_up_takes_it_away(w: World) -> None:
    """The same, where b turns to another model instead of going."""
    await ready(w, a="m:1", b="x:1")
    await outage(w)
    await w.patch("b", {"spec": {"name": "m"}})
    await anyio.sleep(5)
    await w.delete("a")
    await w.gone("a", within_s=60)
    await w.patch("b", {"spec": {"name": "x"}})
    w.ollama.is_down = False
    await w.ready("b")
    await anyio.sleep(5)
    assert set(w.ollama.models) == {"x:1"}


async def test_a_model_left_to_another_object_is_not_waited_for(w: World) -> None:
    """Turning away from a model that somebody else downloads takes no longer than from any."""
    w.ollama.publish("m:1", 100_000 * MB)
    w.ollama.publish("m:2", MB)
    await w.apply("y", "m:1")
    await w.apply("x", "m:1")
    await anyio.sleep(5)
    await w.patch("x", {"spec": {"tag": "2"}})
    await w.until("x", lambda s: s.get("state") == "Ready" and s["model"] == "m:2")
    await w.delete("x")
    await w.gone("x", within_s=30)


async def test_one_repair_serves_all_objects_of_a_model(w: World) -> None:
    """Two objects find their model broken; it is pulled once, and not deleted."""
    w.ollama.publish("odd:1", MB, MB)
    w.ollama.preload("odd:1")
    w.ollama.break_blob("odd:1")
    for name in "ab":
        await w.apply(name, "odd:1")
    for name in "ab":
        await w.ready(name)
    await anyio.sleep(60)
    calls = w.ollama.calls
    assert (calls["DELETE /api/delete"], calls["POST /api/pull"]) == (0, 1)


async def test_ready_never_speaks_of_the_name_before(w: World) -> None:
    """A look at the old model that ends after the spec has changed says nothing of the new one."""
    w.ollama.publish("m:1", MB)
    w.ollama.preload("m:1")
    w.ollama.publish("m:2", 100 * MB)
    w.ollama.delay_s["/api/show"] = 5
    await w.apply("m", "m:1")
    await anyio.sleep(2)
    await w.patch("m", {"spec": {"tag": "2"}})
    wrong = []

    def note(status: Object) -> bool:
        if condition(status, "Ready") == "True" and status["model"] != "m:2":
            wrong.append(status)
        return status.get("model") == "m:2" and status["state"] == "Ready"

    await w.until("m", note)
    assert wrong == []


async def test_the_end_of_an_old_pull_does_not_stall_the_new_spec(w: World) -> None:
    """A final failure that comes while the spec changes is nothing to the model named now."""
    w.ollama.publish("m:1", 100 * MB)
    w.ollama.publish("m:2", MB)
    unknown = "pull model manifest: file does not exist"
    w.ollama.trouble("m:1", PullTrouble(error=unknown, after_bytes=60 * MB))
    slow = ApiFault(code=500, delay_s=3, done=True)
    w.kube.intercept = lambda r: (
        slow if r.path.endswith("status") and 4.5 < anyio.current_time() < 7 else None
    )
    await w.apply("m", "m:1")
    await anyio.sleep(6.8)
    await w.patch("m", {"spec": {"tag": "2"}})
    await w.until("m", lambda s: s.get("model") == "m:2" and s["state"] == "Ready", within_s=60)


async def test_a_model_lost_while_a_refresh_waits_is_not_called_ready(w: World) -> None:
    """What was said of the old version ends with it, whenever the next try is due."""
    await ready(w, m="m:1")
    w.ollama.trouble("m:1", FULL)
    await refresh(w, "m")
    await w.until("m", lambda s: reason(s) == "RefreshFailed")
    w.ollama.lose("m:1")
    await anyio.sleep(70)
    status = (await w.get("m"))["status"]
    assert condition(status, "Ready") != "True" or "m:1" in w.ollama.models


async def test_an_outage_that_is_over_is_not_spoken_of(w: World) -> None:
    """Also not while a refresh that failed before it waits for its next try."""
    await ready(w, m="m:1")
    w.ollama.trouble("m:1", *[FULL] * 50)
    await refresh(w, "m")
    await w.until("m", lambda s: reason(s) == "RefreshFailed")
    await outage(w)
    w.ollama.is_down = False
    await anyio.sleep(90)
    assert condition((await w.get("m"))["status"], "Ready") == "True"


async def test_a_stray_404_is_not_the_end(w: World) -> None:
    """A write that is answered as if the object were gone is tried again."""
    faults = iter([ApiFault(code=404, reason="NotFound")])
    w.kube.intercept = lambda r: next(faults, None) if r.method == "PATCH" else None
    await ready(w, m="m:1")


async def test_a_refresh_that_breaks_the_model_is_no_refresh_that_failed(w: World) -> None:
    """There is no old version in use then: Ready is false, and the model is brought anew."""
    await ready(w, m="m:1")
    w.ollama.delay_s["/api/show"] = 3
    await refresh(w, "m")
    await called(w, "POST /api/show", 2)
    w.ollama.break_blob("m:1")
    status = await w.until("m", lambda s: bool(s.get("attempts")))
    assert (condition(status, "Ready"), reason(status)) == ("Unknown", "VerificationFailed")
    await w.ready("m")


async def test_a_spec_that_turns_back_keeps_its_model(w: World) -> None:
    """A model on its way out is kept if it is wanted again right before it would go."""
    await ready(w, m="m:1")
    w.ollama.publish("m:2", MB)
    w.ollama.delay_s["/api/ps"] = 3
    await w.patch("m", {"spec": {"tag": "2"}})
    await called(w, "GET /api/ps", 1)
    await w.patch("m", {"spec": {"tag": "1"}})
    await w.until("m", lambda s: s.get("model") == "m:1" and s["state"] == "Ready")
    await anyio.sleep(10)
    assert w.ollama.calls["POST /api/pull"] == 2


async def test_an_object_that_comes_at_the_last_moment_saves_its_model(w: World) -> None:
    """Between the decision to delete and the deletion, a new object still counts."""
    await ready(w, a="m:1")
    w.ollama.delay_s["/api/ps"] = 5
    await w.delete("a")
    await anyio.sleep(1)
    await w.apply("b", "m:1")
    await w.ready("b")
    await anyio.sleep(30)
    assert w.ollama.calls["POST /api/pull"] == 1


async def test_another_spelling_is_no_other_model(w: World) -> None:
    """A name that changes in case only is owned once."""
    await ready(w, m="m:1")
    await w.patch("m", {"spec": {"name": "M"}})
    await w.until("m", lambda s: s["model"] == "M:1")
    await anyio.sleep(5)
    assert len((await w.get("m"))["status"]["ownedModels"]) == 1
    assert w.ollama.calls["POST /api/pull"] == 1


async def test_a_model_that_is_lost_during_its_refresh_is_not_called_ready(w: World) -> None:
    """The old version stays in use only as long as it is there, however long the refresh takes."""
    await ready(w, m="m:1")
    w.ollama.publish("m:1", MB, MB, seed="new")
    w.ollama.trouble("m:1", PullTrouble(stall_s=3600))
    await refresh(w, "m")
    await w.until("m", lambda s: reason(s) == "Refreshing")
    w.ollama.lose("m:1")
    status = await w.until("m", lambda s: condition(s, "Ready") != "True", within_s=70)
    assert reason(status) == "ModelLost"
    status = await w.until("m", lambda s: s.get("state") == "Failed")
    assert reason(status) == "PullStalled"
    await w.ready("m")
