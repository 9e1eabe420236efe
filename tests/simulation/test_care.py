"""The optional half of a spec at work: how a model is cared for while it is there."""

from datetime import UTC, datetime, timedelta

import anyio
import pytest

from crd.v1alpha1 import FINALIZER, FORCE_DELETE, REFRESH
from ollama_op.sandbox.ollama.pulls import PullTrouble
from support.virtual.world import MB, START, Object, World, condition, reason


async def brought(w: World, spec: Object | None = None, *, model: str = "m:1") -> Object:
    """Publish a model, apply it with this care as `m`, and see it Ready."""
    w.ollama.publish(model, MB, MB)
    await w.apply("m", model, spec=spec)
    return await w.ready("m")


async def care(w: World, **spec: object) -> None:
    """Change how `m` is cared for; None takes a wish away."""
    await w.patch("m", {"spec": spec})


def at(status: Object, field: str) -> float:
    """Return a time in a status as virtual seconds."""
    return (datetime.fromisoformat(status[field]) - START).total_seconds()


# --- suspend


async def test_a_suspended_model_is_left_as_it_is(w: World) -> None:
    """Ready keeps its word under another reason; a loss is neither seen nor mended."""
    await brought(w)
    await care(w, suspend=True)
    status = await w.until("m", lambda s: reason(s) == "Suspended")
    assert (status["state"], condition(status, "Ready")) == ("Ready", "True")
    assert condition(status, "Stalled") is condition(status, "Reconciling") is None
    assert status["observedGeneration"] == 2
    w.ollama.lose("m:1")
    await anyio.sleep(3600)
    assert w.ollama.models == {}
    assert reason((await w.get("m"))["status"]) == "Suspended"


async def test_a_resumed_model_is_looked_at_anew(w: World) -> None:
    """What was lost meanwhile comes back; what was not is shown once more, and not pulled."""
    await brought(w)
    for times, is_lost in ((1, False), (2, True)):
        await care(w, suspend=True)
        await w.until("m", lambda s: reason(s) == "Suspended")
        if is_lost:
            w.ollama.lose("m:1")
        await anyio.sleep(100)
        await care(w, suspend=False)
        await w.until("m", lambda s: reason(s) == "Available", within_s=5)
        assert w.ollama.calls["POST /api/pull"] == times
    assert {"Suspended", "Resumed", "ModelLost"} <= dict(await w.events()).keys()


async def test_nothing_is_touched_for_a_model_that_is_suspended_from_the_start(w: World) -> None:
    """Ollama is not even asked; and who waits by kstatus is told that it would be in vain."""
    w.ollama.publish("m:1", MB)
    await w.apply("m", "m:1", spec={"suspend": True})
    status = await w.until("m", lambda s: reason(s) == "Suspended")
    await anyio.sleep(600)
    assert (status["state"], condition(status, "Ready")) == ("Pending", "Unknown")
    assert condition(status, "Stalled") == "True"
    assert w.ollama.calls["POST /api/pull"] == 0
    await care(w, suspend=None)
    await w.ready("m", within_s=5)


async def test_suspension_ends_a_pull_and_its_part_is_kept(w: World) -> None:
    """The pull goes on from there when the pause is over."""
    w.ollama.publish("m:1", 100 * MB)  # 10 s
    await w.apply("m", "m:1")
    await anyio.sleep(6)
    await care(w, suspend=True)
    status = await w.until("m", lambda s: reason(s) == "Suspended")
    assert w.ollama.pulls == 0
    assert "progress" not in status
    await anyio.sleep(60)
    await care(w, suspend=False)
    await w.ready("m", within_s=5)


async def test_ready_never_speaks_of_a_name_that_was_changed_during_a_pause(w: World) -> None:
    """A suspended object whose spec names another model is not Ready for it."""
    await brought(w)
    await care(w, suspend=True)
    await w.until("m", lambda s: reason(s) == "Suspended")
    await care(w, tag="2")
    status = await w.until("m", lambda s: s["observedGeneration"] == 3)
    assert (condition(status, "Ready"), condition(status, "Stalled")) == ("Unknown", "True")
    await care(w, tag="1", expectedDigest="0" * 64)
    status = await w.until("m", lambda s: s["observedGeneration"] == 4)
    assert condition(status, "Ready") == "Unknown"


