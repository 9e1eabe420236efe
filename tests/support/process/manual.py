"""The manual as its readers have it: the commands of README.md and docs/*.md, and a terminal.

A fence whose first word is `sh` is to be run as it stands. A second word says what that takes:
`node`, pods that run; `image`, buildah, and tests/image runs it; `ci`, a machine that does nothing
else; `publish`, somebody who publishes, so that no test runs it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx

from ollama_op.base.exits import EXIT_INTERRUPTED
from support.kube.controlplane import ControlPlane
from support.process.assets import assets
from support.process.child import Process, free_port
from support.process.operator import COMMAND, bare

ROOT = Path(__file__).parents[3]
WITHIN_S = 600
SHELL = ("bash", "-euo", "pipefail", "-c")
# What a reader's commands read of a checkout, and the demo's recipe.
PARTS = ("README.md", "justfile", "pyproject.toml", "requirements-dev.txt", "config", "docs")


@dataclass(frozen=True)
class Block:
    """A fence of a page: where it begins, what follows its backticks, and what it holds."""

    page: str
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Return every page that may have commands, the README first."""
    return ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def fences(page: str) -> list[Block]:
    """Return all that is fenced on a page, in its order.

    Raises: ValueError if a fence does not end.
    """
    found, inside, begin = [], None, 0
    lines = (ROOT / page).read_text().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.lstrip().startswith("```"):
            continue
        if inside is None:
            inside, begin = line.strip().lstrip("`"), number
        else:
            found.append(Block(page, begin, inside, "".join(lines[begin : number - 1])))
            inside = None
    if inside is not None:
        raise ValueError(f"{page}:{begin} does not end")
    return found


def blocks(page: str, *, node: bool = False) -> list[Block]:
    """Return the commands of a page that run on any machine; or those that need pods on a node."""
    return [block for block in fences(page) if block.info == ("sh node" if node else "sh")]


class Session(Process):
    """What runs in a terminal of its own."""

    def interrupt(self) -> int:
        """Press Ctrl-C; return the exit code."""
        assert self._child is not None
        os.killpg(self._child.pid, signal.SIGINT)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end; return the exit code."""
        assert self._child is not None
        return self._child.wait(WITHIN_S)


class Terminal:
    """A shell in a copy of the checkout, with kubectl, ollama-op and just on its PATH.

    The reader has a kubeconfig, an Ollama that is elsewhere, and other things on the usual ports:
    `rest` is host and port of the REST API of an operator that is run here.
    """

    def __init__(self, home: Path, cluster: ControlPlane, ollama_url: str) -> None:
        self.home, self.cwd = home, home / "ollama-op"
        self.rest, self._probes = (f"127.0.0.1:{free_port()}" for _ in range(2))
        for part in PARTS:
            self._copy(ROOT / part, self.cwd / part)
        self._make_venv()
        environment = bare(home)
        path = [self.cwd / ".venv/bin", assets(), environment["PATH"]]
        self.env = environment | {
            "PATH": ":".join(map(str, path)),
            "KUBECONFIG": str(cluster.kubeconfig),
            "OLLAMA_OP_OLLAMA_API_URL": ollama_url,
            "OLLAMA_OP_HEALTH_INTERVAL": "2s",
            "OLLAMA_OP_API_SERVER_BIND_ADDRESS": self.rest,
            "OLLAMA_OP_HEALTH_PROBE_BIND_ADDRESS": self._probes,
        }

    def run(self, text: str, **env: str) -> str:
        """Run commands; return what they print.

        Raises: AssertionError if one of them fails.
        """
        done = subprocess.run(
            [*SHELL, text],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=self.cwd,
            env=self.env | env,
            timeout=WITHIN_S,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def operates(self) -> bool:
        """Return True if an operator that is run here is ready."""
        return httpx.get(f"http://{self._probes}/readyz", trust_env=False).is_success

    def another(self, text: str, ready: Callable[[], bool]) -> Session:
        """Return a terminal beside this one in which commands are to run."""
        log = self.home / f"session-{len(list(self.home.glob('session-*')))}.log"
        command = ["env", f"--chdir={self.cwd}", *SHELL, text]
        return Session(command, log=log, ready=ready, env=self.env)

    def _copy(self, source: Path, to: Path) -> None:
        to.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, to)

    def _make_venv(self) -> None:
        """Have `just venv` find that all is done, and leave the one that the tests run in alone."""
        venv = self.cwd / ".venv"
        venv.mkdir()
        (venv / "bin").symlink_to(COMMAND.parent)
        made_from = [
            (ROOT / part).read_text() for part in ("requirements-dev.txt", "pyproject.toml")
        ]
        (venv / ".made-from").write_text(
            "".join([*made_from, f"Python {sys.version.split()[0]}\n"])
        )


class Page:
    """A page that is read from its first command to its last; at the end, none may be left."""

    def __init__(self, name: str, terminal: Terminal) -> None:
        self.name, self.terminal = name, terminal
        self._left = deque(blocks(name))
        self._own: dict[str, str] = {}

    def put(self, own: str, printed: str) -> None:
        """Put what is the reader's own in the place of what is printed from here on."""
        assert any(printed in each.text for each in self._left), f"{self.name} has no {printed}"
        self._own[printed] = own

    def run(self, words: str, **env: str) -> str:
        """Run the next commands, which have these words in them; return what they print.

        Raises: AssertionError if one of them fails.
        """
        return self.terminal.run(self._next(words), **env)

    @contextlib.contextmanager
    def beside(self, words: str, ready: Callable[[], bool] = lambda: True) -> Iterator[Session]:
        """Run the next commands in another terminal."""
        with self.terminal.another(self._next(words), ready) as session:
            yield session

    @contextlib.contextmanager
    def operator(self, words: str) -> Iterator[Session]:
        """Run the next commands, the last of which is an operator, until Ctrl-C ends it well."""
        with self.beside(words, self.terminal.operates) as session:
            yield session
            assert session.interrupt() == EXIT_INTERRUPTED, session.tail()

    def fenced(self, info: str) -> list[str]:
        """Return what else the page shows, such as `yaml`."""
        return [block.text for block in fences(self.name) if block.info == info]

    def shown(self, words: str) -> str:
        """Return the output on the page that has these words."""
        return next(text for text in self.fenced("") if words in text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        left = ", ".join(map(str, self._left))
        assert error or not left, f"not run: {left}"

    def _next(self, words: str) -> str:
        assert self._left, f"{self.name} ends before {words}"
        block = self._left.popleft()
        assert words in block.text, f"{block} has no {words}"
        text = block.text
        for printed, own in self._own.items():
            text = text.replace(printed, own)
        return text
