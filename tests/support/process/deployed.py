"""Runs the operator as its Deployment in a cluster says: what a kubelet would do, without one."""

import base64
import json
import re
from pathlib import Path
from typing import Any

from support.kube.controlplane import ControlPlane
from support.kube.manifests import NAMESPACE
from support.process.child import free_port
from support.process.operator import Operator

_ADDRESS = re.compile(r"--(?P<what>.+)-bind-address=:\d+")
_KUBELETS = "health-probe"  # the address of the probes is the caller's affair


class Deployed(Operator):
    """A replica with the arguments, the environment and the rights that it has in a pod.

    Only the addresses are others: `rest` and `metrics` are host and port on loopback, and Ollama is
    at `ollama_url`, as no name of a Service leads anywhere here.
    """

    def __init__(self, cluster: ControlPlane, ollama_url: str, **env: str) -> None:
        where = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/ollama-op"
        pod = cluster.get(where)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        self.image = container["image"]
        self.settings = _environment(cluster, container)
        self.addresses: dict[str, str] = {}
        command, *flags = container["args"]
        assert command == "run"
        account = pod["serviceAccountName"]
        super().__init__(
            _kubeconfig(cluster, account),
            ollama_url,
            *filter(None, map(self._here, flags)),
            f"--leader-elect-namespace={NAMESPACE}",
            env=self.settings | env,
        )

    @property
    def rest(self) -> str:
        """Host and port of the REST API."""
        return self.addresses["api-server"]

    @property
    def metrics(self) -> str:
        """Host and port of the metrics."""
        return self.addresses["metrics"]

    def _here(self, flag: str) -> str:
        """Return a flag as it can be meant on a machine that is no pod's own; or nothing."""
        if not (found := _ADDRESS.fullmatch(flag)):
            return flag
        if (what := found["what"]) == _KUBELETS:
            return ""
        self.addresses[what] = f"127.0.0.1:{free_port()}"
        return f"--{what}-bind-address={self.addresses[what]}"


def release_lease(cluster: ControlPlane) -> None:
    """Leave a Lease as the last leader does: who finds none waits for 15 s."""
    metadata = {"name": "ollama-op", "namespace": NAMESPACE}
    spec = {"holderIdentity": "", "leaseDurationSeconds": 1}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
    cluster.kubectl("create", "-f", "-", input=json.dumps(body | {"spec": spec}))


def _kubeconfig(cluster: ControlPlane, account: str) -> Path:
    token = cluster.kubectl("create", "token", account, f"--namespace={NAMESPACE}").strip()
    return cluster.kubeconfig_for(account, token)


def _environment(cluster: ControlPlane, container: dict[str, Any]) -> dict[str, str]:
    """Return what ConfigMaps and Secrets make of a container's environment."""
    core = f"/api/v1/namespaces/{NAMESPACE}"
    env: dict[str, str] = {}
    for source in container["envFrom"]:
        env |= cluster.get(f"{core}/configmaps/{source['configMapRef']['name']}")["data"]
    for each in container["env"]:
        ref = each["valueFrom"]["secretKeyRef"]
        secret = cluster.client.get(f"{core}/secrets/{ref['name']}")
        if secret.is_success:
            env[each["name"]] = base64.b64decode(secret.json()["data"][ref["key"]]).decode()
        else:
            assert ref["optional"], ref
    return env