async def test_a_suspended_model_can_be_deleted(w: World) -> None:
    """A pause is no protection: what was brought is removed."""
    await brought(w)
    await care(w, suspend=True)
    await w.until("m", lambda s: reason(s) == "Suspended")
    await w.delete("m")
    await w.gone("m", within_s=5)
    assert w.ollama.models == {}


async def test_a_suspended_object_still_needs_its_model(w: World) -> None:
    """Another object of the same model that goes does not take it along."""
    await brought(w)
    await w.apply("other", "m:1")
    await w.ready("other")
    await care(w, suspend=True)
    await w.until("m", lambda s: reason(s) == "Suspended")
    await w.delete("other")
    await w.gone("other", within_s=5)
    assert "m:1" in w.ollama.models


async def test_a_suspended_object_answers_for_what_others_left_to_it(w: World) -> None:
    """It never pulled the model; but as the last one to name it, it takes it along."""
    await brought(w)
    await w.apply("paused", "m:1", spec={"suspend": True})
    await w.until("paused", lambda s: reason(s) == "Suspended")
    await w.delete("m")
    await w.gone("m", within_s=5)
    assert "m:1" in w.ollama.models
    await w.delete("paused")
    await w.gone("paused", within_s=5)
    assert w.ollama.models == {}


# --- deletionPolicy


async def test_a_retained_model_stays(w: World) -> None:
    """The object goes at once, whatever Ollama is doing; the event says what stays."""
    await brought(w, {"deletionPolicy": "Retain"})
    w.ollama.is_down = True
    await w.delete("m")
    await w.gone("m", within_s=5)
    assert "m:1" in w.ollama.models
    assert "m:1 stays on Ollama" in dict(await w.events())["Retained"]


async def test_a_retained_model_stays_when_the_spec_moves_on(w: World) -> None:
    """Retain holds for the model before a change as well; nothing is left to remove later."""
    await brought(w, {"deletionPolicy": "Retain"})
    w.ollama.publish("m:2", MB)
    await care(w, tag="2")
    await w.until("m", lambda s: s.get("ownedModels") == ["m:2"])
    await care(w, deletionPolicy="Delete")
    await w.delete("m")
    await w.gone("m", within_s=5)
    assert w.ollama.models.keys() == {"m:1"}


# --- sharing


async def test_each_object_says_with_how_many_it_shares(w: World) -> None:
    """The count follows those who come and go, in any namespace and spelling."""
    await brought(w)
    assert "sharedWith" not in (await w.get("m"))["status"]
    await w.apply("two", "M:1", namespace="other")
    await w.apply("three", "m:1")
    await w.until("m", lambda s: s.get("sharedWith") == 2, within_s=5)
    await w.until("three", lambda s: s.get("sharedWith") == 2, within_s=5)
    await w.delete("three")
    await w.until("m", lambda s: s.get("sharedWith") == 1, within_s=5)
    await w.delete("two", namespace="other")
    await w.until("m", lambda s: "sharedWith" not in s, within_s=5)
    assert "another OllamaModel names it" in dict(await w.events())["Deleted"]


async def test_where_a_model_came_from_is_told(w: World) -> None:
    """Adopted: it was there before. Pulled: it was not; also if another object brought it."""
    w.ollama.publish("there:1", MB)
    w.ollama.preload("there:1")
    await w.apply("there", "there:1")
    assert (await w.ready("there"))["origin"] == "Adopted"
    w.ollama.publish("m:1", 50 * MB)
    await w.apply("m", "m:1")
    await w.apply("second", "m:1")
    assert (await w.ready("m"))["origin"] == (await w.ready("second"))["origin"] == "Pulled"


async def test_an_adopted_model_that_was_lost_is_a_pulled_one(w: World) -> None:
    """The word is about the model that is there now."""
    w.ollama.publish("m:1", MB)
    w.ollama.preload("m:1")
    await w.apply("m", "m:1")
    await w.ready("m")
    w.ollama.lose("m:1")
    await w.until("m", lambda s: s.get("origin") == "Pulled", within_s=70)


# --- interval


