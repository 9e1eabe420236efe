"""Runs the operator as a process of its own, and uses it as people do: with kubectl."""

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from crd.v1alpha1 import API_VERSION, GROUP, KIND, PLURAL
from support.kube.controlplane import ControlPlane
from support.process.child import Process, free_port

COMMAND = Path(sys.executable).with_name("ollama-op")
WITHIN_S = 180  # a busy machine is no failure: other tests, and other people's work, run beside
STOP_S = 60  # likewise: that the operator ends in time is for tests in virtual time to see
PATIENCE = f"--timeout={WITHIN_S}s"  # of a kubectl that waits
_POLL_S = 0.1

RESOURCE = f"{PLURAL}.{GROUP}"  # another group may have resources of the same kind

Object = dict[str, Any]


class Operator(Process):
    """`ollama-op run`, between `with` and its end.

    It counts as started once `probe` succeeds: `/readyz`, or `/healthz` where it is not to become
    ready. `flags` are added to those that a test needs anyway, and `env` to an environment that is
    bare otherwise.
    """

    def __init__(
        self,
        kubeconfig: Path,
        ollama_url: str,
        *flags: str,
        probe: str = "/readyz",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="operator-")
        folder, address = Path(self._folder.name), f"127.0.0.1:{free_port()}"
        self._probe = f"http://{address}{probe}"
        self._base = [str(COMMAND), "run", f"--kubeconfig={kubeconfig}"]
        self._base += [f"--ollama-api-url={ollama_url}", f"--health-probe-bind-address={address}"]
        self._base += ["--health-interval=2s", "--log-format=json", *flags]
        super().__init__(
            self._base,
            log=folder / "operator.log",
            ready=self._is_well,
            env=bare(folder) | dict(env or {}),
        )

    def restart(self, *flags: str) -> None:
        """End it in an orderly way and start it again, with other flags in addition."""
        self.stop()
        self.command = [*self._base, *flags]
        self.start()

    def stop(self, grace_s: float = STOP_S) -> int:
        """Send SIGTERM; return the exit code, -9 if it had to be killed after `grace_s`."""
        child = self._child
        super().stop(grace_s)
        return child.returncode if child else 0

    def logs(self) -> list[Object]:
        """Return every line that it wrote so far, on either output.

        Raises: ValueError if one of them is no JSON.
        """
        lines = self.log.read_bytes().split(b"\n")[:-1]  # what follows the last \n is unfinished
        return [json.loads(line) for line in lines]

    def bugs(self) -> list[Object]:
        """Return what only a bug writes: errors and tracebacks."""
        return [line for line in self.logs() if "exception" in line or line["level"] == "error"]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    def _is_well(self) -> bool:
        return httpx.get(self._probe, trust_env=False).is_success


