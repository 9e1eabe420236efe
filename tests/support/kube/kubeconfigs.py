"""Kubeconfigs of all kinds, and whom kubectl and the operator are taken for with each."""

import base64
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from ollama_op.base.errors import KubeError
from ollama_op.kube.client import KubeClient
from ollama_op.kube.login import Login
from support.kube.controlplane import ControlPlane
from support.kube.plugin import FakePlugin
from support.process.assets import assets

FAILED = "not let in"
Object = dict[str, Any]


@dataclass
class Bench:
    """A cluster that knows several kinds of credentials, and a folder for kubeconfigs."""

    plane: ControlPlane
    folder: Path
    plugin: FakePlugin
    monkeypatch: pytest.MonkeyPatch
    clients: dict[str, tuple[Path, Path]]  # certificates and keys

    @property
    def cluster(self) -> Object:
        """The entry of the cluster."""
        return {"server": self.plane.url, "certificate-authority": str(self.plane.certificate)}

    @property
    def authority(self) -> str:
        """The CA, as it stands in a kubeconfig."""
        return base64.b64encode(self.plane.certificate.read_bytes()).decode()

    def exec(self, **more: Any) -> Object:
        """Return the entry of a plugin."""
        how = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}
        return {"exec": {**how, "command": str(self.plugin.path), "args": ["600", "0"], **more}}

    def write(
        self,
        user: Object,
        *,
        name: str = "a",
        where: str = ".",
        current: bool = True,
        **cluster: Any,
    ) -> Path:
        """Write a kubeconfig in which everything is called `it`."""
        path = self.folder / where / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        entry = {**self.cluster, **cluster}
        config = {
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": {k: v for k, v in entry.items() if v}}],
            "users": [{"name": "it", "user": user}],
        }
        if current:
            config["current-context"] = "it"
        path.write_text(yaml.safe_dump(config))
        return path

    def kubectl(self, *paths: Path) -> Object | str:
        """Return whom kubectl is taken for with these files, or that it is not let in."""
        done = subprocess.run(
            [assets() / "kubectl", "auth", "whoami", "-o", "json", "--request-timeout=10s"],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "KUBECONFIG": os.pathsep.join(map(str, paths))},
        )
        if done.returncode:
            return FAILED
        found: Object = json.loads(done.stdout)["status"]["userInfo"]
        return found

    def ours(self, *paths: Path) -> Object | str:
        """Return whom the operator is taken for, or that it is not let in, which it says."""
        self.monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, paths)))
        found = anyio.run(who)
        print(paths, found)  # noqa: T201 - for when it is not what it should be
        return FAILED if isinstance(found, KubeError) else found


async def who() -> Object | KubeError:
    """Return whom the operator is taken for, or what it says instead."""
    login = Login.find(None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(login.run)
        api = KubeClient(login, "test")
        answer = await whoami(api)
        await api.close()
        tasks.cancel_scope.cancel()
    return answer


async def whoami(api: KubeClient) -> Object | KubeError:
    """Ask the API server who calls."""
    kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    call = {"version": kind["apiVersion"], "content": json.dumps(kind)}
    try:
        answer = await api.request("POST", url="selfsubjectreviews", **call)
    except KubeError as error:
        return error
    decoded: Object = json.loads(answer)["status"]["userInfo"]
    return decoded
