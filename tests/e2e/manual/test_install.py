import json
from pathlib import Path

import httpx
import pytest

from crd.v1alpha1 import GROUP, PLURAL
from support.kube.controlplane import ControlPlane
from support.kube.manifests import NAMESPACE
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.deployed import Deployed, release_lease
from support.process.manual import Page, Terminal
from support.process.operator import RESOURCE, Models, Object, Operator, wait_until

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("prometheus")]

IMAGE = "registry.example.com/ollama-op"
OLLAMA = "http://ollama.example.com:11434"
MODEL, PULLED = "all-minilm-22m", "all-minilm:22m"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/ollama-op"


def test_it_is_installed_used_upgraded_and_uninstalled(
    cluster: ControlPlane, ollama: OllamaServer, terminal: Terminal, registry: Registry
) -> None:
    """From the first `apply` to the last `delete`, docs/install.md holds what it promises."""
    for each in ("my-apps", "monitoring"):
        cluster.kubectl("create", "namespace", each)
    with Page("docs/install.md", terminal) as page:
        apply(page, cluster)
        use(page, cluster, ollama)
        narrow(page, cluster, ollama, registry)
        measure(page, cluster, ollama)
        upgrade(page, cluster, ollama, registry)
        give_up(page, cluster, ollama)


def apply(page: Page, cluster: ControlPlane) -> None:
    """Deploy with settings of the reader, then with an Ollama, then with an overlay."""
    config = page.terminal.cwd / "config"
    change(config / "manager/settings.env", "http://ollama.ollama.svc:11434", OLLAMA)
    change(config / "default/kustomization.yaml", "newName: ollama-op", f"newName: {IMAGE}")
    page.run("kubectl apply -k config/default")
    assert running(cluster)["image"] == f"{IMAGE}:0.1.0"
    release_lease(cluster)  # or the first pod would wait for one who may not know yet

    page.run("kubectl apply -k config/with-ollama")
    assert cluster.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/ollama")
    page.run("kubectl label namespace my-apps")
    assert {"ollama": "enabled"} in let_in(cluster, "ollama")
    assert labels(cluster, "my-apps")["ollama"] == "enabled"

    overlay(page, "my-ollama", "config/with-ollama")
    page.run("kubectl apply -k ../my-ollama")


def use(page: Page, cluster: ControlPlane, ollama: OllamaServer) -> None:
    """Have a first model, and let in who may see it."""
    with deployed(cluster, ollama) as pod:
        assert pod.settings["OLLAMA_OP_OLLAMA_API_URL"] == "http://ollama:11434"
        assert pod.settings["OLLAMA_OP_MAX_CONCURRENT_PULLS"] == "2"
        page.run("config/samples/all-minilm-22m.yaml")
        assert PULLED in ollama.digests()
        page.run("kubectl create serviceaccount my-account")
        page.put(pod.rest, "localhost:8082")
        assert names(page.run("kubectl create token my-account")) == [MODEL]

    page.run("kubectl -n ollama-op-system create secret generic ollama-op-api-key")
    template = cluster.get(DEPLOYMENT)["spec"]["template"]["metadata"]
    assert "kubectl.kubernetes.io/restartedAt" in template["annotations"]
    with deployed(cluster, ollama) as pod:
        page.put(pod.rest, "localhost:8082")
        assert names(page.run("X-API-Key")) == [MODEL]


def narrow(page: Page, cluster: ControlPlane, ollama: OllamaServer, registry: Registry) -> None:
    """Let the operator into one namespace, and into no other."""
    registry.publish("team-model", seed=1)
    overlay(page, "my-team", "config/one-namespace")
    page.run("kubectl apply -k ../my-team")
    assert permitted(cluster, "my-apps") == "yes"
    assert permitted(cluster, "default") == "no"
    ours, theirs = Models(cluster, "my-apps"), Models(cluster)
    theirs.apply("theirs", "team-model:latest")
    with deployed(cluster, ollama) as pod:
        ours.apply("ours", "team-model:latest")
        ours.ready("ours")
        ours.clear()
        assert "finalizers" not in theirs.get("theirs")["metadata"]
        assert pod.bugs() == []
    theirs.delete("theirs")


