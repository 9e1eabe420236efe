"""The real parts work and behave as the operator takes for granted."""

import itertools
import json

import httpx
import pytest

from support.kube.controlplane import KubectlError
from support.ollama.gguf import gguf
from support.ollama.registry import Faults
from support.ollama.server import OllamaServer

pytestmark = pytest.mark.real

BIG = 4_000_000  # bytes; far more than the sockets between the two hold


def test_a_pull_by_short_name_brings_what_was_published(registry, ollama) -> None:
    """Ollama takes `phi3:mini` from the registry and shows the digest it was published with."""
    digest = registry.publish("phi3", "mini", seed=1)

    lines = ollama.pull("phi3:mini")

    assert lines[-1] == {"status": "success"}
    assert digest == ollama.digests()["phi3:mini"]


def test_a_pulled_model_generates_tokens(registry, ollama) -> None:
    """The tiny model is a real one: Ollama loads it and writes with it."""
    registry.publish("talker", seed=2)
    ollama.pull("talker")

    assert ollama.generate("talker", "hello", tokens=4)["eval_count"] == 4


def test_one_seed_is_one_model() -> None:
    """A model file is a function of its seed."""
    assert gguf(7) == gguf(7)
    assert gguf(7) != gguf(8)


def test_a_stalled_registry_streams_lines_that_stand_still(registry, ollama) -> None:
    """Lines keep coming while no byte does: `completed` freezes, and goes on once healed."""
    digest = registry.publish("stalled", seed=3, size=BIG)
    registry.set_faults("stalled", Faults(stall_after=1_000_000))

    with ollama.pulling("stalled") as lines:
        registry.wait_for_stall()
        weights = (line for line in lines if line.get("total") == BIG)
        seen = [line.get("completed", 0) for line in itertools.islice(weights, 30)]
        assert [seen[-1]] * 10 == seen[-10:]
        assert seen[-1] <= 1_000_000
        registry.faults = Faults()
        rest = list(lines)

    assert rest[-1] == {"status": "success"}
    assert digest == ollama.digests()["stalled:latest"]


def test_leaving_a_pull_cancels_its_download(registry, ollama) -> None:
    """A pull whose client has gone does not finish behind its back."""
    registry.publish("left", seed=4, size=BIG)
    registry.set_faults("left", Faults(stall_after=1_000_000))

    with ollama.pulling("left") as lines:
        registry.wait_for_stall()
        next(lines)

    registry.faults = Faults()
    assert "left:latest" not in ollama.digests()


def test_an_unknown_model_fails_inside_the_stream(ollama) -> None:
    """HTTP says 200, and the last line says that there is no such model."""
    with ollama.client.stream("POST", "/api/pull", json={"model": "nobody/has:it"}) as response:
        lines = [json.loads(line) for line in response.iter_lines()]

    assert response.status_code == 200
    assert lines[-1] == {"error": "pull model manifest: file does not exist"}


@pytest.mark.parametrize(
    ("repo", "faults", "words"),
    [
        pytest.param("ill", Faults(status={"manifests": 503}), "503", id="status"),
        pytest.param("bent", Faults(corrupt=True), "digest mismatch", id="corrupt"),
    ],
)
def test_a_fault_reaches_the_pull(registry, ollama, repo, faults, words) -> None:
    """What the registry gets wrong is in the error that ends the stream."""
    registry.publish(repo, seed=5)
    registry.set_faults(repo, faults)

    assert words in ollama.pull(repo)[-1]["error"]


def test_a_cut_connection_is_resumed(registry, ollama) -> None:
    """Ollama asks for the rest of a blob whose answer was cut."""
    digest = registry.publish("cut", seed=6, size=BIG)
    registry.set_faults("cut", Faults(drop_after=BIG // 2))

    ollama.pull("cut")

    assert digest == ollama.digests()["cut:latest"]
    assert f"bytes={BIG // 2}-{BIG - 1}" in {exchange.range for exchange in registry.requests}


def test_a_token_is_fetched_when_the_registry_asks(registry, ollama) -> None:
    """A registry that wants a bearer token gets one from Ollama."""
    digest = registry.publish("guarded", seed=9)
    registry.set_faults("guarded", Faults(auth=True))

    ollama.pull("guarded")

    assert digest == ollama.digests()["guarded:latest"]
    assert 401 in {exchange.status for exchange in registry.requests}


def test_a_delete_breaks_a_pull_that_shares_a_layer(registry, ollama) -> None:
    """The pull says success and the model is listed, but it is not whole until pulled again."""
    registry.publish("first", seed=10, shared_layer_seed=1)
    registry.publish("second", seed=11, size=BIG, shared_layer_seed=1)
    registry.set_faults("second", Faults(stall_after=1_000_000))
    ollama.pull("first")

    with ollama.pulling("second") as lines:
        registry.wait_for_stall()
        ollama.delete("first")
        registry.faults = Faults()
        assert list(lines)[-1] == {"status": "success"}

    assert "second:latest" in ollama.digests()
    assert ollama.show("second").status_code == 404
    ollama.pull("second")
    assert ollama.show("second").status_code == 200


def test_a_killed_server_keeps_its_models(registry) -> None:
    """After SIGKILL, Ollama comes back at the same address with the same models."""
    digest = registry.publish("lasting", seed=12)
    with OllamaServer(registry) as ollama:
        ollama.pull("lasting")
        ollama.kill()
        with pytest.raises(httpx.ConnectError):
            ollama.tags()
        ollama.start()
        assert {"lasting:latest": digest} == ollama.digests()


def test_the_cluster_answers_kubectl(cluster) -> None:
    """The kube-apiserver says the version it was built as, and serves objects."""
    version = json.loads(cluster.kubectl("version", "-o", "json"))
    assert version["clientVersion"]["gitVersion"] == version["serverVersion"]["gitVersion"]

    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))
    assert cluster.kubectl("get", "configmap/kept", "-o", "name") == "configmap/kept\n"
    assert cluster.get("/api/v1/namespaces/default/configmaps/kept")["metadata"]["name"] == "kept"


def test_a_failing_kubectl_says_why(cluster) -> None:
    """The error of kubectl is the error of the test."""
    with pytest.raises(KubectlError, match='configmaps "nowhere" not found'):
        cluster.kubectl("get", "configmap", "nowhere")


def test_who_has_no_rights_is_refused(cluster) -> None:
    """Only what RBAC allows is allowed."""
    cluster.kubectl("create", "serviceaccount", "nobody")
    token = cluster.kubectl("create", "token", "nobody").strip()
    theirs = cluster.kubeconfig_for("nobody", token)

    with pytest.raises(KubectlError, match="system:serviceaccount:default:nobody"):
        cluster.kubectl("get", "configmaps", kubeconfig=theirs)


def test_an_outage_keeps_every_object(cluster) -> None:
    """The kube-apiserver comes back at the same address with the same objects."""
    cluster.kubectl("create", "configmap", "outlives")
    cluster.stop_apiserver()
    try:
        with pytest.raises(httpx.ConnectError):
            cluster.client.get("/readyz")
    finally:
        cluster.start_apiserver()
    assert cluster.kubectl("get", "configmap/outlives", "-o", "name") == "configmap/outlives\n"