async def test_an_interval_of_its_own_finds_a_loss_sooner(w: World) -> None:
    """The shortest interval of all models is the server's; it ends with its object."""
    await brought(w, {"interval": "5s"})
    w.ollama.lose("m:1")
    await w.until("m", lambda s: reason(s) != "Available", within_s=6)
    await w.ready("m")
    before = w.ollama.calls["GET /api/tags"]
    await anyio.sleep(60)
    assert 10 <= w.ollama.calls["GET /api/tags"] - before <= 13
    await w.delete("m")
    await w.gone("m")
    await anyio.sleep(10)
    before = w.ollama.calls["GET /api/tags"]
    await anyio.sleep(600)
    assert w.ollama.calls["GET /api/tags"] - before <= 11


async def test_a_short_interval_counts_from_the_moment_it_is_wished(w: World) -> None:
    """It does not wait for the end of a longer one."""
    await brought(w)
    await care(w, interval="2s")
    w.ollama.lose("m:1")
    await w.until("m", lambda s: reason(s) != "Available", within_s=3)


# --- refreshInterval, refreshWindow


async def test_a_model_is_refreshed_on_schedule(w: World) -> None:
    """After each interval, up to a tenth later; the status says when the next one is due."""
    status = await brought(w, {"refreshInterval": "1h"})
    due = at(status, "nextRefreshTime")
    assert 3600 <= due - at(status, "lastPullTime") <= 3960
    digest = w.ollama.publish("m:1", MB, MB, seed="new")
    await anyio.sleep(due - anyio.current_time() - 2)
    assert w.ollama.calls["POST /api/pull"] == 1
    await w.until("m", lambda s: s.get("digest") == digest, within_s=10)
    await anyio.sleep(3 * 3960)
    assert w.ollama.calls["POST /api/pull"] == 5
    events = dict(await w.events())
    assert {"RefreshStarted", "RefreshCompleted"} <= events.keys()


async def test_a_scheduled_refresh_waits_for_the_window(w: World) -> None:
    """Due at any time, it begins when the window opens, in the window's own time zone."""
    window = {"schedule": "0 3 * * *", "duration": "2h", "timeZone": "Europe/Berlin"}
    status = await brought(w, {"refreshInterval": "1h", "refreshWindow": window})
    assert status["nextRefreshTime"] == "2026-01-01T02:00:00Z"
    await anyio.sleep(2 * 3600 - 60)
    assert w.ollama.calls["POST /api/pull"] == 1
    await anyio.sleep(70)
    assert w.ollama.calls["POST /api/pull"] == 2


async def test_a_scheduled_refresh_that_fails_keeps_the_old_version(w: World) -> None:
    """It is tried again like any other, and stays due until it succeeds."""
    status = await brought(w, {"refreshInterval": "1h"})
    w.ollama.trouble("m:1", PullTrouble(error="max retries exceeded: EOF"))
    await anyio.sleep(at(status, "nextRefreshTime") - anyio.current_time())
    status = await w.until("m", lambda s: reason(s) == "RefreshFailed", within_s=10)
    assert condition(status, "Ready") == "True"
    await w.until("m", lambda s: reason(s) == "Available", within_s=10)


async def test_a_scheduled_refresh_that_is_refused_waits_for_the_next_one(w: World) -> None:
    """A model that no registry has is asked for once an interval, and is well in between."""
    w.ollama.publish("m:1", MB)
    w.ollama.preload("m:1")
    w.ollama.withdraw("m:1")
    await w.apply("m", "m:1", spec={"refreshInterval": "1h"})
    await w.ready("m")
    status = await w.until("m", lambda s: reason(s) == "RefreshFailed", within_s=2 * 3600)
    assert (condition(status, "Ready"), status["state"]) == ("True", "Ready")
    assert condition(status, "Reconciling") is condition(status, "Stalled") is None
    assert at(status, "nextRetryTime") == at(status, "nextRefreshTime")
    assert 3600 <= at(status, "nextRetryTime") - anyio.current_time() <= 1.1 * 3600
    await anyio.sleep(24 * 3600)
    assert 21 <= w.ollama.calls["POST /api/pull"] <= 25
    w.ollama.publish("m:1", MB, seed="new")
    await w.until("m", lambda s: reason(s) == "Available", within_s=2 * 3600)


async def test_a_model_that_is_as_expected_is_not_refreshed(w: World) -> None:
    """Pinned to a digest that is there, nothing better can come from the registry."""
    digest = w.ollama.publish("m:1", MB, MB)
    status = await brought(w, {"refreshInterval": "1h", "expectedDigest": f"sha256:{digest}"})
    assert "nextRefreshTime" not in status
    await anyio.sleep(5 * 3600)
    assert w.ollama.calls["POST /api/pull"] == 1