def measure(page: Page, cluster: ControlPlane, ollama: OllamaServer) -> None:
    """Have metrics of all models again."""
    page.terminal.run("kubectl apply -k config/default")
    page.terminal.run("kubectl delete clusterrole,clusterrolebinding ollama-op-release")
    with deployed(cluster, ollama) as pod:
        page.run("kubectl apply -n ollama-op-system -k config/prometheus")
        assert {"metrics": "enabled"} in let_in(cluster, "ollama-op")
        assert labels(cluster, "monitoring")["metrics"] == "enabled"
        scraped = httpx.get(f"http://{pod.metrics}/metrics", trust_env=False).text
        assert 'ollama_op_models{server="default",state="Ready"} 1.0' in scraped


def upgrade(page: Page, cluster: ControlPlane, ollama: OllamaServer, registry: Registry) -> None:
    """Apply again, and nothing is pulled; delete, and all is gone, the model too."""
    page.run("kubectl apply -k config/default")
    registry.forget_requests()
    with deployed(cluster, ollama) as pod:
        assert pod.settings["OLLAMA_OP_OLLAMA_API_URL"] == OLLAMA
        Models(cluster).ready(MODEL)
        with page.beside("kubectl delete ollamamodels --all -A") as session:
            finalize_namespace(cluster)
            assert session.ended() == 0, session.tail()
    assert registry.requests == []
    assert PULLED not in ollama.digests()
    assert not cluster.client.get(f"{CRDS}/{PLURAL}.{GROUP}").is_success
    assert "ollama-op" not in cluster.kubectl("get", "clusterroles,clusterrolebindings")


def give_up(page: Page, cluster: ControlPlane, ollama: OllamaServer) -> None:
    """Let go of objects whose operator is gone; their models stay."""
    terminal, models = page.terminal, Models(cluster)
    terminal.run("kubectl apply -k config/crd")
    wait_until(lambda: "ollamamodels" in terminal.run("kubectl api-resources"), lambda: "no CRD")
    with Operator(cluster.kubeconfig, ollama.url):
        terminal.run("kubectl apply -f config/samples/all-minilm-22m.yaml")
        models.ready(MODEL)
    models.delete(MODEL)
    assert models.exists(MODEL)
    page.run("kubectl get om -A")
    assert not models.exists(MODEL)
    assert PULLED in ollama.digests()


# --- the reader's own


def overlay(page: Page, name: str, of: str) -> None:
    """Write the overlay of a folder that the page shows into one of this name."""
    (text,) = [each for each in page.fenced("yaml") if f"../ollama-op/{of}]" in each]
    folder = page.terminal.home / name
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(text)


def change(path: Path, old: str, new: str) -> None:
    """Edit a file as the text asks for."""
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


# --- what a cluster with nodes and controllers has


def deployed(cluster: ControlPlane, ollama: OllamaServer) -> Deployed:
    """Make a pod; the collector of the overlay is nowhere."""
    return Deployed(cluster, ollama.url, OTEL_SDK_DISABLED="true")


def finalize_namespace(cluster: ControlPlane) -> None:
    """Let the namespace go once it is to, as its controller does when nothing is left in it."""
    path = f"/api/v1/namespaces/{NAMESPACE}"
    wait_until(lambda: "deletionTimestamp" in cluster.get(path)["metadata"], lambda: "it stays")
    body = cluster.get(path) | {"spec": {"finalizers": []}}
    cluster.client.put(f"{path}/finalize", json=body).raise_for_status()


# --- what is asked of it


def running(cluster: ControlPlane) -> Object:
    (container,) = cluster.get(DEPLOYMENT)["spec"]["template"]["spec"]["containers"]
    return container


def permitted(cluster: ControlPlane, namespace: str) -> str:
    """Return True if the operator may see the models there."""
    account = f"--as=system:serviceaccount:{NAMESPACE}:ollama-op"
    ask = ("auth", "can-i", "list", RESOURCE, account, f"--namespace={namespace}")
    return cluster.kubectl(*ask, check=False).strip()


def labels(cluster: ControlPlane, namespace: str) -> dict[str, str]:
    return cluster.get(f"/api/v1/namespaces/{namespace}")["metadata"]["labels"]


def let_in(cluster: ControlPlane, policy: str) -> list[dict[str, str]]:
    """Return the labels of the namespaces from which a policy lets somebody in."""
    path = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies/{policy}"
    rules = cluster.get(path)["spec"]["ingress"]
    peers = [peer for rule in rules for peer in rule.get("from", ())]
    return [
        peer["namespaceSelector"]["matchLabels"] for peer in peers if "namespaceSelector" in peer
    ]


def names(answer: str) -> list[str]:
    """Return the names of the models that the REST API lists."""
    return [each["name"] for each in json.loads(answer)["items"]]
