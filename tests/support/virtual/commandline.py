"""The command line in this process, as the shell sees it."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest

from ollama_op.cli import commands as cli

# A cluster at which nobody listens.
KUBECONFIG: Final = """
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: me, user: {}}]
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> tuple[str, str]:
        """The two lines of an error: what failed, and what helps."""
        lines = re.fullmatch(r"error: (.+)\nhint: (.+)\n", self.err)
        assert lines is not None, self.err
        return lines[1], lines[2]


Run = Callable[..., Ended]


def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a command with these arguments, to its end."""

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["ollama-op", *arguments])
        # Where pytest was started as a module, click would take that for the program's name.
        monkeypatch.setattr(sys.modules["__main__"], "__package__", None)
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        written = capsys.readouterr()
        return Ended(code, written.out, written.err)

    return run
