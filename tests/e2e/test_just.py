"""`just install`, `deploy`, `undeploy` and `uninstall`, on a cluster that is nobody else's."""

import subprocess
from collections.abc import Iterator

import pytest

from support.kube.controlplane import ControlPlane, controlplane
from support.kube.manifests import CONFIG, NAMESPACE
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.assets import assets
from support.process.operator import RESOURCE, Models, Operator, bare

pytestmark = pytest.mark.real

IMAGE = "registry.example.com/ollama-op:next"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    """Run a Kubernetes API that knows nothing of ours."""
    with controlplane() as plane:
        yield plane


def just(cluster: ControlPlane, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a recipe, with the kubectl that is built before all others."""
    environment = bare(cluster.folder)
    return subprocess.run(
        ["just", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=CONFIG.parent,
        stdin=subprocess.DEVNULL,
        env=environment
        | {"KUBECONFIG": str(cluster.kubeconfig), "PATH": f"{assets()}:{environment['PATH']}"},
    )


def exists(cluster: ControlPlane, path: str) -> bool:
    return cluster.client.get(path).is_success


def test_what_is_deployed_is_undeployed_and_uninstalled(
    cluster: ControlPlane, ollama: OllamaServer, registry: Registry
) -> None:
    """With the image that was asked for; and every object's model is gone before the CRD is."""
    done = just(cluster, "install")
    assert (done.returncode, "created" in done.stdout) == (0, True), done.stderr
    done = just(cluster, "deploy", "with-ollama", IMAGE)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    where = ("--namespace", NAMESPACE, "get", "deployment", "ollama-op", "--output=yaml")
    assert f"image: {IMAGE}" in cluster.kubectl(*where)
    assert just(cluster, "deploy").returncode == 0  # again, and with another overlay

    registry.publish("installed", seed=600)
    models = Models(cluster)
    with Operator(cluster.kubeconfig, ollama.url):
        models.apply("installed", "installed:latest")
        models.ready("installed")
        done = just(cluster, "uninstall")
        assert done.returncode != 0  # nobody said yes
        assert models.exists("installed")
        done = just(cluster, "--yes", "uninstall")
        assert (done.returncode, done.stderr) == (0, "")
    assert "installed:latest" not in ollama.digests()
    crd = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{RESOURCE}"
    assert not exists(cluster, crd)

    done = just(cluster, "undeploy", "--wait=false")
    assert (done.returncode, done.stderr) == (0, "")
    assert not exists(cluster, "/apis/rbac.authorization.k8s.io/v1/clusterroles/ollama-op")
    kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings"
    assert cluster.kubectl("get", kinds, "--output=name") == ""
    assert "deletionTimestamp" in cluster.get(f"/api/v1/namespaces/{NAMESPACE}")["metadata"]


def test_uninstall_without_an_operator_says_what_it_waits_for(cluster, ollama, registry) -> None:
    """It ends in time, and with a hint; an operator that comes later finishes it."""
    assert just(cluster, "install").returncode == 0
    registry.publish("held", seed=601)
    models = Models(cluster)
    with Operator(cluster.kubeconfig, ollama.url):
        models.apply("held", "held:latest")
        models.ready("held")
    done = just(cluster, "--yes", "uninstall", "--timeout=1s")
    assert (done.returncode, "docs/install.md" in done.stderr) == (1, True), done.stderr
    with Operator(cluster.kubeconfig, ollama.url, probe="/healthz"):
        models.gone("held")


def test_undeploy_minds_objects_in_its_own_namespace() -> None:
    """They would keep the namespace for ever, with nobody left to let them go."""
    with controlplane() as cluster:
        assert just(cluster, "deploy").returncode == 0
        Models(cluster, NAMESPACE).apply("here", "a:b")
        done = just(cluster, "undeploy", "--wait=false")
        assert (done.returncode, "there are OllamaModels" in done.stderr) == (1, True)
        assert "deletionTimestamp" not in cluster.get(f"/api/v1/namespaces/{NAMESPACE}")["metadata"]
