"""The two Kubernetes APIs that the same assertions are held against."""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import yaml
from anyio.from_thread import start_blocking_portal

from crd import render
from ollama_op.base.serve import serve
from ollama_op.sandbox.kube.server import KubeSandbox, kubeconfig
from support.kube.controlplane import controlplane
from support.process.assets import assets

GROUP = "/apis/ollama.smithforge.dev/v1alpha1"
_TIMEOUT_S = 120
_numbers = itertools.count()


@dataclass(frozen=True)
class Api:
    """One server."""

    client: httpx.Client
    kubeconfig: Path
    compact: Callable[[], None]
    """Makes resourceVersion 1 too old, if it is not yet."""


class Kube:
    """One server, seen by one test that has a namespace of its own."""

    def __init__(self, api: Api) -> None:
        self.client = api.client
        self.compact = api.compact
        self._kubeconfig = api.kubeconfig
        self.namespace = f"test-{next(_numbers)}"
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        self.client.post("/api/v1/namespaces", json=namespace).raise_for_status()
        self.models = f"{GROUP}/namespaces/{self.namespace}/ollamamodels"

    def model(self, name: str, spec: object = None, **metadata: object) -> dict[str, Any]:
        """Return a manifest."""
        return {
            "apiVersion": "ollama.smithforge.dev/v1alpha1",
            "kind": "OllamaModel",
            "metadata": {"name": name, **metadata},
            "spec": {"name": "phi3", "tag": "mini"} if spec is None else spec,
        }

    def create(self, name: str, **metadata: object) -> dict[str, Any]:
        """Create a model that must be accepted."""
        answer = self.client.post(self.models, json=self.model(name, **metadata))
        assert answer.status_code == 201, answer.text
        return answer.json()

    def get(self, name: str) -> dict[str, Any]:
        """Return a model that must be there."""
        return self.client.get(f"{self.models}/{name}").raise_for_status().json()

    def put(self, path: str, body: object) -> httpx.Response:
        """Replace what is at a path below the models."""
        return self.client.put(f"{self.models}/{path}", json=body)

    def patch(self, path: str, body: object, kind: str = "merge-patch+json") -> httpx.Response:
        """Patch what is at a path below the models."""
        headers = {"content-type": f"application/{kind}"}
        content = json.dumps(body)
        return self.client.patch(f"{self.models}/{path}", content=content, headers=headers)

    def delete(self, name: str, **preconditions: str) -> httpx.Response:
        """Delete a model."""
        body = {"preconditions": preconditions}
        return self.client.request("DELETE", f"{self.models}/{name}", json=body)

    def watch(
        self,
        since: str | None,
        seconds: int = 1,
        meanwhile: Callable[[], object] = lambda: None,
        **query: str,
    ) -> list[dict[str, Any]]:
        """Return the events of a watch from its begin to its timeout."""
        asked = {"watch": "true", "timeoutSeconds": str(seconds), **query}
        if since is not None:
            asked["resourceVersion"] = since
        # What has happened is known to the server's cache after a list, and so told at once.
        self.client.get(self.models, params={"limit": "1"}).raise_for_status()
        with self.client.stream("GET", self.models, params=asked) as answer:
            answer.raise_for_status()
            meanwhile()
            return [msgspec.json.decode(line) for line in answer.read().split(b"\n") if line]

    def kubectl(self, *arguments: str, ok: bool = True, body: object = None) -> str:
        """Run kubectl in the test's namespace; return all it printed."""
        done = subprocess.run(
            self._command(arguments),
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            input=None if body is None else yaml.safe_dump(body),
            env=self._environment(),
            timeout=_TIMEOUT_S,
        )
        assert (done.returncode == 0) is ok, done.stdout
        return done.stdout

    @contextlib.contextmanager
    def kubectl_beside(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run kubectl while the test goes on."""
        process = subprocess.Popen(
            self._command(arguments), text=True, stdout=subprocess.PIPE, env=self._environment()
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [str(assets() / "kubectl"), "-n", self.namespace, *arguments]

    def _environment(self) -> dict[str, str]:
        cache = str(self._kubeconfig.parent / "kubectl-cache")
        return os.environ | {"KUBECONFIG": str(self._kubeconfig), "KUBECACHEDIR": cache}


@pytest.fixture(scope="session")
def _sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    sandbox = KubeSandbox()
    sock = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    config = tmp_path_factory.mktemp("sandbox") / "kubeconfig"
    config.write_text(yaml.safe_dump(kubeconfig(url)))
    with start_blocking_portal() as portal:
        server, _ = portal.start_task(serve, sandbox, sock)
        with httpx.Client(base_url=url, timeout=_TIMEOUT_S, trust_env=False) as client:
            yield Api(client, config, lambda: portal.call(sandbox.store.compact))
        server.cancel()


@pytest.fixture(scope="session")
def _real() -> Iterator[Api]:
    with controlplane() as plane:
        manifest = yaml.safe_dump(render.crd())
        plane.kubectl("apply", "--server-side", "-f", "-", input=manifest)
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all")
        # A watch before the first test: the server does not know the resource at once, and until
        # it has filled its cache it takes every resourceVersion for too old.
        watch = {"watch": "true", "timeoutSeconds": "1"}
        while plane.client.get(f"{GROUP}/ollamamodels", params=watch).is_error:
            time.sleep(0.1)
        yield Api(plane.client, plane.kubeconfig, lambda: None)


@pytest.fixture(params=["sandbox", pytest.param("real", marks=pytest.mark.real)])
def kube(request: pytest.FixtureRequest) -> Kube:
    """Give each test a Kubernetes API with our CRD: the sandbox's, then the real one."""
    return Kube(request.getfixturevalue(f"_{request.param}"))
