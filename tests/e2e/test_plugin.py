"""An operator that logs in by a plugin, on a real kube-apiserver with tokens that really expire."""

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.kube.controlplane import ControlPlane, controlplane
from support.kube.plugin import FakePlugin
from support.kube.tokens import expiring_tokens
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.operator import Models, Operator, apply_crd, wait_until

pytestmark = pytest.mark.real

CRD = Path(__file__).parents[2] / "config" / "crd"
TAKES_S = 5  # longer than a write may take
LASTS_S = 12
ROUNDS = 3


@dataclass
class Bench:
    """A cluster with tokens that expire, a plugin for them, and an operator that uses it."""

    plane: ControlPlane
    plugin: FakePlugin
    kubeconfig: Path
    temp: Path
    ollama: OllamaServer

    def operator(self, **how: Any) -> Operator:
        """Return an operator; it may write temporary files to `temp` only."""
        env = {"TMPDIR": str(self.temp)}
        return Operator(self.kubeconfig, self.ollama.url, "--leader-elect", env=env, **how)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run a cluster that asks a webhook about tokens."""
    with (
        expiring_tokens(tmp_path_factory.mktemp("tokens")) as flags,
        controlplane(flags) as plane,
    ):
        apply_crd(plane, CRD)
        yield plane


@pytest.fixture
def bench(plane: ControlPlane, ollama: OllamaServer, tmp_path: Path) -> Bench:
    """Write a kubeconfig with a plugin and an inline CA, from which kr8s would make a file."""
    plugin = FakePlugin(tmp_path)
    exec_ = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "interactiveMode": "IfAvailable",
        "command": f".{os.sep}{plugin.path.name}",
        "args": [str(LASTS_S), str(TAKES_S)],
    }
    authority = base64.b64encode(plane.certificate.read_bytes()).decode()
    cluster = {"server": plane.url, "certificate-authority-data": authority}
    config = {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": {"exec": exec_}}],
    }
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    (tmp_path / "tmp").mkdir()
    return Bench(plane, plugin, path, tmp_path / "tmp", ollama)


def lines(operator: Operator, *words: str) -> list[str]:
    """Return what the operator logged with one of these words in it."""
    logged = [json.dumps(line) for line in operator.logs()]
    return [line for line in logged if any(word in line for word in words)]


def test_a_slow_plugin_keeps_the_operator_going(bench: Bench, registry: Registry) -> None:
    """Whatever expires: it is asked ahead of time, once for all, and never killed with a write."""
    models = Models(bench.plane, "slow-plugin")
    with bench.operator() as operator:
        for number in range(ROUNDS):
            ends = bench.plugin.ends
            name = f"plugin-{number}"
            registry.publish(name)
            models.apply(name, f"{name}:latest")
            models.ready(name)
            wait_until(lambda: bench.plugin.ends > ends, lambda: f"{ends} logins")  # noqa: B023 - it is called in this round
        models.clear()
        assert len(bench.plugin.starts) - bench.plugin.ends <= 1  # the one that is under way
        assert lines(operator, "HTTP 401", "Request URL", "not logged in", "Traceback") == []
        assert operator.bugs() == []
        operator.kill()
    assert list(bench.temp.iterdir()) == []


def test_a_plugin_that_fails_at_first_is_asked_again(bench: Bench) -> None:
    """`run` does not end; the log names the plugin, what it said, and how long it took."""
    bench.plugin.fail()
    with bench.operator(probe="/healthz") as operator:
        wait_until(lambda: lines(operator, "not logged in"), lambda: str(operator.logs()))
        bench.plugin.work()
        wait_until(lambda: readiness(operator).is_success, lambda: readiness(operator).text)
        (told,) = lines(operator, "not logged in")
        assert "the plugin get-token ended with exit code 1: no session: sign in again" in told
        assert "(after " in told
        assert lines(operator, "logged in to kubernetes")
        assert operator.bugs() == []


def test_without_a_login_it_is_not_ready_and_says_why_once(bench: Bench) -> None:
    """A watch that goes on says nothing about the next write."""
    with bench.operator() as operator:
        bench.plugin.fail()
        wait_until(lambda: readiness(operator).status_code == 503, lambda: "still ready")
        assert readiness(operator).text == "not logged in to Kubernetes; the log says why\n"
        begun = len(bench.plugin.starts)
        wait_until(lambda: len(bench.plugin.starts) > begun + 1, lambda: "not tried again")
        assert len(lines(operator, "sign in again")) == 1
        bench.plugin.work()
        wait_until(lambda: readiness(operator).is_success, lambda: readiness(operator).text)
        assert operator.bugs() == []


def readiness(operator: Operator) -> httpx.Response:
    """Ask the operator whether it is ready."""
    probe = operator._probe.rpartition("/")[0]
    return httpx.get(f"{probe}/readyz", trust_env=False)
