"""One model's life, from the outside: what a user of Kubernetes and of Ollama sees."""

import anyio
import pytest

from crd.v1alpha1 import FINALIZER, FORCE_DELETE, PLURAL, REFRESH
from ollama_op.sandbox.kube.server import ApiFault
from ollama_op.sandbox.ollama.pulls import PullTrouble
from support.virtual.world import MB, Object, World, condition, reason, world

# --- bringing a model


async def test_a_model_is_pulled_and_ready(w: World) -> None:
    """An applied model is pulled, verified, and described by Ollama's own digest and size."""
    digest = w.ollama.publish("llama3.2:1b", 40 * MB, 2 * MB)
    await w.apply("llama", "llama3.2:1b")
    status = await w.ready("llama")
    assert status["digest"] == w.ollama.models["llama3.2:1b"] == digest
    assert (status["state"], status["size"], status["formattedSize"]) == (
        "Ready",
        42 * MB,
        "40.1 MiB",
    )
    assert reason(status) == "Available"
    assert status["lastPullTime"].startswith("2026-01-01T00:00:0")
    assert {"error", "progress", "attempts", "nextRetryTime"} & status.keys() == set()
    assert condition(status, "Reconciling") is None
    assert w.ollama.calls["POST /api/show"] == 1
    assert "Pulled" in dict(await w.events())


async def test_the_finalizer_is_there_before_ollama_is_touched(w: World) -> None:
    """No pull is asked for on account of an object that could vanish without a word."""
    w.ollama.publish("llama3.2:1b", MB)
    w.kube.intercept = lambda r: ApiFault(code=503) if r.method == "PATCH" else None
    await w.apply("llama", "llama3.2:1b")
    await anyio.sleep(60)
    assert w.ollama.calls["POST /api/pull"] == 0
    w.kube.intercept = lambda _: None
    await w.ready("llama")
    assert (await w.get("llama"))["metadata"]["finalizers"] == [FINALIZER]


async def test_a_fresh_pull_costs_three_writes(w: World) -> None:
    """Finalizer, Pulling, Ready: a short pull is not talked about more than that."""
    w.ollama.publish("llama3.2:1b", MB)
    await w.apply("llama", "llama3.2:1b")
    await w.ready("llama")
    await anyio.sleep(120)
    assert w.writes("llama") == [("PATCH", "llama"), ("PATCH", "status"), ("PATCH", "status")]


async def test_a_model_that_is_there_costs_two_writes_and_no_pull(w: World) -> None:
    """A model already on the server is adopted: one look, one show, the finalizer and Ready."""
    w.ollama.publish("llama3.2:1b", MB)
    w.ollama.preload("llama3.2:1b")
    await w.apply("llama", "llama3.2:1b")
    status = await w.ready("llama")
    await anyio.sleep(30)
    assert w.writes("llama") == [("PATCH", "llama"), ("PATCH", "status")]
    assert w.ollama.calls == {"GET /api/tags": 1, "POST /api/show": 1}
    assert "lastPullTime" not in status


