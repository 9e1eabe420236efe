"""What empties a namespace that is deleted: the controller that a bare control plane has not."""

import contextlib
from collections.abc import Iterator

import httpx

from support.kube.controlplane import ControlPlane
from support.process.assets import assets
from support.process.child import Process, free_port


@contextlib.contextmanager
def namespace_controller(plane: ControlPlane) -> Iterator[Process]:
    """Run a real kube-controller-manager that looks after namespaces, and after nothing else.

    Five seconds after a namespace was deleted it deletes all that is in it, kind by kind and in no
    order, and again whenever something is left.

    Raises: ProcessFailedError.
    """
    port = free_port()

    def ready() -> bool:
        # Its certificate is one that it made by itself a moment ago.
        url = f"https://127.0.0.1:{port}/healthz"
        return httpx.get(url, verify=False, trust_env=False).is_success  # noqa: S501

    command = [
        assets() / "kube-controller-manager",
        f"--kubeconfig={plane.kubeconfig}",
        f"--authentication-kubeconfig={plane.kubeconfig}",
        f"--authorization-kubeconfig={plane.kubeconfig}",
        "--controllers=namespace-controller",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={plane.folder / 'controller-certs'}",
    ]
    log = plane.folder / "kube-controller-manager.log"
    with Process(command, log=log, ready=ready) as process:
        yield process
