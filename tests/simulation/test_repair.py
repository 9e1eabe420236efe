"""A model that Ollama cannot show: asked twice, pulled, and only then deleted, if ever."""

import anyio
import pytest

from ollama_op.sandbox.ollama.pulls import PullTrouble
from support.virtual.gateway import FOREIGN, as_json
from support.virtual.world import MB, World, condition, reason, world

MISMATCH = "digest mismatch, file must be downloaded again: want sha256:a, got sha256:b"
TEMPLATE = 'template: :1: function "frobnicate" not defined'
REFRESH = "ollama.smithforge.dev/refresh"


async def stalled(w: World, name: str = "m", within_s: float = 300) -> dict:
    """Wait until a person must act; return the status."""
    return await w.until(name, lambda s: condition(s, "Stalled") == "True", within_s=within_s)


def asked(w: World) -> tuple[int, int]:
    """Count the pulls and the deletions."""
    return w.ollama.calls["POST /api/pull"], w.ollama.calls["DELETE /api/delete"]


async def adopted(w: World, *, layers: int = 2) -> None:
    """Have a model Ready that was there before it was asked for."""
    w.ollama.publish("m:1", *[MB] * layers)
    w.ollama.preload("m:1")
    await w.apply("m", "m:1")
    await w.ready("m")


async def look_again(w: World) -> None:
    """Have the model verified anew, as after an outage."""
    await w.patch("m", {"spec": {"suspend": True}})
    await w.until("m", lambda s: reason(s) == "Suspended")
    await w.patch("m", {"spec": {"suspend": None}})


# --- twice


async def test_one_word_of_ollamas_is_not_enough(w: World) -> None:
    """Neither Ready nor broken is said meanwhile, the digest stays, and nothing is changed."""
    await adopted(w)
    no = as_json(500, {"error": "out of file handles"})
    w.gateway.answer(no, "POST /api/show", times=1)
    await look_again(w)
    status = await w.until("m", lambda s: reason(s) == "VerificationFailed")
    assert (condition(status, "Ready"), condition(status, "Reconciling")) == ("Unknown", "True")
    assert "out of file handles" in status["error"]
    assert status["digest"] == w.ollama.models["m:1"]
    since = anyio.current_time()
    status = await w.ready("m")
    assert anyio.current_time() - since >= 30
    assert "fault" not in status
    assert asked(w) == (0, 0)


async def test_two_words_are_half_a_minute_apart_whoever_asks(w: World) -> None:
    """A change of the spec has it asked again at once, which does not count as the second."""
    await adopted(w)
    w.ollama.spoil("m:1")
    w.ollama.withdraw("m:1")
    began = anyio.current_time()
    await look_again(w)
    await w.until("m", lambda s: reason(s) == "VerificationFailed")
    for number in range(5):
        await w.patch("m", {"spec": {"interval": f"{number + 50}s"}})
        await anyio.sleep(4)
        assert reason((await w.get("m"))["status"]) == "VerificationFailed"
    await w.until("m", lambda s: reason(s) not in ("VerificationFailed", "Suspended"))
    assert anyio.current_time() - began >= 30


@pytest.mark.parametrize("path", ["/api/version", "/api/tags"])
async def test_what_else_is_not_ollamas_lets_the_second_word_not_count(path) -> None:
    """Whoever answers for the version or the list may well answer for the model."""
    async with world(health_interval_s=5) as w:
        w.start()
        await adopted(w)
        w.gateway.answer(as_json(500, {"error": "no"}), "POST /api/show")
        await look_again(w)
        await w.until("m", lambda s: reason(s) == "VerificationFailed")
        w.gateway.answer(FOREIGN["503"], path)
        await anyio.sleep(3600)
        status = (await w.get("m"))["status"]
        assert reason(status) in ("NotOllama", "VerificationFailed")
        assert status["digest"] == w.ollama.models["m:1"]
        w.gateway.let_through()
        await w.ready("m", within_s=400)
        assert asked(w) == (0, 0)


async def test_a_restart_does_not_forget_the_first_word(w: World) -> None:
    """It is in the status, so the second one is the second."""
    await adopted(w)
    w.ollama.break_blob("m:1")
    await look_again(w)
    await w.until("m", lambda s: reason(s) == "VerificationFailed")
    since = (await w.get("m"))["status"]["fault"]["since"]
    await w.stop()
    w.start()
    await anyio.sleep(5)
    assert (await w.get("m"))["status"]["fault"]["since"] == since
    await w.until("m", lambda s: reason(s) == "ModelBroken")
    await w.ready("m")