class Models:
    """The OllamaModels of one namespace, which is made if there is none."""

    def __init__(self, cluster: ControlPlane, namespace: str = "default") -> None:
        self.cluster, self.namespace = cluster, namespace
        self._path = f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}"
        if cluster.client.get(f"/api/v1/namespaces/{namespace}").is_error:
            cluster.kubectl("create", "namespace", namespace)

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """Run kubectl in the namespace.

        Raises: KubectlError.
        """
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, **options)

    def apply(self, name: str, model: str, how: str = "apply", **annotations: str) -> None:
        """Apply, or `create`, an object that wants `model`, written as name:tag.

        Raises: KubectlError.
        """
        body = manifest(name, *model.rsplit(":", 1), **annotations)
        self.kubectl(how, "-f", "-", input=json.dumps(body))

    def want(self, name: str, model: str, **spec: Any) -> None:
        """Apply an object that wants `model`, cared for as `spec` says and not otherwise.

        Raises: KubectlError.
        """
        body = manifest(name, *model.rsplit(":", 1))
        body["spec"] |= spec
        self.kubectl("apply", "-f", "-", input=json.dumps(body))

    def get(self, name: str) -> Object:
        """Return an object.

        Raises: httpx.HTTPStatusError if there is none.
        """
        return self.cluster.get(f"{self._path}/{name}")

    def exists(self, name: str) -> bool:
        """Return True if there is such an object."""
        return self.cluster.client.get(f"{self._path}/{name}").is_success

    def annotate(self, name: str, key: str, value: str) -> None:
        """Set one of the annotations that the operator reads."""
        self.kubectl("annotate", RESOURCE, name, f"{GROUP}/{key}={value}", "--overwrite")

    def delete(self, *names: str) -> None:
        """Ask for the deletion of objects, and do not wait for it."""
        self.kubectl("delete", RESOURCE, *names, "--wait=false")

    def until(
        self, name: str, accept: Callable[[Object], object], within_s: float = WITHIN_S
    ) -> Object:
        """Wait until the status of an object is accepted; return the status."""
        status: Object = {}

        def look() -> object:
            status.clear()
            status.update(self.get(name).get("status", {}))
            return accept(status)

        wait_until(look, lambda: f"{name}: {json.dumps(status, indent=1)}", within_s)
        return status

    def remove(self, *names: str) -> None:
        """Delete objects, and wait until they are gone."""
        self.delete(*names)
        self.gone(*names)

    def ready(self, *names: str, within_s: float = WITHIN_S) -> Object:
        """Wait until all of these are Ready; return the status of the last."""
        return [self.until(n, lambda s: s.get("state") == "Ready", within_s) for n in names][-1]

    def gone(self, *names: str, within_s: float = WITHIN_S) -> None:
        """Wait until there is none of these objects."""

        def left() -> list[str]:
            return [name for name in names if self.exists(name)]

        wait_until(lambda: not left(), lambda: f"there is still {left()}", within_s)

    def events(self, name: str) -> list[str]:
        """Return the reasons of the events about an object."""
        events = self.cluster.get(f"/api/v1/namespaces/{self.namespace}/events")["items"]
        return [e["reason"] for e in events if e["involvedObject"]["name"] == name]

    def told(self, name: str, *reasons: str) -> None:
        """Wait until events with these reasons tell of an object."""
        wait_until(
            lambda: set(reasons) <= set(self.events(name)),
            lambda: f"events of {name} are {self.events(name)}",
        )

    def clear(self) -> None:
        """Delete all objects, which takes an operator, and wait until they are gone."""
        self.kubectl("delete", RESOURCE, "--all", PATIENCE)


def clear(cluster: ControlPlane) -> None:
    """Delete all objects of a cluster, which takes an operator; none is left even if that fails."""
    try:
        cluster.kubectl("delete", RESOURCE, "--all", "-A", PATIENCE)
    finally:
        release(cluster)


def release(cluster: ControlPlane) -> None:
    """Let all objects of a cluster go, if it has any, whatever becomes of their models."""
    answer = cluster.client.get(f"/apis/{API_VERSION}/{PLURAL}")
    for item in answer.json()["items"] if answer.is_success else ():
        models = Models(cluster, item["metadata"]["namespace"])
        models.kubectl("delete", RESOURCE, name := item["metadata"]["name"], "--wait=false")
        patch = '{"metadata":{"finalizers":null}}'
        models.kubectl(
            "patch", RESOURCE, name, "--type=merge", f"--patch={patch}", check=False
        )  # a NotFound where it had none


def manifest(name: str, model: str, tag: str = "latest", **annotations: str) -> Object:
    """Return an OllamaModel as a user writes it."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"name": model, "tag": tag},
    }


def condition(status: Object, kind: str, what: str = "status") -> str | None:
    """Return the status of a condition, or another of its fields; None without that condition."""
    found = (c[what] for c in status.get("conditions", ()) if c["type"] == kind)
    return next(found, None)


def reason(status: Object) -> str | None:
    """Return why the model is Ready, or not."""
    return condition(status, "Ready", "reason")


def apply_crd(cluster: ControlPlane, folder: Path) -> None:
    """Apply the CRD as its users do, and wait until the API server serves what it defines."""
    cluster.kubectl("apply", "-k", folder)
    # `kubectl wait` fails on a CRD that is so new that it has no conditions at all.
    served = f"/apis/{API_VERSION}/{PLURAL}"
    wait_until(lambda: cluster.client.get(served).is_success, lambda: f"no {served}")


def cell(table: str, row: int, column: str) -> str:
    """Return what `kubectl get` printed in a column of a row; an empty cell is no gap."""
    lines = table.splitlines()
    starts = [found.start() for found in re.finditer(r"\S+", lines[0])] + [None]
    at = lines[0].split().index(column)
    return lines[row][starts[at] : starts[at + 1]].strip()


def wait_until(
    check: Callable[[], object], what: Callable[[], str], within_s: float = WITHIN_S
) -> None:
    """Wait until `check` holds; `what` says how things are if it never does."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what()}"
        time.sleep(_POLL_S)


def bare(home: Path) -> dict[str, str]:
    """Return an environment without settings, proxies or kubeconfig of whoever runs the tests."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home)}
