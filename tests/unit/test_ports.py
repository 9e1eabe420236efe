import random
import subprocess
import sys
from pathlib import Path

from support.process.child import free_port

ASK = """
import random
from support.process.child import free_port
random.seed(1)
print(free_port())
"""


def ask() -> int:
    """Let another process ask, of the same luck as this one."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        check=True,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    return int(done.stdout)


def test_a_free_port_is_nobody_elses() -> None:
    """Not this process's own once more, and no other one's while this one lives."""
    state = random.getstate()
    try:
        random.seed(1)
        first = free_port()
        random.seed(1)
        second = free_port()
    finally:
        random.setstate(state)
    assert len({first, second, ask()}) == 3
