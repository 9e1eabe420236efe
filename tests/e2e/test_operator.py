"""The operator's whole job on real parts, driven and watched the way a user does it."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crd.v1alpha1 import FINALIZER
from support.kube.controlplane import ControlPlane
from support.ollama.registry import Faults, Registry
from support.ollama.server import OllamaServer
from support.process.operator import (
    PATIENCE,
    Models,
    Operator,
    cell,
    clear,
    condition,
    manifest,
    reason,
    wait_until,
)

pytestmark = pytest.mark.real

BIG = 16_000_000  # bytes; at SLOW, far longer than any test needs to break in
SLOW = Faults(rate=1_000_000)
MIB = 2**20


@pytest.fixture(scope="module", autouse=True)
def operator(cluster: ControlPlane, ollama: OllamaServer) -> Iterator[Operator]:
    """Run one operator for all these tests; each leaves it running."""
    with Operator(cluster.kubeconfig, ollama.url) as operator:
        yield operator
        clear(cluster)
        assert operator.stop() == 0


@pytest.fixture(autouse=True)
def _no_bugs(operator: Operator) -> Iterator[None]:
    yield
    assert operator.bugs() == []


@pytest.fixture(scope="module")
def models(cluster: ControlPlane) -> Models:
    return Models(cluster)


@pytest.fixture
def slow(registry: Registry, models: Models):
    """Begin a pull that would last for many seconds; return the model's digest once bytes flow."""

    def begin(name: str, **published: Any) -> str:
        digest = registry.publish(name, **{"size": BIG} | published)
        registry.set_faults(name, SLOW)
        models.apply(name, f"{name}:latest")
        wait_until(lambda: _sent(registry, name) > SLOW.rate // 4, lambda: f"no bytes of {name}")
        return digest

    return begin


@dataclass
class Pull:
    """What was seen of one pull, from apply to Ready."""

    digest: str
    early: dict[str, Any] = field(default_factory=dict)  # the object, before the first byte
    progress: list[dict[str, Any]] = field(default_factory=list)  # each that the status showed
    table: str = ""  # of kubectl get, with the first progress
    late: dict[str, Any] = field(default_factory=dict)  # the object, Ready


@pytest.fixture(scope="module")
def pull(registry: Registry, models: Models) -> Pull:
    """Apply a model, and look on until it is Ready."""
    seen = Pull(registry.publish("journey", "7b", seed=101, size=BIG))
    registry.set_faults("journey", SLOW)
    models.apply("journey", "journey:7b")
    models.until("journey", lambda status: status.get("state") == "Pulling")
    seen.early = models.get("journey")

    def look(status: dict[str, Any]) -> bool:
        progress = status.get("progress")
        if progress and progress not in seen.progress:
            seen.progress.append(progress)
            seen.table = seen.table or models.kubectl("get", "om", "journey")
        return len(seen.progress) == 2

    models.until("journey", look)
    registry.faults = Faults()
    models.kubectl("wait", "om/journey", "--for=condition=Ready", PATIENCE)
    seen.late = models.get("journey")
    return seen


# From apply to Ready


def test_the_finalizer_comes_before_the_first_byte(pull) -> None:
    """An object that is Pulling can no longer vanish without the operator."""
    assert pull.early["metadata"]["finalizers"] == [FINALIZER]


def test_progress_shows_while_bytes_come(pull) -> None:
    """The status tells how much, how fast and how long; no figure goes back."""
    first, second = pull.progress
    assert 0 < first["completedBytes"] < second["completedBytes"]
    assert BIG <= first["totalBytes"] <= second["totalBytes"] < BIG + MIB
    assert 0 < first["percent"] < second["percent"] < 100
    assert f"{first['percent']}%" == first["text"]
    # A busy machine gets less than the registry sends, and no machine gets much more.
    assert 0 < second["bytesPerSecond"] < SLOW.rate * 1.6
    left = second["totalBytes"] - second["completedBytes"]
    assert second["etaSeconds"] == pytest.approx(left / second["bytesPerSecond"], rel=0.2, abs=2)


def test_kubectl_get_shows_the_percentage(pull) -> None:
    """Who runs `kubectl get om` sees the pull get on."""
    assert pull.table.split()[:5] == ["NAME", "TAG", "STATE", "SIZE", "AGE"]
    assert cell(pull.table, 1, "TAG") == "7b"
    assert cell(pull.table, 1, "STATE") == "Pulling"
    assert pull.progress[0]["text"] == cell(pull.table, 1, "PROGRESS")


def test_ready_tells_what_ollama_has(pull, ollama, models) -> None:
    """Digest and size are those of /api/tags, and nothing of the download is left over."""
    (entry,) = [entry for entry in ollama.tags() if entry["name"] == "journey:7b"]
    status = pull.late["status"]
    assert (pull.digest, entry["digest"]) == (status["digest"], status["digest"])
    assert entry["size"] == status["size"]
    assert f"{entry['size'] / MIB:.1f} MiB" == status["formattedSize"]
    age = datetime.now(UTC) - datetime.fromisoformat(status["lastPullTime"])
    assert timedelta() <= age < timedelta(minutes=5)
    assert pull.late["metadata"]["generation"] == status["observedGeneration"]
    assert {"error", "progress", "attempts", "nextRetryTime"}.isdisjoint(status)
    assert status["formattedSize"] == cell(models.kubectl("get", "om", "journey"), 1, "SIZE")


def test_kubectl_can_wait_for_the_state(pull, models) -> None:
    """Scripts may wait for the one word as well as for the condition."""
    models.kubectl("wait", "om/journey", "--for=jsonpath={.status.state}=Ready", "--timeout=1s")
    assert condition(pull.late["status"], "Ready") == "True"


def test_eight_models_at_once_become_ready(registry, ollama, models) -> None:
    """More models than may be pulled at a time, in one apply: all get there."""
    names = [f"eight-{n}" for n in range(8)]
    digests = {
        f"{name}:latest": registry.publish(name, seed=110 + n) for n, name in enumerate(names)
    }
    items = [manifest(name, name) for name in names]
    together = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})

    models.kubectl("apply", "-f", "-", input=together)

    models.kubectl("wait", "om", *names, "--for=condition=Ready", PATIENCE)
    assert digests.items() <= ollama.digests().items()


