"""Namespaces that are deleted with their OllamaModels, on a real API with its own controller."""

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from crd.v1alpha1 import API_VERSION, PLURAL
from ollama_op.reconcile.finalize import AT_ONCE
from support.kube.audit import AuditLog, Permission
from support.kube.controllers import namespace_controller
from support.kube.controlplane import ControlPlane, controlplane
from support.kube.manifests import CONFIG, NAMESPACE
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.assets import assets
from support.process.deployed import Deployed, release_lease
from support.process.manual import fences
from support.process.operator import (
    COMMAND,
    RESOURCE,
    Models,
    Object,
    apply_crd,
    bare,
    manifest,
    wait_until,
)
from support.virtual.relay import Relay

pytestmark = pytest.mark.real

USER = f"system:serviceaccount:{NAMESPACE}:ollama-op"
TEAM = "my-apps"  # as docs/install.md names it
RELEASE = "clusterrolebinding/ollama-op-release"
BINDINGS = ("rolebinding/ollama-op", "rolebinding/ollama-op-rest-api")
HOW_MANY = 20
REFUSED = "kubernetes refuses a write, will retry"


@pytest.fixture
def audit(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path)


@pytest.fixture
def cluster(audit: AuditLog) -> Iterator[ControlPlane]:
    """Run a Kubernetes API of this test's own: its namespaces, and its CRD, are to go."""
    with controlplane(audit.flags) as plane, namespace_controller(plane):
        apply_crd(plane, CONFIG / "crd")
        yield plane


@pytest.fixture
def own(registry: Registry) -> Iterator[OllamaServer]:
    """Run an Ollama without models."""
    with OllamaServer(registry) as ollama:
        yield ollama


@pytest.fixture
def wire(own: OllamaServer) -> Iterator[Relay]:
    """Stand between the operator and that Ollama, and count deletions."""
    with Relay(int(own.url.rpartition(":")[2])) as relay:
        yield relay


@pytest.fixture
def team(cluster: ControlPlane) -> Models:
    return Models(cluster, TEAM)


@pytest.fixture
def operator(
    cluster: ControlPlane,
    team: Models,  # noqa: ARG001 - the namespace is there before its RoleBindings
    wire: Relay,
    tmp_path: Path,
) -> Iterator[Deployed]:
    """Install as docs/install.md says for one namespace only, and run a pod of it."""
    shutil.copytree(CONFIG, tmp_path / "ollama-op" / "config")
    overlay = fenced("docs/install.md", f"OLLAMA_OP_NAMESPACE={TEAM}")
    folder = tmp_path / "my-team"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(overlay)
    cluster.kubectl("apply", "-k", folder)
    release_lease(cluster)
    with Deployed(cluster, wire.url) as pod:
        yield pod
        assert pod.bugs() == []


def fenced(page: str, words: str) -> str:
    """Return what a page shows with these words in it."""
    (text,) = [each.text for each in fences(page) if words in each.text]
    return text


def brought(models: Models, registry: Registry) -> list[str]:
    """Have so many models Ready; return the names of the objects."""
    names = [f"many-{n}" for n in range(HOW_MANY)]
    for name in names:
        registry.publish(name)  # all of one content, so that they come fast
    items = [manifest(name, name) for name in names]
    together = {"apiVersion": "v1", "kind": "List", "items": items}
    models.kubectl("apply", "-f", "-", input=json.dumps(together))
    models.ready(*names, within_s=120)
    return names


def is_gone(cluster: ControlPlane, namespace: str) -> bool:
    return cluster.client.get(f"/api/v1/namespaces/{namespace}").status_code == 404


def terminating(cluster: ControlPlane) -> int:
    """Count the objects that are being deleted."""
    items = cluster.get(f"/apis/{API_VERSION}/{PLURAL}")["items"]
    return sum("deletionTimestamp" in each["metadata"] for each in items)


def lines(operator: Deployed, words: str) -> list[Object]:
    """Return the lines of the log that say this."""
    return [line for line in operator.logs() if line["msg"] == words]


def test_a_namespace_goes_with_its_models(team, operator, wire, registry, audit) -> None:
    """Its RoleBindings may go first: each model is deleted once, and nothing is left."""
    cluster = team.cluster
    brought(team, registry)
    team.kubectl("delete", *BINDINGS)  # which its controller may do before anything else

    cluster.kubectl("delete", "namespace", TEAM, "--wait=false")

    wait_until(lambda: is_gone(cluster, TEAM), operator.tail)
    deleted = [each.model for each in wire.sent if each.what == "delete"]
    assert len(deleted) == len(set(deleted)) == HOW_MANY
    assert len(lines(operator, "model deleted")) == HOW_MANY
    patch = audit.asked(USER, "allow")[Permission("patch", PLURAL, "ollama.smithforge.dev")]
    assert 'ClusterRoleBinding "ollama-op-release"' in patch