# --- no deletion that cannot be undone


async def test_a_missing_layer_is_pulled_and_nothing_is_deleted(w: World) -> None:
    """An ordinary pull mends it."""
    await adopted(w)
    w.ollama.break_blob("m:1")
    await look_again(w)
    await w.until("m", lambda s: reason(s) == "ModelBroken")
    status = await w.ready("m")
    assert status["origin"] == "Adopted"
    assert w.ollama.is_whole("m:1")
    assert asked(w) == (1, 0)
    assert "ModelRestored" in dict(await w.events())


async def test_what_a_pull_does_not_mend_is_deleted_once_the_registry_was_reached(
    w: World,
) -> None:
    """A layer that is there and cannot be read stays through a pull; a fresh download mends it."""
    await adopted(w)
    w.ollama.spoil("m:1")
    await look_again(w)
    await w.until("m", lambda s: reason(s) == "ModelBroken")
    await w.ready("m")
    assert w.ollama.is_whole("m:1")
    assert asked(w) == (2, 1)


async def test_a_refresh_finds_what_is_well_again(w: World) -> None:
    """It is looked at before the registry is asked, which may still have no such model."""
    await adopted(w)
    no = as_json(500, {"error": "open /models/a: permission denied"})
    w.ollama.withdraw("m:1")
    w.gateway.answer(no, "POST /api/show")
    await look_again(w)
    await stalled(w)
    w.gateway.let_through()
    await w.patch("m", {"metadata": {"annotations": {REFRESH: "now"}}})
    status = await w.ready("m")
    assert "fault" not in status
    status = await w.until("m", lambda s: reason(s) == "RefreshFailed")
    assert condition(status, "Ready") == "True"


@pytest.mark.parametrize("how", ["spoil", "break_blob"])
async def test_what_no_registry_has_is_not_deleted_to_be_repaired(w: World, how) -> None:
    """It is Stalled, and says which command would give it up."""
    await adopted(w)
    getattr(w.ollama, how)("m:1")
    w.ollama.withdraw("m:1")
    await look_again(w)
    status = await stalled(w)
    assert (reason(status), status["origin"]) == ("ModelUnknown", "Adopted")
    assert "not deleted" in status["error"]
    assert "ollama rm m:1" in status["error"]
    await anyio.sleep(4 * 3600)
    assert asked(w) == (1, 0)
    assert "m:1" in w.ollama.models
    w.ollama.publish("m:1", MB, MB)
    await w.patch("m", {"metadata": {"annotations": {REFRESH: "now"}}})
    await w.ready("m")
    assert w.ollama.is_whole("m:1")


async def test_a_registry_that_is_away_costs_no_model(w: World) -> None:
    """The repair is tried again until the registry is there; only then is anything deleted."""
    await adopted(w)
    w.ollama.spoil("m:1")
    w.ollama.trouble("m:1", *[PullTrouble(error="max retries exceeded: EOF")] * 5)
    await look_again(w)
    status = await w.until("m", lambda s: reason(s) == "RegistryUnavailable")
    assert status["fault"]["confirmed"]
    assert asked(w)[1] == 0
    await w.ready("m")
    assert asked(w) == (7, 1)


# --- where the deletion is right


async def test_a_bad_configuration_that_stayed_is_deleted_and_pulled(w: World) -> None:
    """After a mismatch a pull says success, and the model is in no list: only DELETE helps."""
    w.ollama.publish("m:1", MB, MB)
    w.ollama.trouble("m:1", PullTrouble(error=MISMATCH, spoils=True))
    await w.apply("m", "m:1")
    await w.until("m", lambda s: reason(s) == "DigestMismatch")
    await w.until("m", lambda s: reason(s) == "VerificationFailed")
    assert asked(w) == (2, 0)
    await w.ready("m")
    assert w.ollama.is_whole("m:1")
    assert asked(w) == (4, 1)


async def test_what_a_damaged_download_left_goes_with_its_object(w: World) -> None:
    """It is in no list, and all of its weights are on the disk: the object's deletion has it go."""
    w.ollama.publish("m:1", MB, MB)
    w.ollama.trouble("m:1", PullTrouble(error=MISMATCH, spoils=True))
    await w.apply("m", "m:1")
    await w.until("m", lambda s: reason(s) == "VerificationFailed")
    assert "m:1" in w.ollama.models
    await w.delete("m")
    await w.gone("m")
    assert w.ollama.models == {}


