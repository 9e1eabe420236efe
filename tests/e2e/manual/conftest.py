"""What a reader of the manual has: a cluster, an Ollama and a terminal, for the pages of a module.

There are no nodes in the cluster; where pods matter, the operator is run as its Deployment says.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kube.controlplane import ControlPlane, controlplane
from support.kube.manifests import rendered
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.manual import Terminal
from support.process.operator import Object, release, wait_until


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    """Run a Kubernetes API that knows nothing of ours."""
    with controlplane() as plane:
        yield plane


@pytest.fixture(autouse=True)
def _begin_with_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let no object outlive its story: the next one begins with none."""
    yield
    if "cluster" in request.fixturenames:
        release(request.getfixturevalue("cluster"))


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
    """Know the kinds of the Prometheus operator."""
    know(cluster, "monitoring.coreos.com", "ServiceMonitor", "PrometheusRule")


@pytest.fixture(scope="module")
def cert_manager(cluster: ControlPlane) -> None:
    """Know the kinds of cert-manager."""
    know(cluster, "cert-manager.io", "Issuer", "Certificate")


def know(cluster: ControlPlane, group: str, *kinds: str) -> None:
    """Have the API server take these kinds, whose fields may be any."""
    for kind in kinds:
        cluster.kubectl("apply", "-f", "-", input=json.dumps(definition(group, kind)))
    plurals = {f"{kind.lower()}s" for kind in kinds}
    wait_until(
        lambda: plurals <= set(cluster.kubectl("api-resources").split()),
        lambda: cluster.kubectl("api-resources"),
    )


def definition(group: str, kind: str) -> Object:
    """Write a CRD that takes what it is given."""
    plural = f"{kind.lower()}s"
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