async def test_a_loaded_model_is_unloaded_before_a_refresh(w: World) -> None:
    """Under the new version the old one could no longer be."""
    await brought(w)
    await w.ollama_http.post("/api/generate", json={"model": "m:1"})
    w.ollama.publish("m:1", MB, MB, seed="new")
    await w.patch("m", {"metadata": {"annotations": {REFRESH: "now"}}})
    await w.until("m", lambda s: s.get("lastHandledRefresh") == "now", within_s=10)
    assert w.ollama.loaded == set()


# --- timeout, insecure


async def test_a_pull_ends_with_its_time(w: World) -> None:
    """What has come is kept, so that even a slow model gets there."""
    w.ollama.publish("m:1", 100 * MB)  # 10 s
    await w.apply("m", "m:1", spec={"timeout": "4s"})
    status = await w.until("m", lambda s: s.get("state") == "Failed")
    assert reason(status) == "PullTimedOut"
    assert "4 s (spec.timeout)" in status["error"]
    assert condition(status, "Reconciling") == "True"
    await w.ready("m", within_s=20)


async def test_time_spent_in_the_queue_does_not_count(w: World) -> None:
    """The clock of a pull starts with its download."""
    for i in range(4):
        w.ollama.publish(f"big{i}:1", 200 * MB)
        await w.apply(f"big{i}", f"big{i}:1")
    await anyio.sleep(1)
    w.ollama.publish("m:1", 30 * MB)
    await w.apply("m", "m:1", spec={"timeout": "5s"})
    await w.ready("m")
    assert w.ollama.calls["POST /api/pull"] == 5


async def test_an_insecure_registry_is_allowed_only_if_wished(w: World) -> None:
    """Ollama hears `insecure` for this model, and for no other."""
    await brought(w, {"insecure": True})
    w.ollama.publish("other:1", MB)
    await w.apply("other", "other:1")
    await w.ready("other")
    assert w.ollama.downloads.insecure == {"m:1"}


# --- expectedDigest


async def test_another_digest_than_expected_is_never_ready(w: World) -> None:
    """A person must act: the message has the digest that is there."""
    digest = w.ollama.publish("m:1", MB)
    await w.apply("m", "m:1", spec={"expectedDigest": "0" * 64})
    status = await w.until("m", lambda s: s.get("state") == "Failed")
    assert (reason(status), condition(status, "Stalled")) == ("UnexpectedDigest", "True")
    assert digest in status["error"]
    await anyio.sleep(3600)
    assert w.ollama.calls["POST /api/pull"] == 1
    await care(w, expectedDigest=digest)
    status = await w.ready("m", within_s=5)
    assert w.ollama.calls["POST /api/pull"] == 1


async def test_a_digest_that_an_upgrade_has_changed_is_explained(w: World) -> None:
    """Newer versions keep the registry's bytes: the same layers, not downloaded, another digest."""
    old = w.ollama.publish("m:1", MB)
    await w.apply("m", "m:1", spec={"expectedDigest": old})
    await w.ready("m")
    new = w.ollama.publish("m:1", MB, form="the registry's own")
    w.ollama.version = "0.32.7"
    await w.patch("m", {"metadata": {"annotations": {REFRESH: "after the upgrade"}}})
    status = await w.until("m", lambda s: reason(s) == "UnexpectedDigest")
    assert f"m:1 is {new}, and spec.expectedDigest is {old}" in status["error"]
    assert "If only Ollama was upgraded" in status["error"]
    assert f"set spec.expectedDigest to {new}" in status["error"]
    assert len(status["error"]) < 600
    await care(w, expectedDigest=new)
    await w.ready("m", within_s=5)
    assert w.ollama.calls["POST /api/pull"] == 2