async def test_a_name_that_the_server_does_not_take_leaves_nothing_to_delete(w: World) -> None:
    """It can have no such model, so its object goes."""
    name = "m" * 81
    await w.apply("m", f"{name}:1")
    await w.until("m", lambda s: reason(s) == "InvalidName")
    await w.delete("m")
    await w.gone("m", within_s=5)
    assert asked(w)[1] == 0


# --- what this Ollama cannot use


async def test_a_model_that_this_ollama_cannot_use_is_downloaded_once(w: World) -> None:
    """It is Stalled with Ollama's words and version, for hours; never deleted, never pulled."""
    w.ollama.unusable["m:1"] = TEMPLATE
    w.ollama.publish("m:1", MB, MB)
    await w.apply("m", "m:1")
    status = await stalled(w, within_s=60)
    assert (reason(status), condition(status, "Ready")) == ("ModelUnsupported", "False")
    assert TEMPLATE in status["error"]
    assert status["serverVersion"] == "0.17.4"
    await anyio.sleep(4 * 3600)
    await w.patch("m", {"spec": {"interval": "30s"}})
    await w.until("m", lambda s: s["observedGeneration"] == 2)
    await w.stop()
    w.start()
    await anyio.sleep(600)
    assert reason((await w.get("m"))["status"]) == "ModelUnsupported"
    assert asked(w) == (1, 0)
    w.ollama.unusable.clear()
    w.ollama.version = "0.18.0"
    status = await w.ready("m", within_s=130)
    assert asked(w) == (1, 0)
    assert "fault" not in status


async def test_it_is_tried_again_when_the_digest_changes(w: World) -> None:
    """By a refresh, once there is another version."""
    w.ollama.unusable["m:1"] = TEMPLATE
    w.ollama.publish("m:1", MB, MB)
    await w.apply("m", "m:1")
    await stalled(w)
    w.ollama.publish("m:1", MB, MB, seed="mended")
    w.ollama.unusable.clear()
    await w.patch("m", {"metadata": {"annotations": {REFRESH: "now"}}})
    await w.until("m", lambda s: s.get("lastHandledRefresh") == "now")
    await w.ready("m")
    assert asked(w)[1] == 0


async def test_a_refresh_to_a_version_that_cannot_be_used_deletes_nothing(w: World) -> None:
    """It came afresh, so it is Stalled after one download."""
    w.ollama.publish("m:1", MB, MB)
    await w.apply("m", "m:1")
    await w.ready("m")
    w.ollama.publish("m:1", MB, MB, seed="worse")
    w.ollama.unusable["m:1"] = "unexpected end of JSON input"
    await w.patch("m", {"metadata": {"annotations": {REFRESH: "now"}}})
    await w.until("m", lambda s: reason(s) == "ModelUnsupported")
    await anyio.sleep(3600)
    assert asked(w)[1] == 0
    w.ollama.publish("m:1", MB, MB, seed="mended")
    w.ollama.unusable.clear()
    await w.ready("m", within_s=400)


async def test_an_index_is_downloaded_once_and_called_what_it_may_be(w: World) -> None:
    """Ollama takes it, lists it with no bytes, and has no such model when asked."""
    w.ollama.publish_index("m:1")
    await w.apply("m", "m:1")
    status = await stalled(w, within_s=60)
    assert reason(status) == "ModelUnsupported"
    assert "OCI index" in status["error"]
    await anyio.sleep(4 * 3600)
    assert asked(w) == (1, 0)


async def test_what_was_in_vain_for_one_object_is_not_done_for_another(w: World) -> None:
    """All of them are Stalled after one download for the one model that they name."""
    w.ollama.unusable["m:1"] = "unexpected end of JSON input"
    w.ollama.publish("m:1", MB, MB)
    for name in ("m", "n"):
        await w.apply(name, "m:1")
    for name in ("m", "n"):
        assert reason(await stalled(w, name)) == "ModelUnsupported"
    await w.apply("late", "m:1")
    assert reason(await stalled(w, "late")) == "ModelUnsupported"
    assert asked(w) == (1, 0)


async def test_one_that_is_removed_by_hand_is_pulled_again(w: World) -> None:
    """As the message says; it may be another one by now."""
    w.ollama.unusable["m:1"] = "unexpected end of JSON input"
    w.ollama.publish("m:1", MB, MB)
    await w.apply("m", "m:1")
    status = await stalled(w)
    assert "ollama rm m:1" in status["error"]
    w.ollama.unusable.clear()
    w.ollama.lose("m:1")
    await w.ready("m")
    assert asked(w) == (2, 0)
