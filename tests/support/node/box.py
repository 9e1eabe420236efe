"""A machine within this one, for a node of Kubernetes: its own processes, mounts, network, cgroups.

Its first process holds all of them, so that nothing of what a kubelet mounts, routes or starts is
seen outside, or outlives it. What both must share is the kernel; of its settings, those are
covered up that a kubelet would change for all.
"""

import contextlib
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.process.child import Process

_CGROUPS = Path("/sys/fs/cgroup")
_READY = "ready"
_GONE_WITHIN_S = 20
_SHARED = {  # as a kubelet wants them
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
# The shell goes on to reap what its children leave behind.
_FIRST_PROCESS = """
set -eu
mount --make-rshared /
for each in lib log; do mount --bind "$FOLDER/$each" "/var/$each"; done
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
cd "$FOLDER/sys"
find . -type f | while read -r each; do mount --bind "$each" "/proc/sys/$each"; done
cd /
ip link set lo up
: >"$FOLDER/ready"
while :; do sleep 3600; done
"""


@dataclass(frozen=True, kw_only=True)
class Box:
    """Such a machine while it runs.

    `host` is this machine's address as seen from it, and `address` its own as seen from here;
    nobody else sees either. `pods` is a network behind it that is routed to from here. `cgroup` is
    the one that all of its pods' belong to, from the root of each hierarchy on.
    """

    folder: Path
    host: str
    address: str
    pods: str
    cgroup: str
    pid: int

    @property
    def enter(self) -> tuple[str, ...]:
        """What to put before a command that is to run in it."""
        return ("nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--")

    def run(self, *command: str | Path) -> str:
        """Run a command in it to its end; return what it prints.

        Raises: subprocess.CalledProcessError; what was wrong is on standard error.
        """
        return _run(*self.enter, *command)

    def file(self, path: str) -> Path:
        """Where a file of it is found from here."""
        return Path(f"/proc/{self.pid}/root{path}")


@contextlib.contextmanager
def box() -> Iterator[Box]:
    """Run such a machine, and leave nothing of it; needs root.

    Raises: ProcessFailedError, subprocess.CalledProcessError.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="node-")))
        _furnish(folder)
        name = f"node-{secrets.token_hex(3)}"
        stack.enter_context(_cgroup(name))
        first = stack.enter_context(_first_process(folder))
        pid = _child_of(first)
        network = secrets.randbelow(256)
        made = Box(
            folder=folder,
            host=f"10.213.{network}.1",
            address=f"10.213.{network}.2",
            pods=f"10.214.{network}.0/24",
            cgroup=f"/{name}",
            pid=pid,
        )
        _connect(made, name)
        yield made


def _furnish(folder: Path) -> None:
    for each in ("lib", "log"):
        (folder / each).mkdir()
    for name, value in _SHARED.items():
        path = folder / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")


def _first_process(folder: Path) -> Process:
    # It ends with whoever runs the tests, and everything in the box ends with it.
    command = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--net", "--pid", "--fork"]
    command += ["--kill-child", "--mount-proc", "bash", "-c", _FIRST_PROCESS]
    env = {"PATH": os.environ.get("PATH", os.defpath), "FOLDER": str(folder)}
    return Process(command, log=folder / "box.log", ready=(folder / _READY).exists, env=env)


def _child_of(process: Process) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


def _connect(made: Box, name: str) -> None:
    """Lay a cable between here and there, whose ends nobody else can reach."""
    link = f"v{name}"
    _run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(made.pid))
    _run("ip", "address", "add", f"{made.host}/30", "dev", link)
    _run("ip", "link", "set", link, "up")
    made.run("ip", "address", "add", f"{made.address}/30", "dev", "eth0")
    made.run("ip", "link", "set", "eth0", "up")
    made.run("ip", "route", "add", "default", "via", made.host)
    made.run("sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1")
    _run("ip", "route", "add", made.pods, "via", made.address)


@contextlib.contextmanager
def _cgroup(name: str) -> Iterator[None]:
    """Make a cgroup in each hierarchy; remove it with all that is below it."""
    unified = (_CGROUPS / "cgroup.controllers").exists()
    tops = [_CGROUPS] if unified else [path for path in _CGROUPS.iterdir() if path.is_dir()]
    made = [top / name for top in tops]
    try:
        for path in made:
            path.mkdir()
            if (path / "cpuset.cpus").exists() and not unified:  # empty at first, and of no use so
                for each in ("cpuset.cpus", "cpuset.mems"):
                    (path / each).write_text((path.parent / each).read_text())
        yield
    finally:
        deadline = time.monotonic() + _GONE_WITHIN_S
        for path in made:
            while not _removed(path) and time.monotonic() < deadline:
                time.sleep(0.1)  # some of its processes are still ending


def _removed(top: Path) -> bool:
    with contextlib.suppress(OSError):
        for folder, _, _ in os.walk(top, topdown=False):
            Path(folder).rmdir()
        return True
    return False


def _run(*command: str | Path) -> str:
    words: Sequence[str] = [*map(str, command)]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
