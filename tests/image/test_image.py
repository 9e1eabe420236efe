"""The image as it is built on this machine, and the operator in it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import httpx
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from support.kube.controlplane import ControlPlane, controlplane
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.child import free_port
from support.process.image import ROOT, base, buildah, command, confined
from support.process.operator import Models, apply_crd

pytestmark = pytest.mark.real


def test_the_same_sources_give_the_same_image(image: str) -> None:
    """A second build has the same digest: files, configuration and manifest."""
    again = image.replace(":0.1.0", ":again")
    digests = {
        json.loads(buildah("inspect", "--type=image", each))["FromImageDigest"]
        for each in (image, again)
    }
    assert len(digests) == 1
    print(*digests)  # noqa: T201 - `pytest -rP` shows it


def test_the_manual_takes_the_bill_out(folder: Path, made: tuple[str, Path]) -> None:
    """What a scanner is given is the file in the image."""
    _, root = made
    taken = (folder / "ollama-op.cdx.json").read_bytes()
    assert taken == (root / "usr/share/sbom/ollama-op.cdx.json").read_bytes()


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
    """A number, which Kubernetes can check to be another than root's."""
    config = configuration(image)
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] == "SIGTERM"


def test_nothing_of_who_built_it_is_in_it(image: str) -> None:
    """Neither what pip was told nor a proxy: only what the Containerfile sets."""
    names = {each.partition("=")[0] for each in configuration(image)["Env"]}
    assert names == {"PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "HOME"}


def test_labels_say_what_it_is(image: str, made: tuple[str, Path]) -> None:
    """By the names of OCI, with the version that is in it; and where its bill of materials is."""
    _, root = made
    labels = configuration(image)["Labels"]
    oci = "org.opencontainers.image"
    [about] = distributions(name="ollama-op", path=[str(root / "app")])
    assert labels[f"{oci}.title"] == about.name
    assert labels[f"{oci}.version"] == about.version
    assert labels[f"{oci}.licenses"] == about.metadata["License-Expression"]
    assert labels[f"{oci}.description"]
    assert root.joinpath(labels["dev.smithforge.ollama.sbom"].lstrip("/")).is_file()


def configuration(image: str) -> dict[str, Any]:
    return json.loads(buildah("inspect", "--type=image", image))["OCIv1"]["config"]


def test_the_bill_of_materials_lists_what_is_in_it(made: tuple[str, Path]) -> None:
    """No distribution more or less; and whatever of the base was copied, as dpkg knows it."""
    _, root = made
    text = (root / "usr/share/sbom/ollama-op.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert "://" not in text.replace(bill["$schema"], "")
    purls = [PackageURL.from_string(part["purl"]) for part in bill["components"] if "purl" in part]
    listed = {(purl.name, purl.version) for purl in purls if purl.type == "pypi"}
    found = distributions(path=[str(root / "app")])
    there = {(canonicalize_name(each.name), each.version) for each in found}
    assert listed == there - {("ollama-op", version("ollama-op"))}
    # Each library is of a package that is listed, in the version that the base has.
    debian = {purl.name: purl.version for purl in purls if purl.type == "deb"}
    name = buildah("from", base())
    try:
        owners = {
            buildah("run", name, "--", "dpkg", "-S", f"*/{path.name}").split(":")[0]
            for path in root.glob("usr/lib/*-linux-gnu/*.so*")
        }
        for each in {"ca-certificates", *owners}:
            shown = buildah("run", name, "--", "dpkg-query", "-f", "${Version}", "-W", each)
            assert debian[each] == shown
    finally:
        buildah("rm", name)
    assert {"libc6", "libssl3", "python3.11-minimal"} <= set(debian)
    assert not {"bash", "coreutils", "dpkg", "perl-base"} & set(debian)


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
    """What was left out is missed by no part of it, and not by what sends traces either."""
    name, _ = made
    code = (
        "import uvloop, importlib, pkgutil, ollama_op, api, crd\n"
        "for top in (ollama_op, api, crd):\n"
        "    for each in pkgutil.walk_packages(top.__path__, top.__name__ + '.'):\n"
        "        importlib.import_module(each.name)\n"
        "from ollama_op.telemetry import otel\n"
        "otel.sender().shutdown()\n"
    )
    buildah("run", name, "--", "/usr/bin/python3", "-c", code)


def test_it_is_small(made: tuple[str, Path]) -> None:
    """Less than 100 MB: whoever adds ten shall have seen it."""
    _, root = made
    assert sum(path.lstat().st_size for path in root.rglob("*") if path.is_file()) < 100e6


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    with controlplane() as plane:
        apply_crd(plane, ROOT / "config/crd")
        yield plane


def test_the_operator_in_it_keeps_a_model(made: tuple[str, Path], cluster: ControlPlane) -> None:
    """Against a real kube-apiserver and a real Ollama; and SIGTERM ends it in an orderly way."""
    name, _ = made
    folder = readable(cluster)
    address = f"127.0.0.1:{free_port()}"
    with Registry() as registry, OllamaServer(registry) as ollama:
        registry.publish("in-a-box", seed=501)
        flags = [f"--kubeconfig={cluster.kubeconfig}", f"--ollama-api-url={ollama.url}"]
        flags += [f"--health-probe-bind-address={address}", "--log-format=json"]
        run = subprocess.Popen(command(name, "run", *flags, volumes=[folder]))
        try:
            wait_until_ready(run, address)
            models = Models(cluster)
            models.apply("in-a-box", "in-a-box:latest")
            models.ready("in-a-box")
            models.delete("in-a-box")
            models.gone("in-a-box")
        finally:
            run.terminate()
            run.wait(20)


def test_it_runs_where_nothing_can_be_written(
    made: tuple[str, Path], cluster: ControlPlane, ollama: OllamaServer
) -> None:
    """On a read-only root, as the first process: SIGTERM reaches it there, and it ends with 0."""
    _, root = made
    folder = readable(cluster)
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--kubeconfig={cluster.kubeconfig}", f"--ollama-api-url={ollama.url}"]
    flags += [f"--health-probe-bind-address={address}", "--log-format=json"]
    run = subprocess.Popen(confined(root, "run", *flags, shared=folder))
    try:
        wait_until_ready(run, address)
        first = only_child(run)
        uids = 4 * "\t65532"  # real, effective, saved, and that of the file system
        assert f"\nUid:{uids}\nGid:{uids}\n" in Path(f"/proc/{first}/status").read_text()
        with pytest.raises(OSError, match="Read-only file system"):
            Path(f"/proc/{first}/root/tmp/file").write_text("")
        os.kill(first, signal.SIGTERM)
        assert run.wait(20) == 0
    finally:
        if run.poll() is None:
            os.kill(only_child(run), signal.SIGKILL)
            run.wait(20)


def only_child(run: subprocess.Popen[bytes]) -> int:
    [child] = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    return int(child)


def readable(cluster: ControlPlane) -> Path:
    """Let the image's user, who is another than ours, read the kubeconfig; return its folder."""
    cluster.kubeconfig.parent.chmod(0o755)
    cluster.kubeconfig.chmod(0o644)
    return cluster.kubeconfig.parent


def wait_until_ready(run: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + 60
    while not _is_ready(f"http://{address}/readyz"):
        assert time.monotonic() < deadline
        assert run.poll() is None
        time.sleep(0.1)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False