def test_without_that_right_nothing_is_removed_until_it_is_granted(
    team, operator, wire, own, registry
) -> None:
    """The log has one line of it, the doctor the way out, and that of the manual works."""
    cluster, names = team.cluster, brought(team, registry)
    cluster.kubectl("delete", RELEASE)
    team.kubectl("delete", *BINDINGS)
    cluster.kubectl("delete", "namespace", TEAM, "--wait=false")
    wait_until(lambda: terminating(cluster) == HOW_MANY, operator.tail)
    wait_until(lambda: lines(operator, REFUSED), operator.tail)
    time.sleep(10)  # in which it tries again and again

    assert len(own.digests()) == HOW_MANY
    assert [each for each in wire.sent if each.what == "delete"] == []
    assert {team.get(name)["status"]["state"] for name in names} == {"Ready"}
    told = lines(operator, REFUSED)
    assert len(told) <= 2  # one of the finalizer, and one of the status
    assert {line["namespace"] for line in told} == {TEAM}
    assert "ClusterRoleBinding" in told[0]["hint"]
    wait_until(
        lambda: f"\nollama_op_models_refused {HOW_MANY}.0" in scraped(operator), operator.tail
    )
    blocked = f'ollama_op_models{{server="default",state="DeletionBlocked"}} {HOW_MANY}.0'
    assert blocked in scraped(operator)
    assert "ClusterRoleBinding" in doctor(operator)

    cluster.kubectl(*shlex.split(way_out())[1:])
    wait_until(lambda: is_gone(cluster, TEAM), operator.tail)
    assert own.digests() == {}
    deleted = [each.model for each in wire.sent if each.what == "delete"]
    assert len(deleted) == len(set(deleted)) == HOW_MANY


def scraped(operator: Deployed) -> str:
    return httpx.get(f"http://{operator.metrics}/metrics", trust_env=False).text


def way_out() -> str:
    """Return the command of docs/reasons.md that grants the right for the cluster."""
    return fenced("docs/reasons.md", "kubectl create clusterrolebinding").replace("\\\n", " ")


def doctor(operator: Deployed) -> str:
    """Return what the doctor says with the operator's account and settings."""
    flags = [flag for flag in operator.command if flag.startswith(("--kubeconfig", "--ollama"))]
    command = [COMMAND, "doctor", *flags]
    env = bare(operator.log.parent) | operator.settings
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env).stdout


def test_objects_of_a_namespace_that_is_no_more_go_once_it_is_made_again(
    cluster, team, operator, own, registry
) -> None:
    """Kubernetes takes no write about them; that costs one line, and no model is removed."""
    registry.publish("orphan")
    team.apply("orphan", "orphan:latest")
    team.ready("orphan")
    path = f"/api/v1/namespaces/{TEAM}"
    cluster.kubectl("delete", "namespace", TEAM, "--wait=false")
    body = cluster.get(path) | {"spec": {"finalizers": []}}
    cluster.client.put(f"{path}/finalize", json=body).raise_for_status()
    assert is_gone(cluster, TEAM)

    team.delete("orphan")
    wait_until(lambda: lines(operator, REFUSED), operator.tail)
    assert "create it again" in lines(operator, REFUSED)[0]["hint"]
    assert "orphan:latest" in own.digests()

    cluster.kubectl("create", "namespace", TEAM)
    team.annotate("orphan", "refresh", "again")  # or it would be some minutes until the next try
    team.gone("orphan")
    assert own.digests() == {}


def test_an_install_that_is_deleted_at_once_can_be_applied_again(
    cluster, own, wire, registry
) -> None:
    """Not a model is gone but with its object, or but for a few; the manual's way out ends it."""
    cluster.kubectl("apply", "-k", CONFIG / "with-ollama")
    release_lease(cluster)
    mine, theirs = Models(cluster), Models(cluster, "theirs")
    registry.publish("elsewhere")
    with Deployed(cluster, wire.url) as pod:
        names = brought(mine, registry)
        theirs.apply("elsewhere", "elsewhere:latest")
        theirs.ready("elsewhere")
        cluster.kubectl("delete", "-k", CONFIG / "with-ollama", "--wait=false")
        wait_until(lambda: is_going(cluster, f"namespaces/{NAMESPACE}"), pod.tail)
        time.sleep(10)
        there = {name for name in names if mine.exists(name)}
        if theirs.exists("elsewhere"):
            there.add("elsewhere")
        left = {model.partition(":")[0] for model in own.digests()}
        assert left <= there  # what is let go of has no model
        assert len(there - left) <= 2 * AT_ONCE  # of two namespaces
    if there:
        assert terminating(cluster) == len(there)
        script = fenced("docs/install.md", "while read -r namespace name")
        assets_first = {"PATH": f"{assets()}:{os.environ['PATH']}"}
        env = {**os.environ, **assets_first, "KUBECONFIG": str(cluster.kubeconfig)}
        subprocess.run(["bash", "-euo", "pipefail", "-c", script], check=True, env=env)
    wait_until(lambda: is_gone(cluster, NAMESPACE), pod.tail)
    crd = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{RESOURCE}"
    wait_until(lambda: cluster.client.get(crd).status_code == 404, pod.tail)

    apply_again(cluster)
    release_lease(cluster)
    with Deployed(cluster, wire.url):
        mine.apply("anew", "elsewhere:latest")
        mine.ready("anew")


def is_going(cluster: ControlPlane, path: str) -> bool:
    found = cluster.client.get(f"/api/v1/{path}")
    return found.status_code == 404 or "deletionTimestamp" in found.json()["metadata"]


def apply_again(cluster: ControlPlane) -> None:
    """Apply what was deleted, once the API server serves the new CRD."""
    apply_crd(cluster, CONFIG / "crd")
    cluster.kubectl("apply", "-k", CONFIG / "with-ollama")
