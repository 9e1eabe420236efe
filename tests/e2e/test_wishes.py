"""What a spec may wish beyond a name and a tag, and what other tools make of the answers."""

from datetime import UTC, datetime, timedelta

import pytest

from support.kube.controlplane import KubectlError
from support.kube.kstatus import Verdict, kstatus
from support.ollama.registry import Faults
from support.process.operator import PATIENCE, condition, reason, wait_until

pytestmark = pytest.mark.real

BIG = 6_000_000  # bytes


# suspend


def test_a_suspended_object_is_judged_right_by_any_tool(registry, ollama, models) -> None:
    """Never Ready, it has Failed for whoever waits; Ready before, it is Current all the time."""
    registry.publish("paused", seed=301)
    models.want("paused", "paused:latest", suspend=True)
    status = models.until("paused", lambda s: reason(s) == "Suspended")
    assert kstatus(models.get("paused")) is Verdict.FAILED
    assert "paused:latest" not in ollama.digests()
    with pytest.raises(KubectlError, match="timed out"):
        models.kubectl("wait", "om/paused", "--for=condition=Ready", "--timeout=1s")

    models.want("paused", "paused:latest")
    models.kubectl("wait", "om/paused", "--for=condition=Ready", PATIENCE)
    models.kubectl("wait", "om/paused", "--for=jsonpath={.status.state}=Ready", PATIENCE)
    assert kstatus(models.get("paused")) is Verdict.CURRENT

    models.want("paused", "paused:latest", suspend=True)
    status = models.until("paused", lambda s: reason(s) == "Suspended")
    generation = models.get("paused")["metadata"]["generation"]
    assert generation == status["observedGeneration"] == 3
    assert generation == condition(status, "Ready", "observedGeneration")
    assert kstatus(models.get("paused")) is Verdict.CURRENT
    ollama.delete("paused")

    models.want("paused", "paused:latest")
    models.told("paused", "Suspended", "Resumed", "ModelLost", "ModelRestored")
    models.ready("paused")


def test_a_pull_under_way_is_in_progress_for_any_tool(registry, models) -> None:
    """Up to Ready there is no moment at which a tool would take the object for done, or failed."""
    registry.publish("judged", seed=302, size=BIG)
    registry.set_faults("judged", Faults(rate=3_000_000))
    models.want("judged", "judged:latest")
    seen = []

    def judge() -> bool:
        seen.append(kstatus(models.get("judged")))
        return seen[-1] is Verdict.CURRENT

    wait_until(judge, lambda: f"seen {seen}")
    assert {Verdict.IN_PROGRESS} == set(seen[:-1])
    assert models.get("judged")["status"]["state"] == "Ready"


# timeout


def test_a_slow_pull_gets_there_in_several_tries(registry, models) -> None:
    """Each try ends with its time and says so, and the next one goes on from what has come."""
    digest = registry.publish("slow", seed=303, size=BIG)
    registry.set_faults("slow", Faults(rate=750_000))

    models.want("slow", "slow:latest", timeout="6s")

    status = models.until("slow", lambda s: reason(s) == "PullTimedOut")
    assert "6 s (spec.timeout)" in status["error"]
    assert (status["state"], kstatus(models.get("slow"))) == ("Failed", Verdict.IN_PROGRESS)
    status = models.ready("slow")
    assert digest == status["digest"]
    assert {"error", "attempts", "nextRetryTime"}.isdisjoint(status)
    assert registry.sent("slow") < 1.5 * BIG


# insecure


def test_a_registry_without_tls_has_to_be_allowed(registry, models) -> None:
    """Until then it is of no use, and the operator says whose fault that is."""
    registry.publish("plain", seed=304)
    models.want("plain", f"{registry.address}/library/plain:latest")
    models.until("plain", lambda s: reason(s) == "RegistryUnavailable")

    models.want("plain", f"{registry.address}/library/plain:latest", insecure=True)

    models.ready("plain")


# expectedDigest