async def test_progress_is_shown_live_and_never_goes_back(w: World) -> None:
    """While a long pull runs the status tells bytes, percent, speed and the time left."""
    w.ollama.publish("big:1", 300 * MB, 100 * MB)  # 40 s at 10 MB/s
    await w.apply("big", "big:1")
    seen: list[Object] = []

    def note(status: Object) -> bool:
        if progress := status.get("progress"):
            seen.append(progress)
        return status.get("state") == "Ready"

    await w.until("big", note)
    percents = [p.get("percent", 0) for p in seen]
    assert percents == sorted(percents)
    assert len(set(percents)) >= 5
    assert max(percents) <= 99
    middle = seen[len(seen) // 2]
    assert middle["text"] == f"{middle['percent']}%"
    assert middle["bytesPerSecond"] == pytest.approx(10 * MB, rel=0.1)
    assert middle["etaSeconds"] > 0
    # At most one write in five seconds, besides the finalizer, Pulling and Ready.
    assert len(w.writes("big")) <= 3 + 40 // 5


async def test_a_pull_may_take_hours() -> None:
    """No timeout cuts a slow download that makes progress."""
    async with world(progress_interval_s=300) as w:
        w.ollama.downloads.tick_s, w.ollama.downloads.bytes_per_second = 60, 0.1 * MB
        w.ollama.publish("huge:1", 1080 * MB)  # three hours
        w.start()
        await w.apply("huge", "huge:1")
        await w.ready("huge", within_s=4 * 3600, every_s=60)
        assert anyio.current_time() > 3 * 3600
        assert w.ollama.calls["POST /api/pull"] == 1


async def test_pulls_run_side_by_side_up_to_the_limit(w: World) -> None:
    """Four at a time; the fifth waits as Queued, and says so."""
    for i in range(6):
        w.ollama.publish(f"m{i}:1", 100 * MB)
        await w.apply(f"m{i}", f"m{i}:1")
    await anyio.sleep(5)
    statuses = [(await w.get(f"m{i}"))["status"] for i in range(6)]
    assert sorted(s["state"] for s in statuses) == ["Pending"] * 2 + ["Pulling"] * 4
    queued = next(s for s in statuses if s["state"] == "Pending")
    assert reason(queued) == "Queued"
    assert condition(queued, "Ready", "message") == "Waiting for a download slot (limit 4)."
    for i in range(6):
        await w.ready(f"m{i}")
    assert w.ollama.downloads.most == 4


async def test_how_long_a_pull_took_is_without_the_waiting() -> None:
    """Ten seconds each, one after the other: both say so."""
    async with world(max_concurrent_pulls=1) as w:
        for name in ("a", "b"):
            w.ollama.publish(f"{name}:1", 100 * MB)
            await w.apply(name, f"{name}:1")
        w.start()
        await w.ready("a")
        await w.ready("b")
        took = [
            float(message.split()[-2]) for what, message in await w.events() if what == "Pulled"
        ]
        assert took == [pytest.approx(10, abs=1)] * 2


async def test_who_waits_for_the_same_model_says_so(w: World) -> None:
    """There is a slot; the download that is under way for another object is waited for."""
    w.ollama.publish("m:1", 100 * MB)
    await w.apply("a", "m:1")
    await anyio.sleep(1)
    await w.apply("b", "m:1")
    status = await w.until("b", lambda s: reason(s) == "Queued", within_s=5)
    said = condition(status, "Ready", "message")
    assert said == "Waiting for what is under way for the same model."


async def test_one_download_for_one_model_however_many_ask(w: World) -> None:
    """Two objects in two namespaces that name one model share one pull; each becomes Ready."""
    w.ollama.publish("llama3.2:1b", 100 * MB)
    await w.apply("a", "llama3.2:1b")
    await w.apply("b", "Llama3.2:1b", namespace="other")
    await w.ready("a")
    await anyio.sleep(1)
    other = (await w.get("b", namespace="other"))["status"]
    assert other["state"] == "Ready"
    assert w.ollama.calls["POST /api/pull"] == 1


# --- what goes wrong


async def test_an_unknown_model_waits_for_a_person(w: World) -> None:
    """A model that the registry lacks is Stalled, and is not asked for again and again."""
    await w.apply("nope", "nope:1")
    status = await w.until("nope", lambda s: s.get("state") == "Failed")
    assert reason(status) == "ModelUnknown"
    assert condition(status, "Stalled") == "True"
    assert condition(status, "Reconciling") is None
    assert status["error"].startswith("The registry has no nope:1.")
    await anyio.sleep(3600)
    assert w.ollama.calls["POST /api/pull"] == 1


async def test_a_corrected_spec_is_tried_at_once(w: World) -> None:
    """Changing the tag of a Stalled model ends the waiting."""
    await w.apply("nope", "nope:1")
    await w.until("nope", lambda s: s.get("state") == "Failed")
    w.ollama.publish("nope:2", MB)
    await w.patch("nope", {"spec": {"tag": "2"}})
    status = await w.ready("nope", within_s=10)
    assert status["model"] == "nope:2"
    assert status["observedGeneration"] == 2


async def test_a_refresh_wish_ends_the_waiting_of_a_stalled_model(w: World) -> None:
    """Once the model is in the registry, the refresh annotation makes the operator look again."""
    await w.apply("late", "late:1")
    await w.until("late", lambda s: s.get("state") == "Failed")
    w.ollama.publish("late:1", MB)
    await w.patch("late", {"metadata": {"annotations": {REFRESH: "true"}}})
    await w.ready("late", within_s=10)
    await anyio.sleep(1)
    annotations = (await w.get("late"))["metadata"]["annotations"]
    assert annotations[REFRESH].startswith("completed-2026-")


async def test_a_registry_that_fails_is_asked_again_ever_more_slowly(w: World) -> None:
    """Each failed attempt is counted, and the next one waits about twice as long."""
    w.ollama.publish("flaky:1", MB)
    w.ollama.trouble("flaky:1", *[PullTrouble(error="max retries exceeded: EOF")] * 6)
    await w.apply("flaky", "flaky:1")
    status = await w.until("flaky", lambda s: s.get("attempts") == 6)
    assert (status["state"], reason(status)) == ("Failed", "RegistryUnavailable")
    assert condition(status, "Reconciling") == "True"
    assert "Attempt 6 failed; next at 00:" in (condition(status, "Ready", "message") or "")
    assert 31 <= anyio.current_time() <= 31 * 1.2 + 6 * 2
    status = await w.ready("flaky")
    assert {"error", "attempts", "nextRetryTime"} & status.keys() == set()


async def test_a_retry_survives_a_restart_of_the_operator(w: World) -> None:
    """Attempts and the next try are in the status: a restart neither hurries nor forgets."""
    w.ollama.publish("full:1", 10 * MB)
    w.ollama.trouble("full:1", PullTrouble(error="write /models: no space left on device"))
    await w.apply("full", "full:1")
    status = await w.until("full", lambda s: s.get("state") == "Failed")
    assert reason(status) == "InsufficientStorage"
    await w.stop()
    w.start()
    await anyio.sleep(290)
    assert w.ollama.calls["POST /api/pull"] == 1
    await w.ready("full")
    assert anyio.current_time() >= 300


async def test_a_stalled_pull_is_given_up_and_tried_again(w: World) -> None:
    """Lines that bring no bytes are no progress: after the stall timeout the pull starts anew."""
    w.ollama.downloads.tick_s = 1
    w.ollama.publish("slow:1", 100 * MB)
    w.ollama.trouble("slow:1", PullTrouble(after_bytes=50 * MB, stall_s=24 * 3600))
    await w.apply("slow", "slow:1")
    status = await w.until("slow", lambda s: s.get("state") == "Failed", within_s=400)
    assert reason(status) == "PullStalled"
    assert len(w.writes("slow")) < 10  # and none while nothing changes
    assert 300 < anyio.current_time() < 320
    await w.ready("slow")
    assert w.ollama.calls["POST /api/pull"] == 2


async def test_a_pull_that_breaks_off_is_resumed(w: World) -> None:
    """A connection that dies in the middle costs an attempt, and the part that came is kept."""
    w.ollama.publish("cut:1", 100 * MB)
    w.ollama.trouble("cut:1", PullTrouble(after_bytes=90 * MB, cut=True))
    await w.apply("cut", "cut:1")
    await w.ready("cut")
    assert w.ollama.calls["POST /api/pull"] == 2
    assert anyio.current_time() < 16


async def test_success_is_not_taken_for_proof(w: World) -> None:
    """Ready needs a model that Ollama lists and shows; a layer that is missing is pulled again."""
    w.ollama.publish("odd:1", MB, MB)
    w.ollama.preload("odd:1")
    w.ollama.break_blob("odd:1")
    await w.apply("odd", "odd:1")
    await w.until("odd", lambda s: reason(s) == "VerificationFailed")
    await w.until("odd", lambda s: reason(s) == "ModelBroken")
    await w.ready("odd")
    assert w.ollama.is_whole("odd:1")
    assert w.ollama.calls["DELETE /api/delete"] == 0


async def test_a_name_that_is_none_is_the_objects_own_problem(w: World) -> None:
    """An illegal name is reported in its own status, touches nothing, and can be deleted."""
    w.ollama.publish("fine:1", MB)
    await w.apply("bad", "https://evil.example/x:1")
    await w.apply("worse", "two\nlines:1")
    await w.apply("fine", "fine:1")
    await w.ready("fine")
    for name in ("bad", "worse"):
        status = (await w.get(name))["status"]
        assert (status["state"], reason(status)) == ("Failed", "InvalidName")
        assert condition(status, "Stalled") == "True"
        assert "\n" not in status["error"]
        await w.delete(name)
        await w.gone(name, within_s=5)


async def test_an_ollama_that_is_away_is_not_an_ollama_without_models(w: World) -> None:
    """During an outage Ready is Unknown; afterwards nothing is pulled again."""
    w.ollama.publish("llama3.2:1b", MB)
    await w.apply("llama", "llama3.2:1b")
    before = await w.ready("llama")
    w.ollama.is_down = True
    status = await w.until("llama", lambda s: condition(s, "Ready") == "Unknown")
    assert reason(status) == "OllamaUnreachable"
    assert "http://ollama:11434" in status["error"]
    await anyio.sleep(3600)
    writes = len(w.writes("llama"))
    await anyio.sleep(3600)
    assert len(w.writes("llama")) == writes  # an outage that lasts is not news
    w.ollama.is_down = False
    after = await w.ready("llama", within_s=90)
    assert after["digest"] == before["digest"]
    assert "error" not in after
    assert w.ollama.calls["POST /api/pull"] == 1
    assert w.ollama.calls["POST /api/show"] == 2  # nobody was looking meanwhile


async def test_one_lost_answer_is_no_outage(w: World) -> None:
    """A single failed look is repeated before anything is said."""
    w.ollama.publish("llama3.2:1b", MB)
    await w.apply("llama", "llama3.2:1b")
    await w.ready("llama")
    writes = len(w.writes("llama"))
    await anyio.sleep(59)
    w.ollama.is_down = True
    while w.ollama.is_down:
        await anyio.sleep(0.5)
        w.ollama.is_down = anyio.current_time() % 60 < 1
    await anyio.sleep(120)
    assert len(w.writes("llama")) == writes


# --- keeping a model


async def test_a_lost_model_comes_back_within_one_interval(w: World) -> None:
    """A model deleted behind the operator's back is noticed, said to be lost, and restored."""
    w.ollama.publish("llama3.2:1b", 100 * MB)
    await w.apply("llama", "llama3.2:1b")
    await w.ready("llama")
    w.ollama.lose("llama3.2:1b")
    status = await w.until("llama", lambda s: condition(s, "Ready") == "False", within_s=61)
    assert reason(status) == "ModelLost"
    await w.ready("llama")
    reasons = [r for r, _ in await w.events()]
    assert {"ModelLost", "ModelRestored"} <= set(reasons)


async def test_a_refresh_brings_the_new_version(w: World) -> None:
    """`true` becomes completed-<time> once the newest version is there; Ready all the while."""
    old = w.ollama.publish("llama3.2:1b", 50 * MB)
    await w.apply("llama", "llama3.2:1b")
    await w.ready("llama")
    new = w.ollama.publish("llama3.2:1b", 50 * MB, seed="v2")
    await w.patch("llama", {"metadata": {"annotations": {REFRESH: "true"}}})
    unready = []

    def refreshed(status: Object) -> bool:
        if condition(status, "Ready") != "True":
            unready.append(status)
        return status["digest"] == new

    await w.until("llama", refreshed)
    assert unready == []
    annotations = (await w.get("llama"))["metadata"]["annotations"]
    assert annotations[REFRESH].startswith("completed-2026-01-01T00:")
    events = dict(await w.events())
    assert events["RefreshCompleted"] == f"Digest changed from {old[:8]} to {new[:8]}."
    await anyio.sleep(3600)
    assert w.ollama.calls["POST /api/pull"] == 2


async def test_a_token_is_echoed_and_never_written_over(w: World) -> None:
    """Any other value is served once per value and left as it is, for GitOps' sake."""
    w.ollama.publish("llama3.2:1b", MB)
    await w.apply("llama", "llama3.2:1b", **{REFRESH: "release-7"})
    status = await w.until("llama", lambda s: s.get("lastHandledRefresh") == "release-7")
    await anyio.sleep(3600)
    assert status["state"] == "Ready"
    assert (await w.get("llama"))["metadata"]["annotations"][REFRESH] == "release-7"
    assert w.ollama.calls["POST /api/pull"] == 1


async def test_a_refresh_that_fails_keeps_the_old_version_in_use(w: World) -> None:
    """While the registry is away a refreshed model stays Ready, and the wish stands."""
    w.ollama.publish("llama3.2:1b", MB)
    await w.apply("llama", "llama3.2:1b")
    await w.ready("llama")
    w.ollama.trouble("llama3.2:1b", PullTrouble(error="max retries exceeded: EOF"))
    await w.patch("llama", {"metadata": {"annotations": {REFRESH: "true"}}})
    status = await w.until("llama", lambda s: s.get("attempts") == 1)
    assert (status["state"], reason(status)) == ("Ready", "RefreshFailed")
    await w.until("llama", lambda s: reason(s) == "Available")
    assert (await w.get("llama"))["metadata"]["annotations"][REFRESH].startswith("completed-")


async def test_a_changed_tag_brings_the_new_model_before_the_old_one_goes(w: World) -> None:
    """The former model is removed only when the new one is verified."""
    w.ollama.publish("m:1", 50 * MB)
    w.ollama.publish("m:2", 50 * MB)
    await w.apply("m", "m:1")
    await w.ready("m")
    await w.patch("m", {"spec": {"tag": "2"}})
    await anyio.sleep(3)
    assert set(w.ollama.models) == {"m:1"}
    await w.until("m", lambda s: s["model"] == "m:2" and s["state"] == "Ready")
    await anyio.sleep(1)
    assert set(w.ollama.models) == {"m:2"}
    assert (await w.get("m"))["status"]["ownedModels"] == ["m:2"]


async def test_a_change_in_the_middle_of_a_pull_cancels_it(w: World) -> None:
    """The old pull's connection is closed; only the model that is wanted now arrives."""
    w.ollama.publish("m:1", 1000 * MB)
    w.ollama.publish("m:2", 10 * MB)
    await w.apply("m", "m:1")
    await anyio.sleep(10)
    await w.patch("m", {"spec": {"tag": "2"}})
    status = await w.ready("m", within_s=5)
    await anyio.sleep(1)
    assert status["model"] == "m:2"
    assert (w.ollama.pulls, set(w.ollama.models)) == (0, {"m:2"})


# --- taking a model away


async def test_deletion_unloads_deletes_confirms_and_lets_go(w: World) -> None:
    """After `kubectl delete` has returned, the model is neither on disk nor in memory."""
    w.ollama.publish("llama3.2:1b", MB)
    await w.apply("llama", "llama3.2:1b")
    await w.ready("llama")
    await w.ollama_http.post("/api/generate", json={"model": "llama3.2:1b"})
    assert w.ollama.loaded == {"llama3.2:1b"}
    await w.delete("llama")
    await w.gone("llama", within_s=5)
    assert (w.ollama.models, w.ollama.loaded) == ({}, set())


async def test_deletion_in_the_middle_of_a_pull_leaves_nothing(w: World) -> None:
    """The pull is cancelled, and no model appears afterwards."""
    w.ollama.publish("big:1", 1000 * MB)
    await w.apply("big", "big:1")
    await anyio.sleep(20)
    assert w.ollama.pulls == 1
    await w.delete("big")
    await w.gone("big", within_s=5)
    await anyio.sleep(600)
    assert (w.ollama.pulls, w.ollama.models) == (0, {})


async def test_deletion_waits_for_an_ollama_that_is_away(w: World) -> None:
    """The finalizer stays while the removal is unconfirmed, and the status says how to let go."""
    w.ollama.publish("llama3.2:1b", MB)
    await w.apply("llama", "llama3.2:1b")
    await w.ready("llama")
    w.ollama.is_down = True
    await w.delete("llama")
    status = await w.until("llama", lambda s: reason(s) == "DeletionBlocked")
    assert f"{FORCE_DELETE}=true" in (condition(status, "Ready", "message") or "")
    await anyio.sleep(3600)
    assert await w.exists("llama")
    w.ollama.is_down = False
    await w.gone("llama", within_s=120)
    assert w.ollama.models == {}


async def test_force_delete_lets_go(w: World) -> None:
    """With the annotation the object goes although its model could not be removed."""
    w.ollama.publish("llama3.2:1b", MB)
    await w.apply("llama", "llama3.2:1b")
    await w.ready("llama")
    w.ollama.is_down = True
    await w.delete("llama")
    await w.until("llama", lambda s: reason(s) == "DeletionBlocked")
    await w.patch("llama", {"metadata": {"annotations": {FORCE_DELETE: "true"}}})
    await w.gone("llama", within_s=5)


async def test_a_model_that_another_object_names_is_never_deleted(w: World) -> None:
    """Of two objects for one model, in two namespaces, the last one takes it away."""
    w.ollama.publish("llama3.2:1b", MB)
    await w.apply("a", "llama3.2:1b")
    await w.apply("b", "LLAMA3.2:1b", namespace="other")
    await w.ready("a")
    await anyio.sleep(1)
    await w.delete("a")
    await w.gone("a", within_s=5)
    assert set(w.ollama.models) == {"llama3.2:1b"}
    await w.delete("b", namespace="other")
    await anyio.sleep(5)
    assert w.ollama.models == {}


async def test_deleting_all_objects_of_one_model_at_once_removes_it(w: World) -> None:
    """Objects that are being deleted do not keep the model for one another."""
    w.ollama.publish("llama3.2:1b", MB)
    for name in "abc":
        await w.apply(name, "llama3.2:1b")
    for name in "abc":
        await w.ready(name)
    await w.call("DELETE", w.path())
    for name in "abc":
        await w.gone(name, within_s=10)
    assert w.ollama.models == {}


async def test_a_deletion_never_waits_for_a_download(w: World) -> None:
    """With all slots taken by long pulls, a deletion still takes a moment only."""
    w.ollama.publish("small:1", MB)
    await w.apply("small", "small:1")
    await w.ready("small")
    for i in range(4):
        w.ollama.publish(f"big{i}:1", 10_000 * MB)
        await w.apply(f"big{i}", f"big{i}:1")
    await anyio.sleep(10)
    await w.delete("small")
    await w.gone("small", within_s=5)


async def test_a_deletion_never_breaks_a_download_that_shares_a_layer(w: World) -> None:
    """A pull that a deletion overlapped is looked at again, and repeated where it is not whole."""
    w.ollama.publish("old:1", 10 * MB, 1 * MB, shared="base")
    w.ollama.publish("new:1", 10 * MB, 100 * MB, shared="base")
    await w.apply("old", "old:1")
    await w.ready("old")
    await w.apply("new", "new:1")
    await anyio.sleep(3)  # the shared layer is there already; the other one is on its way
    await w.delete("old")
    await w.gone("old", within_s=5)
    await w.ready("new")
    answer = await w.ollama_http.post("/api/show", json={"model": "new:1"})
    assert answer.status_code == 200
    assert w.ollama.calls["POST /api/pull"] == 3


async def test_an_object_that_cannot_be_read_keeps_the_model_that_it_names(w: World) -> None:
    """Its name and tag count though another field is none; the last one takes the model away."""
    w.ollama.publish("llama3.2:1b", MB)
    await w.apply("a", "llama3.2:1b")
    await w.ready("a")
    await w.apply("b", "llama3.2:1b")
    await w.ready("b")
    whole = await w.get("b")
    broken = whole | {"spec": whole["spec"] | {"suspend": "maybe"}}  # of a CRD that takes more
    w.kube.store.put(PLURAL, ("default", "b"), broken)
    await anyio.sleep(1)
    await w.delete("a")
    await w.gone("a")
    assert set(w.ollama.models) == {"llama3.2:1b"}
    w.kube.store.put(PLURAL, ("default", "b"), whole)
    await w.delete("b")
    await w.gone("b")
    assert w.ollama.models == {}


async def test_an_object_made_anew_under_the_same_name_is_another_one(w: World) -> None:
    """What is done for a deleted object never ends up in the status of its successor."""
    w.ollama.publish("a:1", MB)
    w.ollama.publish("b:1", MB)
    await w.apply("x", "a:1")
    await w.ready("x")
    await w.delete("x")
    await w.gone("x")
    await w.apply("x", "b:1")
    status = await w.ready("x")
    assert status["model"] == "b:1"
    assert set(w.ollama.models) == {"b:1"}


# --- the operator's own bad days


@pytest.mark.parametrize("at_s", [0.5, 3, 7, 11])
async def test_a_crash_at_any_time_is_made_up_for(w: World, at_s: float) -> None:
    """Killed before, in and after a pull, the next operator brings the model all the same."""
    w.ollama.publish("m:1", 100 * MB)
    await w.apply("m", "m:1")
    await anyio.sleep(at_s)
    await w.stop()
    await anyio.sleep(5)
    w.start()
    await w.ready("m")
    assert (await w.get("m"))["metadata"]["finalizers"] == [FINALIZER]
    assert w.ollama.pulls == 0


async def test_a_restart_writes_nothing_when_all_is_well(w: World) -> None:
    """The next operator takes over what is Ready without a write, a pull or a show."""
    w.ollama.publish("m:1", MB)
    await w.apply("m", "m:1")
    await w.ready("m")
    await w.stop()
    writes, calls = len(w.writes()), w.ollama.calls.copy()
    w.start()
    await anyio.sleep(30)
    assert len(w.writes()) == writes
    assert w.ollama.calls - calls == {"GET /api/tags": 1}


async def test_a_model_deleted_while_the_operator_was_away_is_removed(w: World) -> None:
    """A deletion waits in the finalizer for the next operator, even for a name changed since."""
    w.ollama.publish("m:1", 100 * MB)
    w.ollama.publish("m:2", MB)
    await w.apply("m", "m:1")
    await w.ready("m")
    await w.stop()
    await w.patch("m", {"spec": {"tag": "2"}})
    await w.delete("m")
    w.start()
    await w.gone("m", within_s=10)
    assert w.ollama.models == {}


async def test_who_stops_ends_a_deletion_under_way_and_begins_no_other(w: World) -> None:
    """So whoever comes next finds one model gone, and does not delete it once more."""
    for name in ("m", "n"):
        w.ollama.publish(f"{name}:1", MB)
        await w.apply(name, f"{name}:1")
        await w.ready(name)
    w.ollama.delay_s["/api/delete"] = 1
    await w.delete("m")
    while not w.ollama.calls["DELETE /api/delete"]:  # noqa: ASYNC110 - a count has no event
        await anyio.sleep(0.01)
    assert w.health.engine is not None
    began = anyio.current_time()
    await w.delete("n")
    await w.health.engine.servers.close()
    assert (anyio.current_time() - began, set(w.ollama.models)) == (pytest.approx(1, 0.1), {"n:1"})
    await w.stop()
    assert await w.exists("m")  # nobody has said yet that its model is gone
    w.start()
    await w.gone("m")
    await w.gone("n")
    assert w.ollama.calls["DELETE /api/delete"] == 2
    assert w.ollama.models == {}


@pytest.mark.parametrize("came_back", [False, True])
async def test_what_is_gone_already_is_not_deleted(w: World, *, came_back: bool) -> None:
    """But that is looked at anew: a model that came back since the last look is deleted."""
    w.ollama.publish("m:1", MB)
    await w.apply("m", "m:1")
    await w.ready("m")
    await w.patch("m", {"spec": {"suspend": True}})
    await w.rest()
    await w.ollama_http.request("DELETE", "/api/delete", json={"model": "m:1"})
    await w.stop()
    w.start()
    await anyio.sleep(5)
    if came_back:
        w.ollama.preload("m:1")
    w.ollama.calls.clear()
    await w.delete("m")
    await w.gone("m", within_s=5)
    assert w.ollama.models == {}
    assert w.ollama.calls["DELETE /api/delete"] == came_back


async def test_a_kubernetes_that_refuses_writes_is_asked_again(w: World) -> None:
    """Conflicts, throttling, server errors and lost answers delay the end, and change nothing."""
    faults = iter(
        [
            ApiFault(code=409, reason="Conflict"),
            ApiFault(code=429, reason="TooManyRequests", retry_after_s=2),
            ApiFault(code=500),
            ApiFault(code=0, done=True),
            ApiFault(code=503),
            ApiFault(code=0),
        ]
    )
    w.kube.intercept = lambda r: next(faults, None) if r.method == "PATCH" else None
    w.ollama.publish("m:1", MB)
    await w.apply("m", "m:1")
    await w.ready("m")
    assert w.ollama.calls["POST /api/pull"] == 1


async def test_an_object_of_the_go_operator_is_taken_over_without_a_pull(w: World) -> None:
    """Its status has other words and another digest; the model itself stays untouched."""
    w.ollama.publish("llama3.2:1b", MB)
    w.ollama.preload("llama3.2:1b")
    await w.stop()
    await w.apply("llama", "llama3.2:1b")
    await w.patch("llama", {"metadata": {"finalizers": [FINALIZER]}})
    await w.call(
        "PATCH",
        w.path("llama") + "/status",
        {"status": {"state": "Ready", "digest": "23204d6f64", "size": 7, "error": "old"}},
    )
    w.start()
    status = await w.until("llama", lambda s: reason(s) == "Available")
    assert status["digest"] == w.ollama.models["llama3.2:1b"]
    assert "error" not in status
    assert w.ollama.calls["POST /api/pull"] == 0
    await w.delete("llama")
    await w.gone("llama", within_s=5)
    assert w.ollama.models == {}