async def test_a_model_of_no_registry_is_told_by_both_digests(w: World) -> None:
    """What is wrong is its digest: that the registry has no other one is no more than a reason."""
    digest = w.ollama.publish("m:1", MB)
    w.ollama.preload("m:1")
    w.ollama.withdraw("m:1")
    await w.apply("m", "m:1", spec={"expectedDigest": "0" * 64})
    status = await w.until("m", lambda s: s.get("state") == "Failed")
    assert (reason(status), condition(status, "Stalled")) == ("UnexpectedDigest", "True")
    assert f"m:1 is {digest}, and spec.expectedDigest is {'0' * 64}" in status["error"]
    assert f"set spec.expectedDigest to {digest}" in status["error"]
    await anyio.sleep(3600)
    assert w.ollama.calls["POST /api/pull"] == 1
    await care(w, expectedDigest=digest)
    await w.ready("m", within_s=5)
    assert w.ollama.calls["POST /api/pull"] == 1


async def test_an_old_version_is_replaced_by_the_expected_one(w: World) -> None:
    """What is there is not it, so the registry is asked."""
    w.ollama.publish("m:1", MB)
    w.ollama.preload("m:1")
    digest = w.ollama.publish("m:1", MB, seed="new")
    await w.apply("m", "m:1", spec={"expectedDigest": digest})
    assert (await w.ready("m"))["digest"] == digest


async def test_the_expected_digest_is_waited_for_with_a_refresh(w: World) -> None:
    """Each wish asks the registry once, is served, and leaves the object Stalled or Ready."""
    w.ollama.publish("m:1", MB)
    right = w.ollama.publish("m:1", MB, seed="right")
    w.ollama.publish("m:1", MB)
    await w.apply("m", "m:1", spec={"expectedDigest": right})
    await w.until("m", lambda s: reason(s) == "UnexpectedDigest")
    await w.patch("m", {"metadata": {"annotations": {REFRESH: "one"}}})
    status = await w.until("m", lambda s: s.get("lastHandledRefresh") == "one")
    await anyio.sleep(60)
    status = (await w.get("m"))["status"]
    assert (reason(status), condition(status, "Stalled")) == ("UnexpectedDigest", "True")
    assert w.ollama.calls["POST /api/pull"] == 2
    w.ollama.publish("m:1", MB, seed="right")
    await w.patch("m", {"metadata": {"annotations": {REFRESH: "two"}}})
    assert (await w.ready("m", within_s=5))["digest"] == right


async def test_a_model_that_was_swapped_by_hand_is_not_ready_any_more(w: World) -> None:
    """Somebody pulls another version inside Ollama: the pin brings the right one back."""
    digest = w.ollama.publish("m:1", MB, seed="right")
    await w.apply("m", "m:1", spec={"expectedDigest": digest})
    await w.ready("m")
    w.ollama.publish("m:1", MB, seed="wrong")
    w.ollama.preload("m:1")
    w.ollama.publish("m:1", MB, seed="right")
    await w.until("m", lambda s: condition(s, "Ready") != "True", within_s=61)
    assert (await w.ready("m"))["digest"] == digest


# --- keepAlive


@pytest.mark.parametrize(("wish", "expires"), [("-1", False), ("10m", True)])
async def test_a_model_is_kept_loaded(w: World, wish: str, expires: bool) -> None:  # noqa: FBT001 - pytest passes it by name
    """Loaded when it is there, loaded again before its time is over, for as long as wished."""
    await brought(w, {"keepAlive": wish})
    status = await w.until("m", lambda s: s.get("loaded") is True, within_s=5)
    assert ("expiresAt" in status) == expires
    for _ in range(60):
        await anyio.sleep(60)
        assert w.ollama.loaded == {"m:1"}
    assert len(w.writes("m")) <= 5 + (60 / 9 + 1 if expires else 0)  # not one for every look


@pytest.mark.parametrize("minutes", [-60, -5, 5, 60])
async def test_the_clock_of_ollama_may_be_wrong(w: World, minutes: int) -> None:
    """Of its times only how far they are ahead counts: no load too many, and none too late."""
    w.ollama.clock_skew = timedelta(minutes=minutes)
    await brought(w, {"keepAlive": "10m"})
    await w.until("m", lambda s: s.get("loaded") is True, within_s=5)
    for _ in range(60):
        await anyio.sleep(60)
        assert w.ollama.loaded == {"m:1"}
    assert 6 <= w.ollama.calls["POST /api/generate"] <= 8