# What can be wrong with a pull


def test_an_unknown_model_fails_until_the_spec_is_corrected(registry, models) -> None:
    """What only a person can mend is said as such, and mended by editing the spec."""
    registry.publish("corrected", seed=120)
    models.apply("corrected", "korrected:latest")

    status = models.until("corrected", lambda status: condition(status, "Stalled") == "True")
    assert (status["state"], reason(status)) == ("Failed", "ModelUnknown")
    assert "korrected:latest" in status["error"]

    models.apply("corrected", "corrected:latest")
    status = models.ready("corrected")
    assert condition(status, "Stalled") is None
    assert "error" not in status


SHARDED = "The specified repository contains sharded GGUF. Ollama does not support this yet."


VERDICTS = {  # what is wrong with the registry, the reason, and words of the message
    "sharded": (
        Faults(status={"manifests": 400}, body=json.dumps({"error": SHARDED})),
        "RegistryRefused",
        f"HTTP 400: {SHARDED[:-1]}",
    ),
    "disallowed": (
        Faults(status={"manifests": 405}, body='{"errors":[{"message":"not for you"}]}'),
        "RegistryRefused",
        "HTTP 405: not for you",
    ),
    "in-place": (Faults(in_place=True), "RegistryUnsupported", "no Location header"),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_a_registrys_verdict_is_told_in_its_own_words(registry, models, name) -> None:
    """Once, and Stalled: whoever waits for the model is told at once, and may ask again."""
    faults, why, words = VERDICTS[name]
    registry.publish(name, seed=1220 + [*VERDICTS].index(name))
    registry.set_faults(name, faults)
    models.apply(name, f"{name}:latest")

    status = models.until(name, lambda status: condition(status, "Stalled") == "True")
    assert (status["state"], reason(status), status["attempts"]) == ("Failed", why, 1)
    assert words in status["error"]

    registry.set_faults(name, Faults())
    models.kubectl("annotate", "om", name, "ollama.smithforge.dev/refresh=true")
    models.ready(name)


def test_a_web_page_is_not_the_registrys_word(registry, models) -> None:
    """A proxy's page, with whatever status, is waited out."""
    registry.publish("behind", seed=123)
    page = "<!DOCTYPE html><html><body>Blocked</body></html>"
    for status in (403, 200):
        registry.set_faults("behind", Faults(status={"manifests": status}, body=page))
        models.apply("behind", "behind:latest")
        told = models.until("behind", lambda status: reason(status) == "RegistryUnavailable")
        assert condition(told, "Reconciling") == "True"
        assert "web page" in told["error"]
        registry.set_faults("behind", Faults())
        models.ready("behind")
        models.delete("behind")
        models.gone("behind")


def test_a_stalled_registry_is_said_and_outlived(registry, models, operator) -> None:
    """A download that stands still is given up, and tried again until the registry is well."""
    registry.publish("stands", seed=121, size=BIG)
    registry.set_faults("stands", Faults(stall_after=1_000_000))
    operator.restart("--stall-timeout=3s")
    try:
        models.apply("stands", "stands:latest")
        status = models.until("stands", lambda status: reason(status) == "PullStalled")
        assert (status["state"], condition(status, "Reconciling")) == ("Failed", "True")
        assert status["nextRetryTime"]
        registry.faults = Faults()
        models.ready("stands")
    finally:
        operator.restart()


# Parts that die


def test_a_killed_operator_goes_on_where_it_was(slow, registry, ollama, models, operator) -> None:
    """SIGKILL in the middle of a pull costs nothing but time."""
    digest = slow("orphan", seed=130)

    operator.kill()
    assert models.get("orphan")["status"]["state"] == "Pulling"
    registry.faults = Faults()
    operator.start()

    assert digest == models.ready("orphan")["digest"] == ollama.digests()["orphan:latest"]
    assert models.get("orphan")["metadata"]["finalizers"] == [FINALIZER]


def test_a_killed_ollama_is_waited_for(slow, registry, ollama, models) -> None:
    """SIGKILL of Ollama in the middle of a pull heals by itself once it is back."""
    digest = slow("stranded", seed=131)

    ollama.kill()
    try:
        models.until("stranded", lambda status: reason(status) == "OllamaUnreachable")
        registry.faults = Faults()
    finally:
        ollama.start()

    status = models.ready("stranded")
    assert digest == status["digest"] == ollama.digests()["stranded:latest"]
    assert "error" not in status


def test_an_orderly_end_does_not_wait_for_a_pull(slow, registry, models, operator) -> None:
    """SIGTERM in the middle of a pull: exit code 0, with most to come; the next one finishes it."""
    digest = slow("paused", seed=132)

    assert operator.stop() == 0
    assert _sent(registry, "paused") < BIG

    registry.faults = Faults()
    operator.start()
    assert digest == models.ready("paused")["digest"]


def test_an_absent_api_server_stops_no_pull(slow, registry, ollama, models, operator) -> None:
    """What was done while the API server was away is told afterwards, and life goes on."""
    digest = slow("unheard", seed=133)

    models.cluster.stop_apiserver()
    try:
        registry.faults = Faults()
        wait_until(lambda: "unheard:latest" in ollama.digests(), lambda: "the pull ended")
        assert operator.pid
    finally:
        models.cluster.start_apiserver()

    assert digest == models.ready("unheard")["digest"]
    models.delete("unheard")
    models.gone("unheard")
    assert "unheard:latest" not in ollama.digests()


# Deletion


def test_deletion_takes_the_model_along(registry, ollama, models) -> None:
    """When the object is gone, so is the model."""
    registry.publish("leaver", seed=140)
    models.apply("leaver", "leaver:latest")
    models.ready("leaver")

    models.remove("leaver")

    assert not models.exists("leaver")
    assert "leaver:latest" not in ollama.digests()


def test_deletion_ends_a_pull(slow, registry, ollama, models) -> None:
    """Nobody waits for a download that nobody wants, and none of it appears later."""
    slow("unwanted", seed=141)

    models.remove("unwanted")

    registry.faults = Faults()  # a download that went on would now end at once
    time.sleep(0.5)
    assert _sent(registry, "unwanted") < BIG
    assert "unwanted:latest" not in ollama.digests()


def test_deletion_waits_for_an_absent_ollama(registry, ollama, models) -> None:
    """No object goes while its model's removal is unconfirmed; its status says why it stays."""
    registry.publish("clinging", seed=142)
    models.apply("clinging", "clinging:latest")
    models.ready("clinging")

    ollama.stop()
    try:
        models.delete("clinging")
        status = models.until("clinging", lambda status: reason(status) == "DeletionBlocked")
        assert "force-delete" in status["error"]
        time.sleep(3)  # longer than the health interval: the outage is known by now
        assert models.get("clinging")["metadata"]["finalizers"] == [FINALIZER]
    finally:
        ollama.start()

    models.gone("clinging")
    assert "clinging:latest" not in ollama.digests()


def test_a_model_of_two_objects_goes_with_the_second(registry, ollama, cluster) -> None:
    """Two teams that want one model share one download, and neither takes it from the other."""
    registry.publish("twin", seed=143)
    a, b = Models(cluster, "team-a"), Models(cluster, "team-b")
    for team in (a, b):
        team.apply("twin", "twin:latest")
    for team in (a, b):
        team.ready("twin")
    assert registry.count("manifests", "twin") == 1

    a.remove("twin")
    assert "twin:latest" in ollama.digests()
    b.remove("twin")
    assert "twin:latest" not in ollama.digests()


def test_deletion_breaks_no_pull_that_shares_a_layer(slow, registry, ollama, models) -> None:
    """The deletion does not wait for the other's download, and the other ends up whole."""
    registry.publish("sharer", seed=144, shared_layer_seed=14)
    models.apply("sharer", "sharer:latest")
    models.ready("sharer")
    slow("heir", seed=145, shared_layer_seed=14)

    models.remove("sharer")
    assert models.get("heir")["status"]["state"] == "Pulling"
    registry.faults = Faults()

    models.ready("heir")
    assert ollama.show("heir").is_success
    assert _sent(registry, "heir") < BIG + MIB  # nothing that had come was thrown away


def test_a_refresh_breaks_no_pull_that_shares_a_layer(slow, registry, ollama, models) -> None:
    """Ollama drops layers of a version that it replaces, too; the other pull ends up whole."""
    registry.publish("mover", seed=146, shared_layer_seed=15)
    models.apply("mover", "mover:latest")
    models.ready("mover")
    slow("follower", seed=147, shared_layer_seed=15)

    new = registry.publish("mover", seed=148)
    models.annotate("mover", "refresh", "true")
    models.until("mover", lambda status: status.get("digest") == new)
    assert models.get("follower")["status"]["state"] == "Pulling"
    registry.faults = Faults()

    models.ready("follower")
    assert ollama.show("follower").is_success
    assert _sent(registry, "follower") < BIG + MIB  # nothing that had come was thrown away


# What changes later


def test_a_model_lost_behind_our_back_comes_back(registry, ollama, models) -> None:
    """Somebody's `ollama rm` is noticed within the health interval, said, and undone."""
    digest = registry.publish("stray", seed=150)
    models.apply("stray", "stray:latest")
    models.ready("stray")

    ollama.delete("stray")

    wait_until(lambda: digest == ollama.digests().get("stray:latest"), lambda: "it stays away")
    models.ready("stray")
    wait_until(
        lambda: {"ModelLost", "ModelRestored"} <= set(models.events("stray")),
        lambda: f"events are {models.events('stray')}",
    )


def test_a_refresh_brings_the_new_version(registry, ollama, models) -> None:
    """The annotation is served once and says when; the old version stays in use meanwhile."""
    registry.publish("fresh", seed=151)
    models.apply("fresh", "fresh:latest")
    models.ready("fresh")
    states = set()

    new = registry.publish("fresh", seed=152)
    models.annotate("fresh", "refresh", "true")
    models.until("fresh", lambda status: states.add(status["state"]) or status.get("digest") == new)

    assert {"Ready"} == states
    assert new == ollama.digests()["fresh:latest"]
    done = models.get("fresh")["metadata"]["annotations"]["ollama.smithforge.dev/refresh"]
    assert re.fullmatch(r"completed-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", done)
    wait_until(
        lambda: "RefreshCompleted" in models.events("fresh"),
        lambda: f"events are {models.events('fresh')}",
    )


def test_another_tag_replaces_the_model(registry, ollama, models) -> None:
    """A changed spec brings the new model, and then takes the former away."""
    for number, tag in enumerate(("1b", "2b")):
        registry.publish("grown", tag, seed=153 + number)
    models.apply("grown", "grown:1b")
    models.ready("grown")

    models.apply("grown", "grown:2b")

    wait_until(
        lambda: "grown:1b" not in ollama.digests(), lambda: f"there is {sorted(ollama.digests())}"
    )
    assert "grown:2b" in ollama.digests()
    models.ready("grown")


def _sent(registry: Registry, name: str) -> int:
    """Count the bytes of a model's weights that the registry sent so far."""
    exchanges = [e for e in registry.requests if e.repo == f"library/{name}" and e.range]
    return sum(exchange.sent_bytes for exchange in exchanges)
