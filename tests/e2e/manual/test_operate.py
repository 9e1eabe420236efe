"""The pages for those who run the operator: replicas, metrics, traces, alerts."""

import httpx
import pytest

from support.kube.controlplane import ControlPlane
from support.kube.manifests import NAMESPACE
from support.ollama.server import OllamaServer
from support.process.child import free_port
from support.process.deployed import Deployed
from support.process.jaeger import Jaeger
from support.process.manual import Page, Terminal
from support.process.operator import Models, cell, wait_until

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("installed", "prometheus")]

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/ollama-op"
NAME = "llama3.2-1b"
PULL = "POST /api/pull"


@pytest.fixture
def installed(terminal: Terminal) -> None:
    """Apply config/default, once or again."""
    terminal.run("kubectl apply -k config/default")


def test_one_of_two_replicas_leads(cluster: ControlPlane, ollama: OllamaServer, terminal) -> None:
    """As docs/leader.md shows it; and when it goes, the other one does."""
    pods = [Deployed(cluster, ollama.url) for _ in range(2)]
    with Page("docs/leader.md", terminal) as page, pods[0], pods[1]:
        wait_until(lambda: leads(pods[0]) or leads(pods[1]), pods[0].tail)
        table = page.run("kubectl -n ollama-op-system get lease")
        shown = page.shown("HOLDER")
        assert shown.splitlines()[0].split() == table.splitlines()[0].split()
        leader, other = sorted(pods, key=leads, reverse=True)
        leader.stop()
        wait_until(lambda: leads(other), other.tail)
        assert cluster.get(LEASE)["spec"]["holderIdentity"] != cell(table, 1, "HOLDER")


def leads(pod: Deployed) -> bool:
    """Return True if a replica is the one that acts, as its metrics say."""
    scraped = httpx.get(f"http://{pod.metrics}/metrics", trust_env=False).text
    return "\nollama_op_leader 1.0" in scraped


def test_metrics_are_read(cluster: ControlPlane, terminal: Terminal) -> None:
    """By who is on the same machine, and by Prometheus in a cluster."""
    address = f"127.0.0.1:{free_port()}"
    with Page("docs/metrics.md", terminal) as page:
        page.put(f"={address}", "=:8080")
        page.put(address, "localhost:8080")
        with page.operator("ollama-op run"):
            use(terminal)
            read = page.run("curl")
            assert 'ollama_op_models{server="default",state="Ready"} 1.0' in read.splitlines()
            Models(cluster).clear()
        page.run("kubectl apply -n ollama-op-system -k config/prometheus")
        there = cluster.kubectl(
            "-n", NAMESPACE, "get", "servicemonitors,prometheusrules", "-o=name"
        )
        assert len(there.split()) == 2


def test_a_life_is_traced(cluster: ControlPlane, jaeger: Jaeger, terminal: Terminal) -> None:
    """Jaeger has the trace that the status names, with the pull in it."""
    with Page("docs/traces.md", terminal) as page:
        page.put(jaeger.otlp_url, "http://localhost:4318")
        page.put(jaeger.query_url.removeprefix("http://"), "localhost:16686")
        with page.operator("ollama-op run"):
            use(terminal)
            trace = Models(cluster).get(NAME)["status"]["traceID"]
            wait_until(lambda: PULL in names(jaeger, trace), lambda: str(names(jaeger, trace)))
            assert f'"operationName":"{PULL}"' in page.run("kubectl get om")
            Models(cluster).clear()


def names(jaeger: Jaeger, trace: str) -> set[str]:
    """Return what has come of a trace: a span comes some seconds after its end."""
    return {span["operationName"] for span in jaeger.trace(trace)}


def use(terminal: Terminal) -> None:
    """Have a model."""
    terminal.run("kubectl apply -f config/samples/llama3.2-1b.yaml")
    terminal.run(f"kubectl wait --for=condition=Ready om/{NAME} --timeout=180s")


def test_an_alert_is_followed_up(cluster: ControlPlane, ollama: OllamaServer, terminal) -> None:
    """The commands of docs/alerts.md answer what is asked there."""
    with Page("docs/alerts.md", terminal) as page, Deployed(cluster, ollama.url) as pod:
        page.run("get pods")
        wait_until(lambda: leads(pod), pod.tail)
        lease, may = page.run("get lease").splitlines()[1:]
        assert lease.startswith("ollama-op ")
        assert may == "yes"
        assert page.run("can-i watch ollamamodels") == "yes\n"
