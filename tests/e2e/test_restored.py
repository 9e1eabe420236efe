"""etcd restored from a snapshot, or emptied, under an operator that runs: all of it real."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.kube.controlplane import ControlPlane, controlplane
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.child import free_port
from support.process.operator import Models, Operator, apply_crd, wait_until

pytestmark = pytest.mark.real

CRD = Path(__file__).parents[2] / "config" / "crd"
KEY = "the-key-of-e2e"


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    """Run a Kubernetes API whose etcd is this test's alone."""
    with controlplane() as plane:
        apply_crd(plane, CRD)
        yield plane


@pytest.fixture
def rest(plane: ControlPlane, ollama: OllamaServer) -> Iterator[httpx.Client]:
    """Run an operator; return what asks its REST API, which shows what it knows."""
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--api-server-bind-address={address}", f"--api-server-key={KEY}"]
    with Operator(plane.kubeconfig, ollama.url, "--enable-api-server", *flags) as operator:
        headers = {"x-api-key": KEY}
        with httpx.Client(base_url=f"http://{address}", headers=headers, trust_env=False) as client:
            wait_until(lambda: _answers(client), operator.tail)
            yield client
        assert operator.bugs() == []
        assert operator.stop() == 0


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readiness").is_success
    except httpx.HTTPError:
        return False


def knows(rest: httpx.Client) -> set[str]:
    """Return the objects that the operator knows."""
    return {item["name"] for item in rest.get("/api/v1/models").json()["items"]}


def age(plane: ControlPlane) -> None:
    """Write so much that the versions known by now are of the future for a while once set back."""
    for number in range(500):
        body = {"metadata": {"annotations": {"note": str(number)}}}
        patch = {"content-type": "application/merge-patch+json"}
        plane.client.patch("/api/v1/namespaces/default", json=body, headers=patch)


def test_a_restored_cluster_is_read_anew(
    plane: ControlPlane, rest: httpx.Client, ollama: OllamaServer, registry: Registry
):
    """The deleted are back, the made are gone, and new ones are cared for at once.

    A kube-apiserver that ran on shows to everybody what was, until it is restarted too; what the
    operator has learnt from it meanwhile is corrected then.
    """
    models = Models(plane)
    for name in ("kept", "dead", "ghost", "new"):
        registry.publish(f"restored-{name}")
    for name in ("kept", "dead"):
        models.apply(name, f"restored-{name}:latest")
    models.ready("kept", "dead")
    copy = plane.save()
    models.delete("dead")
    models.gone("dead")
    models.apply("ghost", "restored-ghost:latest")
    models.ready("ghost")
    age(plane)

    plane.restore(copy)
    plane.stop_apiserver()
    plane.start_apiserver()

    models.ready("kept", "dead")
    models.apply("new", "restored-new:latest")
    models.ready("new")
    wait_until(lambda: knows(rest) == {"kept", "dead", "new"}, lambda: str(knows(rest)))
    # The ghost no longer keeps its model for the next one that names it.
    models.apply("again", "restored-ghost:latest")
    models.ready("again")
    models.delete("again")
    models.gone("again")
    wait_until(
        lambda: "restored-ghost:latest" not in ollama.digests(), lambda: str(ollama.digests())
    )
    models.clear()


def test_an_emptied_cluster_is_empty(
    plane: ControlPlane, rest: httpx.Client, ollama: OllamaServer, registry: Registry
):
    """Once the CRD is there again, objects are cared for, and none of before is known.

    What was on the server stays there: nobody has asked for its deletion.
    """
    models = Models(plane)
    for name in ("before", "after"):
        registry.publish(f"emptied-{name}")
    models.apply("before", "emptied-before:latest")
    models.ready("before")

    plane.stop_apiserver()
    plane.restore(None)
    plane.start_apiserver()
    apply_crd(plane, CRD)

    models = Models(plane)
    models.apply("after", "emptied-after:latest")
    models.ready("after")
    assert knows(rest) == {"after"}
    assert "emptied-before:latest" in ollama.digests()
    models.clear()
