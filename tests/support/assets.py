"""Finds the real etcd, kube-apiserver, kubectl, Ollama and Jaeger."""

import functools
import subprocess
import sys
from pathlib import Path

_BUILD = Path(__file__).parents[1] / "assets" / "build.py"


@functools.cache
def assets() -> Path:
    """Return the folder with all the binaries, building what is missing.

    That takes minutes the first time and a moment from then on.

    Raises: RuntimeError; what went wrong is on standard error.
    """
    # Standard error stays ours, so that `pytest -s` shows how a long build gets on.
    done = subprocess.run([sys.executable, _BUILD], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError("the real parts cannot be built; see standard error")
    return Path(done.stdout.splitlines()[-1])
