"""config/with-ollama on a real node: it runs, is used, is disturbed, and goes, as the docs say."""

import json
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial

import httpx
import pytest

from support.kube.controlplane import KubectlError
from support.kube.installed import WITHIN_S, Installed, let_out
from support.kube.manifests import CONFIG, NAMESPACE
from support.node.cluster import Node
from support.ollama.registry import Registry
from support.process.operator import Models, Object, wait_until

pytestmark = pytest.mark.real

NOBODY = "65532"
MIB = 2**20


@pytest.fixture(scope="module")
def installed(cluster: Node) -> Iterator[Installed]:
    it = Installed(cluster, CONFIG / "with-ollama")
    it.install()
    yield it
    it.uninstall()


@pytest.fixture(scope="module")
def models(installed: Installed) -> Models:
    return Models(installed.cluster.plane, "models")


def status_of(installed: Installed, what: str) -> dict[str, str]:
    """Return what the kernel says of a container's first process."""
    # There is no shell in the operator's image; both have what reads a file.
    program = ["/usr/bin/python3", "-c", "print(open('/proc/1/status').read())"]
    lines = installed.run_in(what, *program).splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_all_of_it_becomes_available(installed: Installed) -> None:
    """Two replicas, and Ollama with a disk, in a namespace for restricted pods only."""
    installed.rolled_out("statefulset/ollama")
    assert len(installed.pods()) == 2
    volume = installed.kubectl("get", "pvc", "models-ollama-0", "--output=jsonpath={.status.phase}")
    assert volume == "Bound"


@pytest.mark.parametrize("what", ["deployment/ollama-op", "statefulset/ollama"])
def test_its_processes_may_do_nothing_special(installed: Installed, what: str) -> None:
    """The kernel says so: no root, no capability, none to be had, and fewer system calls."""
    status = status_of(installed, what)
    assert status["Uid"].split() == [NOBODY] * 4
    assert {int(status[key], 16) for key in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    write = ["/usr/bin/python3", "-c", "open('/var/anything', 'w')"]
    with pytest.raises(KubectlError, match="Read-only file system"):
        installed.run_in(what, *write)


def test_the_doctor_finds_nothing_missing(installed: Installed) -> None:
    """As docs/install.md has it: only the CRD is not for the operator to read."""
    said = installed.run_in("deploy/ollama-op", "ollama-op", "doctor", "--output=json")
    found = json.loads(said)
    levels = {each["check"]: each["level"] for each in found["checks"]}
    assert found["ok"], said
    assert {check for check, level in levels.items() if level != "ok"} == {"crd"}, said


def test_a_registry_of_ones_own_needs_a_rule(
    installed: Installed, models: Models, registry: Registry
) -> None:
    """Ollama gets nothing from inside the cluster until a network policy says so."""
    registry.publish("tiny", seed=900)
    models.want("tiny", f"{registry.address}/library/tiny:latest", insecure=True)
    models.told("tiny", "Pulling")
    time.sleep(3)
    assert registry.count("manifests", "tiny") == 0
    let_out(installed.cluster, NAMESPACE, registry)
    models.ready("tiny", within_s=WITHIN_S)


def test_the_model_is_on_the_disk(installed: Installed, models: Models, registry: Registry) -> None:
    """Owned by Ollama's user, so it is there again after a new start: nothing is pulled twice."""
    (manifest,) = installed.cluster.disks.glob("*/models/manifests/**/tiny/latest")
    assert str(manifest.stat().st_uid) == NOBODY
    registry.forget_requests()
    installed.kubectl("delete", "pod", "ollama-0")
    installed.rolled_out("statefulset/ollama")
    models.ready("tiny", within_s=WITHIN_S)
    assert "tiny:latest" in installed.run_in("ollama-0", "ollama", "list")
    assert registry.requests == []


def test_the_cluster_s_own_roles_hold_for_models(installed: Installed) -> None:
    """Kubernetes itself adds ours to view, edit and admin, for people and for the REST API."""
    kubectl = installed.cluster.kubectl
    for role in ("view", "edit", "admin"):
        kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}")

    def may(role: str, *verbs: str) -> list[str]:
        answers = {
            verb: kubectl("auth", "can-i", verb, "ollamamodels", f"--as={role}", check=False)
            for verb in verbs
        }
        return [verb for verb, answer in answers.items() if answer.startswith("yes")]

    reading, writing = ["get", "list", "watch"], ["create", "update", "patch", "delete"]
    verbs = [*reading, *writing, "deletecollection"]
    wait_until(lambda: may("view", "get"), lambda: "nothing was added to view")
    assert [may(role, *verbs) for role in ("view", "edit", "admin")] == [
        reading,
        [*reading, *writing],
        verbs,
    ]


def test_an_account_uses_the_rest_api(installed: Installed, models: Models) -> None:
    """Through a port-forward, with a token that kubectl makes, and no more than its role allows."""
    kubectl = installed.cluster.kubectl
    kubectl("--namespace", "models", "create", "serviceaccount", "reader")
    bind = ("--clusterrole=view", "--serviceaccount=models:reader")
    kubectl("--namespace", "models", "create", "rolebinding", "reader", *bind)
    token = kubectl("--namespace", "models", "create", "token", "reader").strip()
    with (
        installed.forwarded("service/ollama-op-rest", 8082) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as client,
    ):
        where = {"namespace": models.namespace}
        assert client.get("/api/v1/models", params=where).status_code == 401
        client.headers["Authorization"] = f"Bearer {token}"
        answer = client.get("/api/v1/models", params=where)
        assert answer.status_code == 200, answer.text
        assert [each["name"] for each in answer.json()["items"]] == ["tiny"]
        another = client.post("/api/v1/models", params=where, json={"name": "another", "tag": "1b"})
        assert another.status_code == 403, another.text
        assert client.get("/api/v1/models", params={"namespace": "default"}).status_code == 403


