"""An operator beside what is older or newer than it: the CRD, other replicas, what they wrote."""

import copy
import datetime as dt
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from crd.v1alpha1 import API_VERSION, GROUP, PLURAL
from support.kube.controlplane import ControlPlane, controlplane
from support.kube.manifests import CONFIG, NAMESPACE, rendered
from support.process.child import free_port
from support.process.operator import RESOURCE, Models, Operator, reason, wait_until
from support.virtual.door import create, hooks_at, put

pytestmark = pytest.mark.real

NOWHERE = "http://127.0.0.1:9"  # an Ollama that is never there: none of this needs one
OURS = yaml.safe_load((CONFIG / f"crd/{GROUP}_{PLURAL}.yaml").read_text())
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/ollama-op"
QUIET_S = 3  # Ollama is looked at every other second
MERGE = ("--type=merge", "--patch")


@pytest.fixture
def cluster() -> Iterator[ControlPlane]:
    """Run a Kubernetes API of its own, as each has another CRD."""
    with controlplane() as plane:
        plane.kubectl("create", "namespace", NAMESPACE)
        yield plane


def apply_crd_of(cluster: ControlPlane, crd: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-f", "-", input=json.dumps(crd))
    served = f"/apis/{API_VERSION}/{PLURAL}"
    wait_until(lambda: cluster.client.get(served).is_success, lambda: f"no {served}")


def properties(crd: dict[str, Any], part: str) -> dict[str, Any]:
    """Return the fields of the spec or the status, to be changed."""
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    fields: dict[str, Any] = schema["properties"][part]["properties"]
    return fields


def test_an_older_crd_is_told_once_and_does_no_harm(cluster: ControlPlane) -> None:
    """With the fields that are lost and the command that helps; nothing is written again for it."""
    older = copy.deepcopy(OURS)
    del properties(older, "status")["error"]
    apply_crd_of(cluster, older)
    models = Models(cluster, "ai")
    with Operator(cluster.kubeconfig, NOWHERE) as operator:
        for name in ("one", "two"):
            create(models, name)
            assert reason(models.until(name, reason)) == "OllamaUnreachable"
        told = [line for line in operator.logs() if "older than this operator" in line["msg"]]
        fields = [name for line in told for name in line["fields"].split(", ")]
        assert "status.error" in fields
        assert len(fields) == len(set(fields))
        assert {line["hint"] for line in told} == {"kubectl apply -k config/crd"}
        version = models.get("one")["metadata"]["resourceVersion"]
        time.sleep(QUIET_S)
        assert models.get("one")["metadata"]["resourceVersion"] == version
        cluster.kubectl("apply", "-k", CONFIG / "crd")
        wait_until(
            lambda: create(models, "new") and models.get("new").get("status", {}).get("error"),
            lambda: str(models.get("new")),
        )
        assert operator.bugs() == []


def test_what_a_newer_version_wrote_does_not_stand_in_the_way(cluster: ControlPlane) -> None:
    """Fields that are not known here: of the spec they stay, and the webhook lets them in."""
    newer = copy.deepcopy(OURS)
    for part in ("spec", "status"):
        properties(newer, part)["future"] = {"type": "string"}
    apply_crd_of(cluster, newer)
    models, port = Models(cluster, "ai"), free_port()
    create(models, "before", future="spec")
    status = {"status": {"future": "status", "state": "Ready"}}
    models.kubectl("patch", RESOURCE, "before", "--subresource=status", *MERGE, json.dumps(status))
    put(cluster, hooks_at(port, rendered("webhook")))
    flags = (
        f"--webhook-bind-address=127.0.0.1:{port}",
        f"--webhook-service=ollama-op-webhook.{NAMESPACE}",
    )
    with Operator(cluster.kubeconfig, NOWHERE, *flags) as operator:
        wait_until(lambda: "created" in create(models, "after", future="spec"), operator.tail)
        for name in ("before", "after"):
            assert reason(models.until(name, reason)) == "OllamaUnreachable"
            assert models.get(name)["spec"]["future"] == "spec"
        assert operator.bugs() == []


def test_a_lease_of_another_version_is_waited_for_and_taken_over(cluster: ControlPlane) -> None:
    """What else that one wrote into it stays."""
    apply_crd_of(cluster, OURS)
    now = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    spec = {
        "holderIdentity": "ollama-op-of-another-version",
        "leaseDurationSeconds": 5,
        "acquireTime": now,
        "renewTime": now,
        "leaseTransitions": 7,
        "strategy": "OldestEmulationVersion",
    }
    meta = {"name": "ollama-op", "namespace": NAMESPACE, "annotations": {"another": "version"}}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    cluster.kubectl("create", "-f", "-", input=json.dumps(lease | {"metadata": meta, "spec": spec}))
    models = Models(cluster, "ai")
    create(models, "led")
    flags = ("--leader-elect", f"--leader-elect-namespace={NAMESPACE}")
    with Operator(cluster.kubeconfig, NOWHERE, *flags, probe="/healthz") as operator:
        assert reason(models.until("led", reason)) == "OllamaUnreachable"
        held = cluster.get(LEASE)
        assert held["spec"]["holderIdentity"] not in ("", spec["holderIdentity"])
        assert held["spec"]["leaseTransitions"] == 8
        assert held["metadata"]["annotations"] == meta["annotations"]
        assert operator.bugs() == []