def test_only_the_expected_digest_is_the_model(registry, models) -> None:
    """Another one is told, waits for a person, and is taken once it is the expected one."""
    digest = registry.publish("pinned", seed=305)
    models.want("pinned", "pinned:latest", expectedDigest="0" * 64)

    status = models.until("pinned", lambda s: reason(s) == "UnexpectedDigest")
    assert digest in status["error"]
    assert kstatus(models.get("pinned")) is Verdict.FAILED
    pulls = registry.count("manifests", "pinned")

    models.want("pinned", "pinned:latest", expectedDigest=f"sha256:{digest}")
    assert digest == models.ready("pinned")["digest"]
    assert pulls == registry.count("manifests", "pinned") == 1


def test_what_is_expected_is_waited_for_with_a_refresh(registry, models) -> None:
    """Once the registry serves the right version, a refresh brings it."""
    right = registry.publish("awaited", seed=306)
    registry.publish("awaited", seed=307)
    models.want("awaited", "awaited:latest", expectedDigest=right)
    models.until("awaited", lambda s: condition(s, "Stalled") == "True")

    registry.publish("awaited", seed=306)
    models.annotate("awaited", "refresh", "true")

    assert right == models.ready("awaited")["digest"]


# keepAlive


def test_a_model_is_kept_in_memory_as_long_as_that_is_wished(registry, ollama, models) -> None:
    """Status and Ollama agree: loaded for ever, again after somebody unloads it, and then not."""
    registry.publish("warm", seed=308)
    models.want("warm", "warm:latest", keepAlive="-1")
    status = models.until("warm", lambda s: s.get("loaded") is True)
    assert ("expiresAt" in status, status["state"]) == (False, "Ready")
    assert ollama.running()["warm:latest"] > "2100"

    ollama.load("warm", keep_alive=0)
    wait_until(lambda: "warm:latest" not in ollama.running(), lambda: "it stays")
    wait_until(lambda: "warm:latest" in ollama.running(), lambda: "it is not loaded again")
    models.until("warm", lambda s: s.get("loaded") is True)

    models.want("warm", "warm:latest")
    models.until("warm", lambda s: "loaded" not in s)
    wait_until(lambda: "warm:latest" not in ollama.running(), lambda: "it stays")


def test_a_model_that_only_embeds_is_kept_in_memory_too(registry, ollama, models) -> None:
    """And for a time, if that is the wish: the status says until when at the earliest."""
    registry.publish("vectors", seed=309, embeds=True)
    models.want("vectors", "vectors:latest", keepAlive="10m")

    status = models.until("vectors", lambda s: s.get("loaded") is True)

    left = datetime.fromisoformat(status["expiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=7) < left <= timedelta(minutes=10)
    assert "vectors:latest" in ollama.running()
    assert reason(status) == "Available"


def test_the_second_name_of_a_model_in_memory_is_loaded_too(registry, ollama, models) -> None:
    """Ollama lists one model under two tags once; neither object takes the other's for missing."""
    for tag in ("one", "two"):
        registry.publish("alias", tag, seed=310)
        models.want(f"alias-{tag}", f"alias:{tag}", keepAlive="-1")
        status = models.until(f"alias-{tag}", lambda s: s.get("loaded") is True)
        assert reason(status) == "Available"
    assert "alias:one" in ollama.running()


# What a mistake looks like


def test_an_option_that_cannot_be_meant_names_its_field(registry, models) -> None:
    """What the schema cannot know is told by the status, and a correction is taken at once."""
    registry.publish("wrong", seed=311)
    window = {"schedule": "0 3 * * *", "duration": "2h", "timeZone": "Mars/Olympus"}
    models.want("wrong", "wrong:latest", refreshInterval="24h", refreshWindow=window)

    status = models.until("wrong", lambda s: reason(s) == "InvalidSpec")
    assert status["error"].startswith("spec.refreshWindow.timeZone: ")
    assert kstatus(models.get("wrong")) is Verdict.FAILED

    window["timeZone"] = "Europe/Berlin"
    models.want("wrong", "wrong:latest", refreshInterval="24h", refreshWindow=window)
    status = models.ready("wrong")
    assert datetime.fromisoformat(status["nextRefreshTime"]) > datetime.now(UTC)