def reached(cluster: Node, namespace: str, url: str) -> bool:
    """Return True if a pod in a namespace gets an answer from there."""
    code = f"import urllib.request as r; r.urlopen({url!r}, timeout=5)"
    run = ("run", "visitor", "--image=ollama-op:0.1.0", "--restart=Never", "--command")
    there = partial(cluster.kubectl, "--namespace", namespace)
    there(*run, "--", "/usr/bin/python3", "-c", code)

    def ended() -> bool:
        phase = there("get", "pod", "visitor", "--output=jsonpath={.status.phase}")
        return phase in ("Succeeded", "Failed")

    wait_until(ended, lambda: there("describe", "pod", "visitor"), WITHIN_S)
    said = there("logs", "visitor")
    there("delete", "pod", "visitor")
    assert said == "" or "timed out" in said, said
    return said == ""


@pytest.mark.parametrize(
    ("namespace", "label", "url"),
    [
        ("apps", "ollama=enabled", f"http://ollama.{NAMESPACE}:11434"),
        ("monitoring", "metrics=enabled", f"http://ollama-op-metrics.{NAMESPACE}:8080/metrics"),
    ],
)
def test_others_come_in_by_a_label_on_their_namespace(
    installed: Installed, namespace: str, label: str, url: str
) -> None:
    """To Ollama, which asks nobody who they are, and to metrics; without it, to neither."""
    cluster = installed.cluster
    cluster.kubectl("create", "namespace", namespace)
    assert not reached(cluster, namespace, url)
    cluster.kubectl("label", "namespace", namespace, label)
    wait_until(lambda: reached(cluster, namespace, url), lambda: f"{url} is not reached")


def test_the_leading_pod_goes_and_the_other_takes_over(
    installed: Installed, models: Models, registry: Registry, measured: list[str]
) -> None:
    """What is Ready stays so all the while, and what is new then becomes so."""
    before = models.get("tiny")["status"]["conditions"]
    leader = installed.leader()
    started = time.monotonic()
    installed.kubectl("delete", "pod", leader, "--wait=false")
    wait_until(lambda: installed.leader() != leader, lambda: f"{leader} still leads")
    measured.append(f"another leads after {time.monotonic() - started:.1f} s")
    registry.publish("next", seed=901)
    models.want("next", f"{registry.address}/library/next:latest", insecure=True)
    models.ready("next")
    assert models.get("tiny")["status"]["conditions"] == before
    installed.rolled_out("deployment/ollama-op")


def test_a_restart_leaves_two_ready(installed: Installed) -> None:
    """New pods come before old ones go."""
    old = {each["metadata"]["name"] for each in installed.pods()}
    installed.kubectl("rollout", "restart", "deployment/ollama-op")
    ready: list[int] = []

    def done() -> bool:
        status = json.loads(installed.kubectl("get", "deploy", "ollama-op", "-o=json"))["status"]
        ready.append(status.get("readyReplicas", 0))
        return old.isdisjoint(each["metadata"]["name"] for each in installed.pods())

    wait_until(done, lambda: f"of {old} there are still some", WITHIN_S)
    assert min(ready) == 2


def test_a_drain_takes_one_replica_at_a_time(installed: Installed) -> None:
    """On a single node, where the next has nowhere to go, the other stays until it has."""
    flags = ("--delete-emptydir-data", "--force", "--ignore-daemonsets", "--timeout=15s")
    try:
        said = installed.cluster.kubectl("drain", "node", *flags, check=False)
        assert "disruption budget" in said
        ready = [each for each in installed.pods() if "startTime" in each["status"]]
        assert len(ready) == 1
    finally:
        installed.cluster.kubectl("uncordon", "node")
    installed.rolled_out("deployment/ollama-op")
    installed.rolled_out("statefulset/ollama")


def test_what_a_pod_holds_and_how_soon_it_is_ready(
    installed: Installed, measured: list[str]
) -> None:
    """Less than it asks for."""
    held: dict[str, int] = {}

    def known() -> bool:
        summary = installed.cluster.plane.get("/api/v1/nodes/node/proxy/stats/summary")
        for each in summary["pods"]:
            held[each["podRef"]["name"]] = each.get("memory", {}).get("workingSetBytes", 0)
        return all(held.get(pod["metadata"]["name"]) for pod in installed.pods())

    wait_until(known, lambda: f"the kubelet knows {held}", WITHIN_S)
    for pod in installed.pods():
        name = pod["metadata"]["name"]
        working_set = held[name]
        resident = status_of(installed, f"pod/{name}")["VmRSS"]
        measured.append(
            f"{name}: working set {working_set / MIB:.0f} MiB, VmRSS {resident},"
            f" ready {seconds_to_ready(pod):.0f} s after its container began"
        )
        assert working_set < 96 * MIB


def seconds_to_ready(pod: Object) -> float:
    (container,) = pod["status"]["containerStatuses"]
    began = container["state"]["running"]["startedAt"]
    (ready,) = (each for each in pod["status"]["conditions"] if each["type"] == "Ready")
    times = [datetime.fromisoformat(each) for each in (began, ready["lastTransitionTime"])]
    return (times[1] - times[0]).total_seconds()


def test_nothing_is_left(installed: Installed) -> None:
    """The namespace is really gone, and every role and object of ours; Ollama's disk with it."""
    installed.uninstall()
    kinds = (
        "namespaces,clusterroles,clusterrolebindings,customresourcedefinitions,persistentvolumes"
    )
    left = installed.cluster.kubectl("get", kinds, "--output=name").splitlines()
    assert [name for name in left if "ollama" in name] == []
