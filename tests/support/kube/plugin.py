"""Writes a credential plugin for tests, and counts its starts and ends."""

import stat
import sys
from pathlib import Path

_SCRIPT = """#!{python}
import json, os, sys, time
folder = {folder!r}

def note(what):
    with open(os.path.join(folder, what), "a") as file:
        file.write(os.environ["KUBERNETES_EXEC_INFO"].strip() + "\\n")

note("starts")
time.sleep(float(sys.argv[2]))
if os.path.exists(os.path.join(folder, "broken")):
    sys.exit("no session: sign in again")
until = time.time() + float(sys.argv[1])
stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until))
version = json.loads(os.environ["KUBERNETES_EXEC_INFO"])["apiVersion"]
status = {{"token": f"until-{{until}}", "expirationTimestamp": stamp}}
note("ends")
print(json.dumps({{"apiVersion": version, "kind": "ExecCredential", "status": status}}))
"""


class FakePlugin:
    """A program that hands out tokens as `expiring_tokens` wants them.

    Its arguments are for how many seconds a token is good, and how many it takes to get one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "get-token"
        self.path.write_text(_SCRIPT.format(python=sys.executable, folder=str(folder)))
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)

    @property
    def starts(self) -> list[str]:
        """What it was told at each start, in KUBERNETES_EXEC_INFO."""
        return self._lines("starts")

    @property
    def ends(self) -> int:
        """How often it came to its end."""
        return len(self._lines("ends"))

    def fail(self) -> None:
        """Let it end with an error from now on."""
        (self.folder / "broken").touch()

    def work(self) -> None:
        """Let it give tokens again."""
        (self.folder / "broken").unlink()

    def _lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []
