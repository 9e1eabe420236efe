"""The image as it is built on this machine, and the operator in it."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.controlplane import ControlPlane, controlplane
from support.image import ROOT, build, buildah, command, container
from support.ollama import OllamaServer
from support.operator import Models, apply_crd
from support.processes import free_port
from support.registry import Registry

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def image() -> str:
    return build()


@pytest.fixture(scope="module")
def made(image: str) -> Iterator[tuple[str, Path]]:
    with container(image) as it:
        yield it


def test_the_same_sources_give_the_same_image(image: str) -> None:
    """A second build without any cache has the same layers, byte by byte."""
    again = build("localhost/ollama-op:again", "--no-cache")
    layers = [
        json.loads(buildah("inspect", "--type=image", each))["OCIv1"]["rootfs"]["diff_ids"]
        for each in (image, again)
    ]
    assert layers[0] == layers[1]


def test_there_is_no_shell_and_no_package_manager(made: tuple[str, Path]) -> None:
    """Nothing in it can be run but Python and the operator, and nothing is set-user-ID."""
    _, root = made
    programs = {path.name for path in (root / "usr/bin").iterdir()}
    assert {name for name in programs if not name.startswith("python3")} == {"ollama-op"}
    assert [*root.glob("bin/*"), *root.glob("sbin/*"), *root.glob("usr/sbin/*")] == []
    assert [*root.rglob("pip"), *root.rglob("apt*"), *root.rglob("busybox")] == []
    modes = [path.lstat().st_mode for path in root.rglob("*")]
    assert [mode for mode in modes if mode & 0o6000] == []


def test_it_runs_as_nobody(image: str) -> None:
    """A number, which Kubernetes can check to be another than root's; labels say what it is."""
    config = json.loads(buildah("inspect", "--type=image", image))["OCIv1"]["config"]
    assert config["User"] == "65532:65532"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_nobody_else_installs_our_packages(made: tuple[str, Path]) -> None:
    """`api` and `crd` are names that any distribution could take."""
    _, root = made
    owners: dict[str, set[str]] = {}
    for record in root.glob("app/*.dist-info/RECORD"):
        for line in record.read_text().splitlines():
            owners.setdefault(line.partition("/")[0], set()).add(record.parent.name)
    for package in ("api", "crd", "ollama_op"):
        assert {name.partition("-")[0] for name in owners[package]} == {"ollama_op"}


def test_all_of_the_operator_can_be_imported(made: tuple[str, Path]) -> None:
    """What was left out is missed by no part of it."""
    name, _ = made
    code = "import ollama_op.rest, ollama_op.otel, ollama_op.exporter, ollama_op.doctor, uvloop"
    buildah("run", name, "--", "/usr/bin/python3", "-c", f"{code}, ollama_op.sandbox.demo")


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    with controlplane() as plane:
        apply_crd(plane, ROOT / "config/crd")
        yield plane


def test_the_operator_in_it_keeps_a_model(made: tuple[str, Path], cluster: ControlPlane) -> None:
    """Against a real kube-apiserver and a real Ollama; and SIGTERM ends it in an orderly way."""
    name, _ = made
    folder = cluster.kubeconfig.parent
    folder.chmod(0o755)  # the image's user is another than ours
    cluster.kubeconfig.chmod(0o644)
    address = f"127.0.0.1:{free_port()}"
    with Registry() as registry, OllamaServer(registry) as ollama:
        registry.publish("in-a-box", seed=501)
        flags = [f"--kubeconfig={cluster.kubeconfig}", f"--ollama-api-url={ollama.url}"]
        flags += [f"--health-probe-bind-address={address}", "--log-format=json"]
        run = subprocess.Popen(command(name, "run", *flags, volumes=[folder]))
        try:
            deadline = time.monotonic() + 60
            while not _is_ready(f"http://{address}/readyz"):
                assert time.monotonic() < deadline
                assert run.poll() is None
                time.sleep(0.1)
            models = Models(cluster)
            models.apply("in-a-box", "in-a-box:latest")
            models.ready("in-a-box")
            models.delete("in-a-box")
            models.gone("in-a-box")
        finally:
            run.terminate()
            run.wait(20)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False
