"""A folder of config/ as it is installed on a node, and what its users see of it with kubectl."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.kube.manifests import CONFIG, NAMESPACE
from support.node.cluster import Node
from support.ollama.registry import Registry
from support.process.assets import assets
from support.process.operator import RESOURCE, Object

WITHIN_S = 120  # generous: a whole cluster is on this one machine
_MANAGERS = "--selector=app.kubernetes.io/name=ollama-op,app.kubernetes.io/component=manager"


class Installed:
    """A folder of config/ on a node."""

    def __init__(self, cluster: Node, folder: Path) -> None:
        self.cluster, self._folder = cluster, folder
        self._is_there = False

    def install(self) -> None:
        """Apply it, and wait until it is there; a warning counts as an error.

        Raises: KubectlError.
        """
        self._is_there = True
        self.cluster.kubectl("apply", "--warnings-as-errors", "-k", self._folder)
        self.rolled_out("deployment/ollama-op")

    def uninstall(self) -> None:
        """Take it away, in the order of docs/install.md, unless that was done already.

        Raises: KubectlError.
        """
        if not self._is_there:
            return
        self._is_there = False
        limit = f"--timeout={WITHIN_S}s"
        self.cluster.kubectl("delete", RESOURCE, "--all", "-A", limit)
        self.cluster.kubectl("delete", "-k", CONFIG / "crd", limit)
        self.cluster.kubectl("delete", "-k", self._folder, "--ignore-not-found", limit)

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """Run kubectl in the operator's namespace.

        Raises: KubectlError.
        """
        return self.cluster.kubectl("--namespace", NAMESPACE, *arguments, **options)

    def rolled_out(self, what: str) -> None:
        """Wait as people do until a workload is as it should be.

        Raises: KubectlError.
        """
        self.kubectl("rollout", "status", what, f"--timeout={WITHIN_S}s")

    def pods(self) -> list[Object]:
        """Return the operator's pods, without those that are on their way out."""
        found = json.loads(self.kubectl("get", "pods", _MANAGERS, "--output=json"))["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def leader(self) -> str:
        """Return the name of the pod that leads."""
        held = self.kubectl("get", "lease", "ollama-op", "--output=jsonpath={.spec.holderIdentity}")
        return held.partition("_")[0]

    def run_in(self, what: str, *command: str) -> str:
        """Run a command in a pod or a workload's pod; return what it prints.

        Raises: KubectlError.
        """
        return self.kubectl("exec", what, "--", *command)

    @contextmanager
    def forwarded(self, what: str, port: int) -> Iterator[str]:
        """Forward a free port of this machine to that of a Service; give its URL."""
        command: list[str | Path] = [
            assets() / "kubectl",
            f"--kubeconfig={self.cluster.kubeconfig}",
        ]
        command += [f"--namespace={NAMESPACE}", "port-forward", what, f":{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forwarding:
            assert forwarding.stdout is not None
            said = forwarding.stdout.readline()
            try:
                yield f"http://{said.split()[2]}"
            finally:
                forwarding.terminate()


def let_out(cluster: Node, namespace: str, registry: Registry) -> None:
    """Let Ollama reach a registry inside of the cluster: it needs a rule of its own."""
    host, _, port = registry.address.partition(":")
    rule = {"to": [{"ipBlock": {"cidr": f"{host}/32"}}], "ports": [{"port": int(port)}]}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "ollama-registry"},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "ollama"}},
            "policyTypes": ["Egress"],
            "egress": [rule],
        },
    }
    cluster.kubectl("--namespace", namespace, "apply", "-f", "-", input=json.dumps(policy))
