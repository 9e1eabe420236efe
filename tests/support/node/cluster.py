"""A Kubernetes cluster of one node, of real parts, within this machine.

    with node() as cluster:
        cluster.kubectl("apply", "-k", "config/with-ollama")

etcd, kube-apiserver and the controllers run in a box of their own (`support.node.box`), with
containerd, a kubelet, kube-proxy, CoreDNS, and kube-network-policies, which enforces what a
NetworkPolicy says. The images of the manifests are there already. It needs root, runc, nft,
iptables and the plugins of CNI.

What is not as elsewhere: disks are folders that are laid out beforehand; whatever a container asks
for is cut down to what a small machine can promise; Ollama is the release that the tests have; and
DNS and kube-apiserver are on the node itself, the way to which no network policy closes.
"""

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from support.kube.certificate import write_certificate
from support.kube.controlplane import ControlPlane, Place, controlplane
from support.node import config
from support.node.box import Box, box
from support.node.config import API_PORT, NAME, written
from support.node.images import images
from support.process.assets import node_assets
from support.process.child import TAIL_LINES, Process

_SECRETS = "/run/secrets/kubernetes.io/serviceaccount"  # where a program in a pod looks


class Node:
    """The cluster while it runs.

    `host` is the address of this machine as pods see it: a `Registry(cluster.host)` is one that
    they can pull from.
    """

    def __init__(self, made: Box, plane: ControlPlane) -> None:
        self.box, self.plane = made, plane
        self.host = made.host
        self.kubeconfig = plane.kubeconfig
        self.kubectl = plane.kubectl
        self.disks = made.folder / config.DISKS

    def logs(self) -> str:
        """Return the last lines of each part's log."""
        folders = (self.box.folder, self.plane.folder)
        logs = sorted(path for folder in folders for path in folder.glob("*.log"))
        return "\n".join(f"--- {path.name}\n{_tail(path)}" for path in logs)


@contextlib.contextmanager
def node() -> Iterator[Node]:
    """Run such a cluster; its node is Ready inside.

    Raises: ProcessFailedError, KubectlError, subprocess.CalledProcessError.
    """
    with ExitStack() as stack:
        made = stack.enter_context(box())
        write_certificate(made.folder, ())
        archives = images(made.folder)
        place = Place(
            address=made.address,
            port=API_PORT,
            enter=made.enter,
            binaries=node_assets(),
            flags=tuple(config.apiserver_flags(made)),
        )
        plane = stack.enter_context(controlplane(place=place))
        everything = {"apiVersion": "v1", "kind": "List", "items": config.objects(made)}
        plane.kubectl("apply", "-f", "-", input=json.dumps(everything))
        parts = _Parts(made, plane)
        stack.enter_context(parts.containerd())
        for archive in archives:
            made.run(node_assets() / "ctr", "--namespace=k8s.io", "images", "import", archive)
            archive.unlink()
        for part in (*parts.controllers(), *parts.network(), parts.kubelet()):
            stack.enter_context(part)
        plane.kubectl("wait", "--for=create", f"node/{NAME}", "--timeout=60s")
        plane.kubectl("wait", "--for=condition=Ready", f"node/{NAME}", "--timeout=60s")
        yield Node(made, plane)


class _Parts:
    """The processes of a node, and of the controllers that a bare control plane has not."""

    def __init__(self, made: Box, plane: ControlPlane) -> None:
        self._box, self._plane = made, plane
        self._kubeconfigs = {who: plane.kubeconfig_for(who, token=who) for who in config.PEOPLE}

    def containerd(self) -> Process:
        file = written(self._box.folder / "containerd.toml", config.containerd(self._box))
        written(self._box.folder / "cni" / "pods.conflist", config.network(self._box))
        socket_file = self._box.file("/run/containerd/containerd.sock")

        def ready() -> bool:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(socket_file))
            return True

        return self._process("containerd", f"--config={file}", ready=ready)

    def controllers(self) -> Iterator[Process]:
        certs = self._plane.folder / "certs"
        name = "kube-controller-manager"
        yield self._listening(
            name,
            10257,
            f"--kubeconfig={self._kubeconfigs[name]}",
            f"--bind-address={self._box.address}",
            "--leader-elect=false",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={certs / 'service-accounts.pem'}",
            f"--root-ca-file={self._plane.certificate}",
        )
        name = "kube-scheduler"
        yield self._listening(
            name,
            10259,
            f"--kubeconfig={self._kubeconfigs[name]}",
            f"--bind-address={self._box.address}",
            "--leader-elect=false",
        )

    def network(self) -> Iterator[Process]:
        made, kubeconfig = self._box, self._kubeconfigs["kube-proxy"]
        file = written(made.folder / "kube-proxy.json", config.kube_proxy(made, kubeconfig))
        yield self._listening("kube-proxy", 10256, f"--config={file}")
        file = written(made.folder / "Corefile", config.coredns(made, self._kubeconfigs["network"]))
        yield self._listening("coredns", 8181, f"-conf={file}")
        self._queue()
        # It looks for its credentials where a pod has them.
        written(made.file(f"{_SECRETS}/token"), "network")
        written(made.file(f"{_SECRETS}/ca.crt"), self._plane.certificate.read_text())
        yield self._listening(
            "kube-network-policies",
            9080,
            f"--hostname-override={NAME}",
            f"--metrics-bind-address={made.address}:9080",
            "--disable-nri",
            env={
                "KUBERNETES_SERVICE_HOST": made.address,
                "KUBERNETES_SERVICE_PORT": str(API_PORT),
            },
        )

    def _queue(self) -> None:
        """Queue what pods send and get for kube-network-policies, as its own rules of nft do.

        Not every kernel has the queue of nft; that of iptables is older.
        """
        for rule in (
            "-m owner --uid-owner 0 -j RETURN",  # probes, and what else the node itself asks
            "-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN",
            f"-s {self._box.pods} -j NFQUEUE --queue-num 100",
            f"-d {self._box.pods} -j NFQUEUE --queue-num 100",
        ):
            self._box.run("iptables", "-t", "mangle", "-A", "POSTROUTING", *rule.split())

    def kubelet(self) -> Process:
        file = written(self._box.folder / "kubelet.json", config.kubelet(self._box))
        return self._listening(
            "kubelet",
            10248,
            f"--config={file}",
            f"--kubeconfig={self._kubeconfigs['kubelet']}",
            f"--hostname-override={NAME}",
            f"--node-ip={self._box.address}",
        )

    def _listening(
        self, name: str, port: int, *flags: str, env: Mapping[str, str] | None = None
    ) -> Process:
        def ready() -> bool:
            with socket.create_connection((self._box.address, port), timeout=1):
                return True

        return self._process(name, *flags, ready=ready, env=env)

    def _process(
        self,
        name: str,
        *flags: str,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
    ) -> Process:
        path = f"{node_assets()}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return Process(
            [*self._box.enter, node_assets() / name, *flags],
            log=self._box.folder / f"{name}.log",
            ready=ready,
            env={"PATH": path} | dict(env or {}),
        )


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-TAIL_LINES:])
