"""Models that are well stay well on real parts, and go only when nobody needs them."""

import re
import time
from collections.abc import Iterator

import pytest

from crd.v1alpha1 import REFRESH
from support.kube.controlplane import ControlPlane
from support.kube.kstatus import Verdict, kstatus
from support.ollama.registry import Faults, Registry
from support.ollama.server import OllamaServer
from support.process.operator import Models, condition, reason, wait_until

pytestmark = pytest.mark.real

BIG = 8_000_000  # bytes; at SLOW, far longer than any test needs to break in
SLOW = Faults(rate=500_000)


@pytest.fixture
def begun(registry: Registry):
    """Return what waits until bytes of a model's weights come."""

    def wait(name: str) -> None:
        wait_until(lambda: registry.sent(name) > SLOW.rate // 4, lambda: f"no bytes of {name}")

    return wait


@pytest.fixture
def mortal(ollama: OllamaServer) -> Iterator[OllamaServer]:
    """Give an Ollama that a test may stop; it runs again afterwards."""
    yield ollama
    if ollama.process.pid is None:
        ollama.start()


# Refreshes


def test_a_token_is_served_once_and_echoed(registry, ollama, models) -> None:
    """The annotation stays as it was written; a loaded old version is not left in memory."""
    registry.publish("token", seed=201)
    models.want("token", "token:latest")
    models.ready("token")
    ollama.load("token", keep_alive=-1)

    # So slow that Ollama tells of bytes to come, as it does of any model that fills memory.
    new = registry.publish("token", seed=202, size=1_000_000)
    registry.set_faults("token", SLOW)
    models.annotate("token", "refresh", "monday")

    status = models.until("token", lambda s: s.get("lastHandledRefresh") == "monday")
    assert new == status["digest"] == ollama.digests()["token:latest"]
    assert models.get("token")["metadata"]["annotations"][REFRESH] == "monday"
    assert "token:latest" not in ollama.running()
    models.told("token", "RefreshStarted", "RefreshCompleted")
    assert registry.count("manifests", "token") == 2


def test_a_refresh_asked_for_during_a_pull_is_not_lost(registry, models, begun) -> None:
    """What the registry has by then is newer than what is being downloaded, and comes after it."""
    registry.publish("midway", seed=203, size=BIG)
    registry.set_faults("midway", SLOW)
    models.want("midway", "midway:latest")
    begun("midway")

    new = registry.publish("midway", seed=204)
    models.annotate("midway", "refresh", "true")
    registry.faults = Faults()

    models.until("midway", lambda s: (s.get("digest"), s["state"]) == (new, "Ready"))
    wait_until(
        lambda: "completed-" in models.get("midway")["metadata"]["annotations"][REFRESH],
        lambda: "the annotation stays",
    )
    done = models.get("midway")["metadata"]["annotations"][REFRESH]
    assert re.fullmatch(r"completed-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", done)


def test_a_refresh_asked_for_during_a_refresh_is_not_lost(registry, models) -> None:
    """Two wishes are two questions to the registry, and the model stays Ready for both."""
    registry.publish("twice", seed=205)
    models.want("twice", "twice:latest")
    models.ready("twice")
    registry.publish("twice", seed=206, size=BIG)
    before = registry.sent("twice")
    registry.set_faults("twice", SLOW)
    models.annotate("twice", "refresh", "one")
    wait_until(lambda: registry.sent("twice") > before, lambda: "no bytes of the second version")

    new = registry.publish("twice", seed=207)
    models.annotate("twice", "refresh", "two")
    assert models.get("twice")["status"]["state"] == "Ready"
    registry.faults = Faults()

    status = models.until("twice", lambda s: s.get("lastHandledRefresh") == "two")
    assert new == status["digest"]


# Losses


def test_an_interval_of_its_own_finds_a_loss_soon(registry, ollama, models, operator) -> None:
    """The operator's own interval is ten minutes; this model's is one second."""
    registry.publish("watched", seed=210)
    operator.restart("--health-interval=10m")
    try:
        models.want("watched", "watched:latest", interval="1s")
        models.ready("watched")
        ollama.delete("watched")
        models.told("watched", "ModelLost", "ModelRestored")
        models.ready("watched")
        assert "watched:latest" in ollama.digests()
    finally:
        operator.restart()


@pytest.mark.parametrize(("damage", "seed"), [("gone", 211), ("torn", 212)])
def test_a_damaged_model_is_mended_once_it_is_looked_at(
    registry, ollama, models, damage, seed
) -> None:
    """Ollama lists it as ever; a resumed object is shown again, and so pulled afresh."""
    name = f"damaged-{damage}"
    digest = registry.publish(name, seed=seed)
    models.want(name, f"{name}:latest")
    models.ready(name)
    models.want(name, f"{name}:latest", suspend=True)
    models.until(name, lambda s: reason(s) == "Suspended")

    weights = ollama.weights(name)
    weights.unlink()
    if damage == "torn":
        weights.write_bytes(b"GGUF")
    assert f"{name}:latest" in ollama.digests()
    models.want(name, f"{name}:latest")

    models.told(name, "ModelRestored")
    assert digest == models.ready(name)["digest"]
    assert ollama.show(name).is_success


def test_after_an_outage_only_what_is_damaged_is_pulled(registry, mortal, models) -> None:
    """Nothing is known while Ollama is away; when it is back, what is whole is left in peace."""
    names = ["whole", "hurt"]
    for seed, name in enumerate(names, 213):
        registry.publish(name, seed=seed)
        models.want(name, f"{name}:latest")
    models.ready(*names)
    weights = mortal.weights("hurt")
    registry.forget_requests()

    mortal.stop()
    for name in names:
        status = models.until(name, lambda s: reason(s) == "OllamaUnreachable")
        assert condition(status, "Ready") == "Unknown"
        assert kstatus(models.get(name)) is Verdict.IN_PROGRESS
    weights.unlink()
    mortal.start()

    models.ready(*names)
    assert mortal.show("hurt").is_success
    assert (registry.count("manifests", "whole"), registry.count("manifests", "hurt")) == (0, 1)
    assert registry.count("blobs", "whole") == 0


# Who goes, and what stays


def test_a_change_of_tag_keeps_what_both_share(registry, ollama, models) -> None:
    """The new model is whole although the old one, which shares a layer with it, is gone."""
    for number, tag in enumerate(("old", "new")):
        registry.publish("swap", tag, seed=220 + number, shared_layer_seed=22)
    models.want("swap", "swap:old")
    models.ready("swap")

    models.want("swap", "swap:new")

    models.told("swap", "Discarded")
    assert "swap:old" not in ollama.digests()
    assert models.ready("swap")["ownedModels"] == ["swap:new"]
    assert ollama.show("swap:new").is_success
    assert ollama.generate("swap:new", "hello")["eval_count"]


def test_objects_that_share_a_model_say_so(registry, ollama, cluster: ControlPlane, models) -> None:
    """In two namespaces: one download, a count on both, and the last one takes the model along."""
    registry.publish("common", seed=223)
    other = Models(cluster, "care-too")
    for each in (models, other):
        each.want("common", "common:latest")
    for each in (models, other):
        assert each.until("common", lambda s: s.get("sharedWith") == 1)
        each.ready("common")
    assert registry.count("manifests", "common") == 1

    models.remove("common")
    assert "common:latest" in ollama.digests()
    other.until("common", lambda s: "sharedWith" not in s)
    other.remove("common")
    assert "common:latest" not in ollama.digests()


def test_a_retained_model_outlives_its_object(registry, ollama, models) -> None:
    """The object goes at once, its model stays, and an event says so."""
    registry.publish("heirloom", seed=224)
    models.want("heirloom", "heirloom:latest", deletionPolicy="Retain")
    models.ready("heirloom")

    models.remove("heirloom")

    models.told("heirloom", "Retained")
    assert "heirloom:latest" in ollama.digests()


def test_a_deletion_in_an_outage_waits_or_is_forced(registry, mortal, models) -> None:
    """One waits for Ollama and takes its model along; the other goes and leaves it, and says so."""
    names = ["waiting", "forced"]
    for seed, name in enumerate(names, 225):
        registry.publish(name, seed=seed)
        models.want(name, f"{name}:latest")
    models.ready(*names)

    mortal.stop()
    models.delete(*names)
    for name in names:
        models.until(name, lambda s: reason(s) == "DeletionBlocked")
        assert kstatus(models.get(name)) is Verdict.TERMINATING
    models.annotate("forced", "force-delete", "true")
    models.gone("forced")
    models.told("forced", "DeletionBlocked", "ForcedDelete")
    assert models.exists("waiting")
    mortal.start()

    models.gone("waiting")
    models.told("waiting", "DeletionBlocked", "Deleted")
    assert ("waiting:latest" in mortal.digests(), "forced:latest" in mortal.digests()) == (
        False,
        True,
    )


def test_a_deletion_during_a_pull_leaves_nothing(registry, ollama, models, begun) -> None:
    """Neither a model nor a download that goes on behind everybody's back."""
    registry.publish("unborn", seed=227, size=BIG)
    registry.set_faults("unborn", SLOW)
    models.want("unborn", "unborn:latest")
    begun("unborn")

    models.remove("unborn")

    registry.faults = Faults()
    assert registry.sent("unborn") < BIG
    assert "unborn:latest" not in ollama.digests()


def test_a_deletion_while_ollama_verifies_leaves_nothing(registry, ollama, models) -> None:
    """Ollama writes such a model even when nobody listens any more; it goes all the same."""
    size = 150_000_000  # it takes a moment to verify
    registry.publish("verified", seed=228, size=size)
    models.want("verified", "verified:latest")
    wait_until(lambda: registry.sent("verified") >= size, lambda: "not all bytes came")

    models.kubectl("delete", "om", "verified", "--timeout=60s")

    time.sleep(5)
    assert "verified:latest" not in ollama.digests()