async def test_a_model_that_was_pushed_out_is_loaded_again(w: World) -> None:
    """Within one interval, and the status says so meanwhile."""
    await brought(w, {"keepAlive": "-1"})
    await w.until("m", lambda s: s.get("loaded") is True, within_s=5)
    await w.ollama_http.post("/api/generate", json={"model": "m:1", "keep_alive": 0})
    w.ollama.delay_s["/api/generate"] = 20
    await w.until("m", lambda s: s.get("loaded") is False, within_s=61)
    status = await w.until("m", lambda s: s.get("loaded") is True, within_s=21)
    assert condition(status, "Ready") == "True"


async def test_a_model_that_does_not_fit_stays_ready_and_is_tried_again(w: World) -> None:
    """Presence is one promise, memory another; the message has Ollama's words."""
    w.ollama.no_memory = True
    await brought(w, {"keepAlive": "-1"})
    status = await w.until("m", lambda s: reason(s) == "LoadFailed", within_s=5)
    assert (condition(status, "Ready"), condition(status, "Reconciling")) == ("True", "True")
    assert (status["state"], status["loaded"]) == ("Ready", False)
    assert "requires more system memory" in status["error"]
    w.ollama.no_memory = False
    status = await w.until("m", lambda s: s.get("loaded") is True, within_s=80)
    assert reason(status) == "Available"
    assert "error" not in status


async def test_a_model_that_only_embeds_is_kept_loaded_too(w: World) -> None:
    """Ollama refuses to let it talk, so it is asked to embed nothing."""
    w.ollama.only_embeds = {"m:1"}
    await brought(w, {"keepAlive": "-1"})
    await w.until("m", lambda s: s.get("loaded") is True, within_s=5)
    assert w.ollama.loaded == {"m:1"}


async def test_a_model_in_memory_under_another_of_its_names_is_loaded(w: World) -> None:
    """Of two tags of one model Ollama lists one; it is kept and unloaded by the other as well."""
    w.ollama.publish("m:latest", MB)
    w.ollama.publish_again("m:latest", "1")
    w.ollama.preload("m:latest")
    await w.ollama_http.post("/api/generate", json={"model": "m:latest"})
    await w.apply("m", "m:1", spec={"keepAlive": "-1"})
    status = await w.until("m", lambda s: s.get("loaded") is True, within_s=10)
    assert reason(status) == "Available"
    await anyio.sleep(3600)
    assert w.ollama.loaded == {"m:latest"}
    assert w.ollama.calls["POST /api/generate"] == 2
    await care(w, keepAlive=None)
    await w.until("m", lambda s: "loaded" not in s, within_s=5)
    assert w.ollama.loaded == set()


async def test_a_wish_taken_back_unloads_the_model(w: World) -> None:
    """Else `-1` would keep it in memory for ever."""
    await brought(w, {"keepAlive": "-1"})
    await w.until("m", lambda s: s.get("loaded") is True, within_s=5)
    await care(w, keepAlive=None)
    await w.until("m", lambda s: "loaded" not in s, within_s=5)
    assert w.ollama.loaded == set()


async def test_a_deletion_does_not_wait_for_a_load(w: World) -> None:
    """Loading a large model takes minutes; its own object that goes ends it."""
    w.ollama.delay_s["/api/generate"] = 600
    await brought(w, {"keepAlive": "-1"})
    await w.until("m", lambda s: s.get("loaded") is False, within_s=5)
    w.ollama.delay_s["/api/generate"] = 0
    await w.delete("m")
    await w.gone("m", within_s=10)
    assert w.ollama.models == {}


async def test_memory_is_asked_for_only_while_somebody_wants_it(w: World) -> None:
    """Without keepAlive, a look at the server is one call."""
    await brought(w)
    await anyio.sleep(600)
    assert w.ollama.calls["GET /api/ps"] == 0


# --- a server that is too old


async def test_a_server_that_was_too_old_is_tried_again_when_it_is_another_one(w: World) -> None:
    """Nobody has to say that the upgrade is done; until then the registry is left alone."""
    w.ollama.publish("m:1", MB)
    old = "pull model manifest: 412: requires a newer version of Ollama"
    w.ollama.trouble("m:1", PullTrouble(error=old))
    await w.apply("m", "m:1")
    status = await w.until("m", lambda s: reason(s) == "ServerTooOld")
    assert (condition(status, "Stalled"), status["serverVersion"]) == ("True", "0.17.4")
    await anyio.sleep(3600)
    assert w.ollama.calls["POST /api/pull"] == 1
    w.ollama.version = "0.18.0"
    status = await w.ready("m", within_s=61)
    assert "serverVersion" not in status


