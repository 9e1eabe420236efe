"""A real Kubernetes API on loopback: etcd and kube-apiserver, without nodes or controllers."""

import contextlib
import json
import os
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from support.kube.certificate import write_key
from support.process.assets import assets
from support.process.child import Process, free_port

ADMIN_TOKEN = "admin"  # noqa: S105 - of a cluster that lives as long as a test run
_TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the API is to run: its address, what starts a command there, and whose it is.

    `binaries` is the folder that holds the kube-apiserver, and `flags` are what else it is told.
    """

    address: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    enter: tuple[str, ...] = ()
    binaries: Path = field(default_factory=assets)
    # No controller makes the accounts.
    flags: tuple[str, ...] = ("--disable-admission-plugins=ServiceAccount",)

    @property
    def url(self) -> str:
        """Where the kube-apiserver answers."""
        return f"https://{self.address}:{self.port}"


class KubectlError(Exception):
    """kubectl ended with an error code. The message is what it wrote to standard error."""


class ControlPlane:
    """A running Kubernetes API, and how to talk to it as its administrator.

    `client` sends raw requests; its base URL, credentials and certificate are set.
    """

    def __init__(self, url: str, folder: Path, apiserver: Process, etcd: Process) -> None:
        self.url = url
        self.folder = folder
        self.apiserver = apiserver
        self.etcd = etcd
        self.certificate = _certificate(folder)
        self.kubeconfig = self.kubeconfig_for("admin", ADMIN_TOKEN)
        self.client = _client(url, folder)

    def kubeconfig_for(self, name: str, token: str) -> Path:
        """Write a kubeconfig for whom this bearer token stands for."""
        cluster = {"server": self.url, "certificate-authority": str(self.certificate)}
        context = {"cluster": "tests", "user": name, "namespace": "default"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": context}],
            "current-context": name,
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def kubectl(
        self,
        *arguments: str | Path,
        check: bool = True,
        input: str | None = None,  # noqa: A002 - named as subprocess.run has it
        kubeconfig: Path | None = None,
    ) -> str:
        """Run kubectl as the administrator, or as whom `kubeconfig` names; return its output.

        Raises: KubectlError if it fails and `check` holds; without `check` the error output is
        returned after the output.
        """
        done = subprocess.run(
            [assets() / "kubectl", *arguments],
            check=False,
            capture_output=True,
            text=True,
            input=input,
            env=os.environ
            | {
                "KUBECONFIG": str(kubeconfig or self.kubeconfig),
                "KUBECACHEDIR": str(self.folder / "kubectl-cache"),
            },
        )
        if done.returncode and check:
            command = " ".join(map(str, arguments))
            raise KubectlError(f"kubectl {command}: {done.stderr.strip()}")
        return done.stdout if check else done.stdout + done.stderr

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON at an API path.

        Raises: httpx.HTTPStatusError.
        """
        answer: dict[str, Any] = self.client.get(path).raise_for_status().json()
        return answer

    def stop_apiserver(self) -> None:
        """Let the API be unreachable; etcd keeps all objects."""
        self.apiserver.stop()

    def start_apiserver(self) -> None:
        """Bring the API back at the same address, and wait until it is ready."""
        self.apiserver.start()

    def save(self) -> Path:
        """Copy etcd's data, with etcd stopped meanwhile; return where the copy is."""
        copy = Path(tempfile.mkdtemp(prefix="snapshot-", dir=self.folder))
        self.etcd.stop()
        shutil.copytree(self._data, copy, dirs_exist_ok=True)
        self.etcd.start()
        return copy

    def restore(self, copy: Path | None) -> None:
        """Put a copy, or nothing, in the place of etcd's data, with etcd stopped meanwhile."""
        self.etcd.stop()
        shutil.rmtree(self._data)
        if copy is not None:
            shutil.copytree(copy, self._data)
        self.etcd.start()

    @property
    def _data(self) -> Path:
        return self.folder / "etcd"


@contextlib.contextmanager
def controlplane(
    apiserver_args: Sequence[str] = (), place: Place | None = None
) -> Iterator[ControlPlane]:
    """Run a Kubernetes API of one's own; ready in two to three seconds.

    `apiserver_args` come last, so they win over the flags set here.

    Raises: ProcessFailedError.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="controlplane-")))
        place = place or Place()
        etcd_url = f"http://{place.address}:{free_port()}"
        # Left in reverse: the kube-apiserver ends first, as without etcd it would linger.
        etcd = stack.enter_context(_etcd(folder, etcd_url, place))
        apiserver = stack.enter_context(_apiserver(folder, etcd_url, place, apiserver_args))
        plane = ControlPlane(place.url, folder, apiserver, etcd)
        stack.enter_context(plane.client)
        yield plane


def _etcd(folder: Path, url: str, place: Place) -> Process:
    command: list[str | Path] = [
        *place.enter,
        assets() / "etcd",
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls=http://127.0.0.1:{free_port()}",
        "--unsafe-no-fsync",  # nobody needs the data after a crash
        "--log-level=error",
    ]

    def ready() -> bool:
        return httpx.get(f"{url}/health", trust_env=False).is_success

    return Process(command, log=folder / "etcd.log", ready=ready)


def _apiserver(folder: Path, etcd_url: str, place: Place, extra: Sequence[str]) -> Process:
    certs = folder / "certs"
    certs.mkdir()
    key = certs / "service-accounts.pem"
    write_key(key)
    tokens = certs / "tokens.csv"
    tokens.write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n')
    command: list[str | Path] = [
        *place.enter,
        place.binaries / "kube-apiserver",
        f"--etcd-servers={etcd_url}",
        f"--cert-dir={certs}",
        f"--secure-port={place.port}",
        f"--bind-address={place.address}",
        # An address that nobody dials, so that a machine without a network can run this too.
        "--advertise-address=192.0.2.1",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
        *place.flags,
        *extra,
    ]

    def ready() -> bool:
        with _client(place.url, folder) as client:
            return client.get("/readyz").is_success

    return Process(command, log=folder / "kube-apiserver.log", ready=ready)


def _client(url: str, folder: Path) -> httpx.Client:
    """Return a client for the administrator.

    Raises: OSError while the kube-apiserver has not written its certificate.
    """
    return httpx.Client(
        base_url=url,
        headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        verify=ssl.create_default_context(cafile=str(_certificate(folder))),
        timeout=_TIMEOUT_S,
        trust_env=False,
    )


def _certificate(folder: Path) -> Path:
    return folder / "certs" / "apiserver.crt"
