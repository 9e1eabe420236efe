"""A full disk is said as such, and left alone until there is room."""

import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.kube.controlplane import ControlPlane
from support.kube.kstatus import Verdict, kstatus
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.operator import Models, Operator, reason

pytestmark = pytest.mark.real

BIG = 6_000_000  # bytes
NAMESPACE = "full-disk"


def _mount(*arguments: str | Path) -> None:
    """Run `mount`, or skip the test with what it says."""
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this machine does not let a test mount a disk: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 4 MiB."""
    _mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path)
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.fixture
def grow(disk: Path) -> Callable[[], None]:
    """Return what makes the disk large enough."""
    return lambda: _mount("-o", "remount,size=64m", disk)


@pytest.fixture
def models(cluster: ControlPlane, registry: Registry, disk: Path) -> Iterator[Models]:
    """Return the objects of an Ollama that keeps its models on the disk, and has an operator."""
    models = Models(cluster, NAMESPACE)
    with (
        OllamaServer(registry, models=disk / "models") as ollama,
        Operator(cluster.kubeconfig, ollama.url, f"--namespace={NAMESPACE}") as operator,
    ):
        yield models
        models.clear()
        assert operator.bugs() == []


def test_a_full_disk_is_left_alone_for_a_while(registry, models, grow) -> None:
    """No try for five minutes, for whoever may make room; a refresh says that there is some."""
    registry.publish("huge", seed=330, size=BIG)
    models.want("huge", "huge:latest")

    status = models.until("huge", lambda s: reason(s) == "InsufficientStorage")
    assert "No space left" in status["error"]
    due = datetime.fromisoformat(status["nextRetryTime"]) - datetime.now(UTC)
    assert timedelta(minutes=4, seconds=30) < due <= timedelta(minutes=6, seconds=30)
    assert (status["state"], kstatus(models.get("huge"))) == ("Failed", Verdict.IN_PROGRESS)
    models.told("huge", "PullFailed")

    grow()
    models.annotate("huge", "refresh", "true")
    models.ready("huge")