async def test_a_name_that_the_server_refuses_is_stalled_with_its_words(w: World) -> None:
    """How long a part may be is for the server to say; the object can go all the same."""
    long = "m" * 81
    await w.apply("m", f"{long}:1")
    status = await w.until("m", lambda s: reason(s) == "InvalidName")
    assert condition(status, "Stalled") == "True"
    assert "takes no such name: invalid model name" in status["error"]
    await anyio.sleep(3600)
    assert w.ollama.calls["POST /api/pull"] == 1
    await w.delete("m")
    await w.gone("m")


async def test_what_this_ollama_cannot_load_waits_for_another_version(w: World) -> None:
    """An architecture that it does not know is no matter of memory: no load is tried again."""
    w.ollama.load_error = "error loading model: unknown model architecture: 'next'"
    w.ollama.publish("m:1", MB)
    await w.apply("m", "m:1", spec={"keepAlive": "-1"})
    status = await w.until("m", lambda s: reason(s) == "ModelUnsupported")
    assert (condition(status, "Stalled"), status["serverVersion"]) == ("True", "0.17.4")
    assert "unknown model architecture: 'next'" in status["error"]
    assert ("ModelUnsupported", status["error"]) in await w.events()
    await anyio.sleep(3600)
    loads, pulls = w.ollama.calls["POST /api/generate"], w.ollama.calls["POST /api/pull"]
    assert (loads, pulls) == (1, 1)
    w.ollama.load_error, w.ollama.version = "", "0.18.0"
    status = await w.ready("m", within_s=61)
    assert (status["loaded"], reason(status)) == (True, "Available")


async def test_a_model_that_this_ollama_refuses_waits_for_another_version(w: World) -> None:
    """A model for MLX on a server without it: nothing is asked for again until it is another."""
    w.ollama.publish("m:1", MB)
    no_mlx = "this model requires MLX support, but the MLX runtime is not available"
    w.ollama.trouble("m:1", PullTrouble(error=no_mlx))
    await w.apply("m", "m:1")
    status = await w.until("m", lambda s: reason(s) == "ModelUnsupported")
    assert (condition(status, "Stalled"), status["serverVersion"]) == ("True", "0.17.4")
    await anyio.sleep(3600)
    assert w.ollama.calls["POST /api/pull"] == 1
    w.ollama.version = "0.32.8"
    assert "serverVersion" not in await w.ready("m", within_s=61)


# --- mistakes


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"refreshWindow": {"schedule": "0 3 * * *", "duration": "2h"}}, "refreshWindow"),
        ({"interval": "1ms"}, "interval"),
        (
            {
                "refreshInterval": "24h",
                "refreshWindow": {"schedule": "0 3 * * *", "duration": "2h", "timeZone": "Mars/X"},
            },
            "refreshWindow.timeZone",
        ),
        (
            {
                "refreshInterval": "24h",
                "refreshWindow": {"schedule": "at night", "duration": "2h"},
            },
            "refreshWindow.schedule",
        ),
    ],
)
async def test_an_option_that_cannot_be_meant_is_told_by_field(
    w: World, spec: Object, field: str
) -> None:
    """The object is Stalled, its model is still its model, and a correction is taken at once."""
    await brought(w)
    await care(w, **spec)
    status = await w.until("m", lambda s: reason(s) == "InvalidSpec")
    assert condition(status, "Stalled") == "True"
    assert status["error"].startswith(f"spec.{field}: ")
    await w.apply("other", "m:1")
    await w.ready("other")
    await w.delete("other")
    await w.gone("other")
    assert "m:1" in w.ollama.models
    await care(w, **dict.fromkeys(spec))
    await w.ready("m", within_s=5)


async def test_force_is_told_by_an_event(w: World) -> None:
    """Whoever reads the events later learns that a model may be left behind."""
    await brought(w)
    w.ollama.is_down = True
    await anyio.sleep(70)
    await w.delete("m")
    await w.until("m", lambda s: reason(s) == "DeletionBlocked")
    await w.patch("m", {"metadata": {"annotations": {FORCE_DELETE: "true"}}})
    await w.gone("m", within_s=5)
    await anyio.sleep(3)
    events = dict(await w.events())
    assert {"DeletionBlocked", "ForcedDelete"} <= events.keys()
    assert "m:1 may still be on Ollama" in events["ForcedDelete"]


