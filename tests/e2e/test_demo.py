import os
import subprocess
from pathlib import Path

import pytest

from ollama_op.demo.command import REAL
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.operator import COMMAND

WITHIN_S = 120


def demo(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("OLLAMA_HOST", "KUBECONFIG")}
    return subprocess.run(
        [COMMAND, "demo"],
        env=environment | {"HOME": str(tmp_path)} | env,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def test_the_demo_keeps_its_promises(tmp_path):
    """Without a cluster or an Ollama it shows six promises kept, and what to try next; 0."""
    done = demo(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "✔ 6 promises shown\n" in done.stdout
    shown = done.stdout.partition("promises shown")[2]  # the trace of one life
    assert shown.splitlines()[3].split()[:2] == ["OllamaModel", "qwen3-1.7b"]
    for span in ("✗ failed  pull", "will retry", "attempt 2", "layer", "delete", "DELETE /api"):
        assert span in shown
    assert "just demo --keep" in done.stdout.splitlines()[-1]
    for state in ("Pending", "Pulling", "Ready", "Failed", "ModelLost", "Refreshing"):
        assert state in done.stdout


@pytest.mark.real
def test_the_demo_plays_with_a_real_ollama(tmp_path, registry: Registry, ollama: OllamaServer):
    """With OLLAMA_HOST the same story runs on that server, and leaves none of its own behind."""
    mended = f"{REAL.troubled.partition(':')[0]}:{REAL.mend_tag}"
    for seed, model in enumerate((REAL.first, REAL.second, mended)):
        registry.publish(*model.split(":"), seed=seed + 1000)
    before = ollama.digests()
    done = demo(tmp_path, OLLAMA_HOST=ollama.url.removeprefix("http://"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✔ 6 promises shown\n" in done.stdout
    assert "OllamaModel" in done.stdout.partition("promises shown")[2]
    assert ollama.digests() == before


@pytest.mark.real
def test_the_demo_touches_no_model_that_was_there(
    tmp_path, registry: Registry, ollama: OllamaServer
):
    """Where one of its models is on the real server already, it refuses to play."""
    registry.publish(*REAL.first.split(":"), seed=1000)
    ollama.pull(REAL.first)
    done = demo(tmp_path, OLLAMA_HOST=ollama.url)
    assert done.returncode == 1
    assert f"error: {REAL.first} is on {ollama.url} already" in done.stderr
    assert f"hint: ollama rm {REAL.first}" in done.stderr
    ollama.delete(REAL.first)
