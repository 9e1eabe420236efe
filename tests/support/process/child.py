"""Runs a real part as a child process that can be stopped, killed and started again."""

import contextlib
import fcntl
import functools
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Self

import httpx

READY_S = 180  # generous: a busy machine is no failure
GRACE_S = 30
TAIL_LINES = 25
_POLL_S = 0.05

_reserved: set[int] = set()  # the ports that this process was given


class ProcessFailedError(Exception):
    """A process ended early or did not become ready. The message ends with its log's tail."""


class Process:
    """A command, its log and, while it runs, its process group.

    As a context manager it is started and ready inside, and gone after. The group is its own, so
    what the command starts in turn (Ollama's runners) ends with it.

    `ready` says whether the part answers yet; an OSError or httpx error from it means "not yet".
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.name = Path(self.command[0]).name
        self.log = log
        self._ready = ready
        self._env = env
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None while it is not running."""
        return self._child.pid if self._child else None

    def start(self, timeout_s: float = READY_S) -> None:
        """Start the command and wait until it is ready.

        Raises: ProcessFailedError; the process is then gone.
        """
        if self._child:
            raise ProcessFailedError(f"{self.name} is already running")
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
            )
        try:
            self._wait(self._child, time.monotonic() + timeout_s)
        except BaseException:
            self.kill()
            raise

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Ask the process to end, and kill it when it has not after `grace_s`."""
        if self._child:
            self._child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(grace_s)
        self.kill()

    def kill(self) -> None:
        """End the process and all that it started, at once (SIGKILL)."""
        child, self._child = self._child, None
        if child:
            # Before wait(): until then the id, and so the group, can be nobody else's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def tail(self) -> str:
        """Return the last lines of the log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-TAIL_LINES:])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait(self, child: subprocess.Popen[bytes], deadline: float) -> None:
        while True:
            if child.poll() is not None:
                raise ProcessFailedError(
                    f"{self.name} ended with code {child.returncode}; its log:\n{self.tail()}"
                )
            with contextlib.suppress(OSError, httpx.HTTPError):
                if self._ready():
                    return
            if time.monotonic() > deadline:
                raise ProcessFailedError(f"{self.name} is not ready; its log:\n{self.tail()}")
            time.sleep(_POLL_S)


def free_port() -> int:
    """Return a loopback TCP port that nothing listens on, and that is nobody else's.

    It is below those that a system (from 32768) or Ollama's runners (from 49152) pick by
    themselves, and this process's until it ends: no other one of this user gets it from here,
    whatever checkout it tests, even while nothing listens.

    Raises: OSError if none of a hundred tries is free.
    """
    for _ in range(100):
        port = random.randrange(15_000, 32_000)  # noqa: S311 - no secret
        if port in _reserved:  # a process is not kept out by its own locks
            continue
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            _reserved.add(port)
            return port
    raise OSError("no free port between 15000 and 32000")


@functools.cache
def _reservations() -> BinaryIO:
    """Open the file of which each byte stands for a port; a lock on it ends with its process."""
    return (Path(tempfile.gettempdir()) / f"ollama-op-ports-{os.getuid()}").open("ab")


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Hold a loopback TCP port that refuses every connection: bound, but nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield int(sock.getsockname()[1])