async def test_failures_of_one_kind_are_one_event(w: World) -> None:
    """Five tries are one line of `kubectl describe`, with a count."""
    w.ollama.publish("m:1", MB)
    w.ollama.trouble("m:1", *[PullTrouble(error="max retries exceeded: EOF")] * 5)
    await w.apply("m", "m:1")
    await w.ready("m")
    await anyio.sleep(5)
    items = (await w.call("GET", "/api/v1/namespaces/default/events"))["items"]
    failed = [e for e in items if e["reason"] == "PullFailed"]
    assert [e["count"] for e in failed] == [5]
    assert FINALIZER in (await w.get("m"))["metadata"]["finalizers"]
    assert datetime.fromisoformat(failed[0]["lastTimestamp"]).tzinfo == UTC


async def test_a_model_that_cannot_be_loaded_since_it_is_not_whole_is_mended(w: World) -> None:
    """It is listed as before, so only the load shows the loss; it is not asked again and again."""
    await brought(w, {"keepAlive": "10s"})
    await w.until("m", lambda s: s.get("loaded") is True, within_s=5)
    w.ollama.break_blob("m:1")
    await anyio.sleep(100)
    await w.ready("m")
    assert w.ollama.calls["POST /api/generate"] < 60
    assert w.ollama.calls["POST /api/pull"] == 2


async def test_the_default_interval_comes_back_after_a_long_one(w: World) -> None:
    """A loss is noticed by the interval that is wished now, not by the one being waited for."""
    await brought(w, {"interval": "24h"})
    await anyio.sleep(100)
    await care(w, interval=None)
    w.ollama.lose("m:1")
    await anyio.sleep(65)
    assert w.ollama.calls["POST /api/pull"] == 2


async def test_a_corrected_spec_is_not_ready_before_it_was_looked_at(w: World) -> None:
    """While the spec could not be meant nobody was looking."""
    await brought(w)
    await care(w, interval="1ms")
    await w.until("m", lambda s: reason(s) == "InvalidSpec")
    w.ollama.break_blob("m:1")
    await care(w, interval=None)
    await w.until("m", lambda s: reason(s) in ("VerificationFailed", "Available"), within_s=10)
    await w.ready("m")
    assert w.ollama.is_whole("m:1")


async def test_a_wish_during_a_load_is_served_at_once(w: World) -> None:
    """A load that makes way for it has not failed."""
    w.ollama.delay_s["/api/generate"] = 100
    await brought(w, {"keepAlive": "-1"})
    await w.until("m", lambda s: s.get("loaded") is False, within_s=5)
    await w.patch("m", {"metadata": {"annotations": {REFRESH: "now"}}})
    await w.until("m", lambda s: s.get("lastHandledRefresh") == "now", within_s=10)
    assert "LoadFailed" not in dict(await w.events())


async def test_a_model_that_somebody_unloads_is_loaded_again_at_once(w: World) -> None:
    """Also right after it was loaded: once is no sign that it does not fit."""
    await brought(w, {"keepAlive": "-1", "interval": "10s"})
    await w.until("m", lambda s: s.get("loaded") is True, within_s=5)
    await w.ollama_http.post("/api/generate", json={"model": "m:1", "keep_alive": 0})
    await anyio.sleep(15)
    assert w.ollama.loaded == {"m:1"}
    assert "LoadFailed" not in dict(await w.events())


async def test_models_that_do_not_fit_together_do_not_push_each_other_out_for_ever(
    w: World,
) -> None:
    """Each has its turn now and then, and says what is wrong; the server has time to answer."""
    w.ollama.room = 1
    for name in ("m", "n"):
        w.ollama.publish(f"{name}:1", MB)
        await w.apply(name, f"{name}:1", spec={"keepAlive": "-1"})
    await anyio.sleep(900)
    assert w.ollama.calls["POST /api/generate"] <= 2 * 900 / 30  # no more than two in half a minute
    out: list[Object] = []
    with anyio.fail_after(120):
        while not out:  # whichever of them it is, between two turns
            await anyio.sleep(1)
            both = [(await w.get(name))["status"] for name in ("m", "n")]
            assert {condition(status, "Ready") for status in both} == {"True"}
            out = [status for status in both if reason(status) == "LoadFailed"]
    assert "out of memory" in out[0]["error"]
