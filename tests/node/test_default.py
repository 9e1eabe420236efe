"""config/default on a real node, with an Ollama of one's own; then config/with-webhook."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.kube.controlplane import KubectlError
from support.kube.installed import WITHIN_S, Installed, let_out
from support.kube.manifests import CONFIG, NAMESPACE
from support.node.cluster import Node
from support.ollama.registry import Registry
from support.process.assets import assets
from support.process.manual import SHELL, Block, blocks, pages
from support.process.operator import Models, manifest, wait_until

pytestmark = pytest.mark.real

OLLAMA = "ollama"  # the namespace in which config/manager/settings.env has it


@pytest.fixture(scope="module")
def ollama(cluster: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run an Ollama that is nobody's but its own."""
    image = {"name": "ollama/ollama", "newTag": "0.17.4"}
    folder = tmp_path_factory.mktemp("ollama")
    overlay(
        folder,
        resources=["ollama"],
        components=["components/resources"],
        namespace=OLLAMA,
        images=[image],
    )
    cluster.kubectl("create", "namespace", OLLAMA)
    cluster.kubectl("apply", "-k", folder)
    yield
    cluster.kubectl("delete", "namespace", OLLAMA, f"--timeout={WITHIN_S}s")


@pytest.fixture(scope="module")
def installed(cluster: Node, ollama: None) -> Iterator[Installed]:  # noqa: ARG001 - it runs
    Installed(cluster, CONFIG / "default").install()
    cluster.kubectl("label", "namespace", NAMESPACE, "ollama=enabled")
    yield (more := Installed(cluster, CONFIG / "with-webhook"))
    more.uninstall()


def overlay(folder: Path, *, resources: list[str], components: list[str], **rest: object) -> Path:
    """Write an overlay of folders of config/."""
    up = os.path.relpath(CONFIG, folder.resolve())
    body = {
        "resources": [f"{up}/{each}" for each in resources],
        "components": [f"{up}/{each}" for each in components],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(body | rest))
    return folder


@pytest.fixture(scope="module")
def models(installed: Installed) -> Models:
    return Models(installed.cluster.plane, "models")


def test_a_model_comes_to_an_ollama_elsewhere(
    installed: Installed, models: Models, registry: Registry
) -> None:
    """The operator finds it by its name in another namespace, through the cluster's DNS."""
    let_out(installed.cluster, OLLAMA, registry)
    registry.publish("elsewhere", seed=910)
    models.want("elsewhere", f"{registry.address}/library/elsewhere:latest", insecure=True)
    models.ready("elsewhere", within_s=WITHIN_S)
    said = installed.run_in("deploy/ollama-op", "ollama-op", "doctor", "--output=json")
    assert json.loads(said)["ok"], said


@pytest.mark.parametrize(
    "block", [each for page in pages() for each in blocks(page, node=True)], ids=str
)
def test_what_the_manual_does_with_pods_works(installed: Installed, block: Block) -> None:
    """Each of those commands ends well; a port-forward goes on until it is ended."""
    environment = os.environ | {
        "PATH": f"{assets()}:{os.environ['PATH']}",
        "KUBECONFIG": str(installed.cluster.kubeconfig),
    }
    command = [*SHELL, block.text]
    if "port-forward" not in block.text:
        subprocess.run(command, check=True, env=environment, timeout=WITHIN_S)
        return
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as forwarding:
        assert forwarding.stdout is not None
        assert "Forwarding from" in forwarding.stdout.readline()
        os.killpg(forwarding.pid, signal.SIGTERM)


def test_kubernetes_finds_nothing_wrong_with_the_policies(installed: Installed) -> None:
    """Its own controller checks their expressions against the CRD."""
    for name in ("ollama-op-models", "ollama-op-advice"):
        found: list[dict[str, Any]] = []

        def is_checked(name: str = name, found: list[dict[str, Any]] = found) -> bool:
            said = installed.kubectl("get", "validatingadmissionpolicy", name, "--output=json")
            found[:] = [json.loads(said)["status"]]
            return "typeChecking" in found[0]

        wait_until(is_checked, lambda name=name: f"{name} is not checked", WITHIN_S)
        assert "expressionWarnings" not in found[0]["typeChecking"]


def test_the_webhook_is_asked_through_its_service(installed: Installed, models: Models) -> None:
    """Nothing wrong comes in any more, what can be meant is rewritten, and deletion is free."""
    let_in(installed.cluster, models)
    models.apply("wrong", "not a name:latest")
    installed.install()

    def refused() -> bool:
        said = dry(models, "wrong-too", "not a name:latest")
        return "denied" in said or "is invalid" in said

    wait_until(refused, lambda: dry(models, "wrong-too", "not a name:latest"), WITHIN_S)
    with pytest.raises(KubectlError, match=r"spec\.name"):
        models.apply("wrong-too", "not a name:latest")
    body = manifest("apart", "HF.co/Org/Model")
    said = models.kubectl(
        "create", "--dry-run=server", "-o=json", "-f", "-", input=json.dumps(body)
    )
    assert json.loads(said)["spec"]["name"] == "hf.co/Org/Model"
    models.delete("wrong")
    models.gone("wrong")


def let_in(cluster: Node, models: Models) -> None:
    """Have the policies refuse nothing any more."""
    loose = json.dumps({"spec": {"validationActions": ["Audit"]}})
    binding = "validatingadmissionpolicybinding/ollama-op-models"
    cluster.kubectl("patch", binding, "--type=merge", "--patch", loose)
    wait_until(
        lambda: "created" in dry(models, "wrong", "not a name:latest"),
        lambda: dry(models, "wrong", "not a name:latest"),
        WITHIN_S,
    )


def dry(models: Models, name: str, model: str) -> str:
    """Ask what would be said to a new object."""
    body = json.dumps(manifest(name, *model.rsplit(":", 1)))
    return models.kubectl("create", "--dry-run=server", "-f", "-", input=body, check=False)
