"""What a reader of the manual has: a cluster, an Ollama and a terminal, for the pages of a module.

There are no nodes in the cluster; where pods matter, the operator is run as its Deployment says.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.controlplane import ControlPlane, controlplane
from support.manifests import rendered
from support.manual import Terminal
from support.ollama import OllamaServer
from support.operator import Object, wait_until
from support.registry import Registry


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    """Run a Kubernetes API that knows nothing of ours."""
    with controlplane() as plane:
        yield plane


@pytest.fixture(scope="module")
def ollama(registry: Registry) -> Iterator[OllamaServer]:
    """Run an Ollama without models; its registry has all that the manual asks for."""
    for seed, each in enumerate(rendered("samples"), start=700):
        spec = each["spec"]
        registry.publish(spec["name"].removeprefix("hf.co/"), spec["tag"], seed=seed)
    registry.publish("qwen3", "0.6b", seed=710)
    with OllamaServer(registry) as ollama:
        yield ollama


@pytest.fixture(scope="module")
def prometheus(cluster: ControlPlane) -> None:
    """Know the kinds of the Prometheus operator, whose fields may be any."""
    for kind in ("ServiceMonitor", "PrometheusRule"):
        cluster.kubectl("apply", "-f", "-", input=json.dumps(definition(kind)))
    wait_until(
        lambda: (
            {"servicemonitors", "prometheusrules"} <= set(cluster.kubectl("api-resources").split())
        ),
        lambda: cluster.kubectl("api-resources"),
    )


def definition(kind: str) -> Object:
    """Write a CRD that takes what it is given."""
    group, plural = "monitoring.coreos.com", f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [version],
        },
    }


@pytest.fixture
def terminal(tmp_path: Path, cluster: ControlPlane, ollama: OllamaServer) -> Iterator[Terminal]:
    """Open a terminal; whatever is made in it is gone after."""
    yield Terminal(tmp_path, cluster, ollama.url)
    ollama.clear()
