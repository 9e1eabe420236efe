"""Finds the real etcd, kube-apiserver, kubectl, Ollama and Jaeger, and what a node consists of."""

import functools
import subprocess
import sys
from pathlib import Path

_BUILD = Path(__file__).parents[2] / "assets" / "build.py"


@functools.cache
def assets() -> Path:
    """Return the folder with all the binaries, building what is missing.

    That takes minutes the first time and a moment from then on.

    Raises: RuntimeError; what went wrong is on standard error.
    """
    return _built()


@functools.cache
def node_assets() -> Path:
    """Return the folder with what a node of Kubernetes consists of, as `assets` does.

    Raises: RuntimeError; what went wrong is on standard error.
    """
    return _built("node")


def _built(*arguments: str) -> Path:
    # Standard error stays ours, so that `pytest -s` shows how a long build gets on.
    command = [sys.executable, _BUILD, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError("the real parts cannot be built; see standard error")
    return Path(done.stdout.splitlines()[-1])
