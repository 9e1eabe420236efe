"""The first moments of the process, in which it does nothing but import."""

import signal
import subprocess
import sys

import pytest

STOPPED_AT = """
import os, signal, sys

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Stop())
sys.argv = ["ollama-op", {command!r}]
from ollama_op.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["click", "kr8s", "ollama_op.app.operator"])
def test_run_may_be_stopped_before_it_has_begun(module: str) -> None:
    """SIGTERM ends `run` with 0 and without a word, whichever import it comes into."""
    assert stop("run", module) == (0, "")


def test_other_commands_end_as_any_program_does() -> None:
    """What they were asked for is not done, and their exit code says so."""
    assert stop("doctor", "click") == (-signal.SIGTERM, "")


def stop(command: str, module: str) -> tuple[int, str]:
    """Run a command that gets SIGTERM when it imports a module; return its end and its words."""
    code = STOPPED_AT.format(command=command, module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_run_imports_nothing_that_only_draws() -> None:
    """Structlog takes rich wherever it is; that is a tenth of the start, and 4 MB."""
    code = (
        "import atexit, sys; sys.argv = ['ollama-op', 'run', '--kubeconfig=/nonexistent']\n"
        "atexit.register(lambda: print([n for n in sys.modules if n.startswith('rich.')]))\n"
        "from ollama_op.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n"
    assert "no kubeconfig at /nonexistent" in done.stderr
