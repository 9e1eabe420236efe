"""`ollama-op doctor` on a real kube-apiserver and a real Ollama: it names what is missing."""

import json
import subprocess
from pathlib import Path

import pytest

from crd.v1alpha1 import GROUP, PLURAL
from ollama_op.base.rights import Right, rights
from support.kube.controlplane import ControlPlane, controlplane
from support.ollama.server import OllamaServer
from support.process.child import READY_S, closed_port
from support.process.operator import COMMAND, bare

pytestmark = pytest.mark.real

DENIED = ("rights", "fail")


def diagnosed(
    folder: Path, kubeconfig: Path, *flags: str, **environment: str
) -> tuple[int, list[dict[str, str]]]:
    """Run the doctor; return its exit code and what it found."""
    done = subprocess.run(
        [COMMAND, "doctor", f"--kubeconfig={kubeconfig}", "--output=json", *flags],
        check=False,
        capture_output=True,
        text=True,
        env=bare(folder) | environment,
        timeout=READY_S,
    )
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["ok"] is (done.returncode == 0)
    return done.returncode, found["checks"]


def levels(checks: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(each["check"], each["level"]) for each in checks]


def account(cluster: ControlPlane, name: str) -> Path:
    """Make a service account; return its kubeconfig."""
    cluster.kubectl("create", "serviceaccount", name)
    return cluster.kubeconfig_for(name, cluster.kubectl("create", "token", name).strip())


def test_where_nothing_is_missing_all_is_well(cluster, ollama: OllamaServer, tmp_path) -> None:
    """Also with the REST API; versions and sizes are said."""
    code, checks = diagnosed(
        tmp_path,
        cluster.kubeconfig,
        f"--ollama-api-url={ollama.url}",
        "--enable-api-server",
        "--api-server-kubernetes-auth",
    )
    assert levels(checks) == [
        ("cluster", "ok"),
        ("crd", "ok"),
        ("rights", "ok"),
        ("ollama", "ok"),
        ("disk", "ok"),
        ("tracing", "ok"),
    ]
    assert code == 0
    texts = {each["check"]: each["message"] for each in checks}
    assert f"{cluster.url} is Kubernetes v1." in texts["cluster"]
    assert texts["rights"] == "admin may do all that is needed in all namespaces"
    assert f"{ollama.url} is Ollama 0." in texts["ollama"]


def test_a_missing_crd_and_an_older_one_are_told_with_the_command(tmp_path) -> None:
    """That command then helps."""
    with controlplane() as cluster:
        code, checks = diagnosed(tmp_path, cluster.kubeconfig)
        crd = next(each for each in checks if each["check"] == "crd")
        assert (code, crd["level"], crd["hint"]) == (1, "fail", "kubectl apply -k config/crd")
        assert crd["message"] == "this cluster does not know OllamaModel"

        cluster.kubectl("apply", "-k", Path(__file__).parents[2] / "config" / "crd")
        path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/keepAlive"
        patch = json.dumps([{"op": "remove", "path": path}])
        cluster.kubectl("patch", "crd", f"{PLURAL}.{GROUP}", "--type=json", "--patch", patch)
        _, checks = diagnosed(tmp_path, cluster.kubeconfig)
        crd = next(each for each in checks if each["check"] == "crd")
        assert (crd["level"], crd["hint"]) == ("fail", "kubectl apply -k config/crd")
        assert "older than this operator: it has no spec.keepAlive" in crd["message"]


def test_each_right_that_is_missing_is_named(cluster: ControlPlane, tmp_path) -> None:
    """With the account that lacks it; what was granted is not asked for again."""
    config = account(cluster, "powerless")
    code, checks = diagnosed(tmp_path, config, "--namespace=ai")
    said = [each["message"] for each in checks if (each["check"], each["level"]) == DENIED]
    who = "system:serviceaccount:default:powerless may not"
    assert said == [
        f"{who} list, watch, patch ollamamodels in namespace ai",
        f"{who} patch ollamamodels/status in namespace ai",
        f"{who} create, patch events in namespace ai",
    ]
    assert code == 1
    assert ("crd", "warn") in levels(checks)  # it may not be read, but it is there

    cluster.kubectl("create", "namespace", "ai")
    grant(cluster, "powerless", [r for r in rights() if r.resource != "events"])
    _, checks = diagnosed(tmp_path, config, "--namespace=ai")
    said = [each["message"] for each in checks if (each["check"], each["level"]) == DENIED]
    assert said == [f"{who} create, patch events in namespace ai"]
    _, checks = diagnosed(tmp_path, config)
    assert any("watch, patch ollamamodels in all namespaces" in e["message"] for e in checks)


def grant(cluster: ControlPlane, name: str, granted: list[Right]) -> None:
    """Let the account do this in namespace ai."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": "ai"},
        "rules": [
            {"apiGroups": [each.group], "resources": [each.resource], "verbs": [each.verb]}
            for each in granted
        ],
    }
    cluster.kubectl("apply", "-f", "-", input=json.dumps(role))
    bound = (f"--role={name}", f"--serviceaccount=default:{name}")
    cluster.kubectl("--namespace=ai", "create", "rolebinding", name, *bound)


def test_an_absent_ollama_and_an_absent_collector_are_told(cluster, tmp_path) -> None:
    """Without the secrets that the collector's address and headers carry."""
    with closed_port() as port:
        url = f"http://127.0.0.1:{port}"
        code, checks = diagnosed(
            tmp_path,
            cluster.kubeconfig,
            f"--ollama-api-url={url}",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}/hunter2",
            OTEL_EXPORTER_OTLP_HEADERS="authorization=hunter2",
        )
    failed = {each["check"]: each for each in checks if each["level"] == "fail"}
    assert (code, set(failed)) == (1, {"ollama", "tracing"})
    assert failed["ollama"]["message"] == f"{url} refused the connection"
    assert failed["ollama"]["hint"] == "start Ollama, or set --ollama-api-url"
    assert f"no traces can be sent to {url}: " in failed["tracing"]["message"]
    assert "hunter2" not in json.dumps(checks)


def test_a_cluster_that_is_not_there_is_told_and_the_rest_is_checked(
    ollama: OllamaServer, tmp_path
) -> None:
    """A doctor who stops at the first complaint is none."""
    _, checks = diagnosed(tmp_path, tmp_path / "none", f"--ollama-api-url={ollama.url}")
    assert levels(checks)[:2] == [("cluster", "fail"), ("ollama", "ok")]
    assert f"no kubeconfig at {tmp_path / 'none'}" in checks[0]["message"]
