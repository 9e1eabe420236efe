"""Collects what the operator needs into the folder that becomes its image: `rootfs.py APP OUT`.

An interpreter, its standard library, the shared libraries that these and the packages in APP load,
certificates, and nothing else: no shell, no package manager. Runs in the build stage, on any base
with glibc.
"""

import compileall
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

USER = 65532
LDD = "/usr/bin/ldd"
UNUSED = (  # of the standard library
    *("__pycache__", "config-*", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages"),
    *("dist-packages", "sqlite3", "test", "tkinter", "turtle.py", "turtledemo", "venv"),
)
# Of the packages: what no import of the operator reaches, what is read by compilers, and tests.
UNREACHED = frozenset({"bin", "faker", "polyfactory"})
UNREAD = frozenset({"__pycache__", "test", "tests"})
SOURCES = frozenset({".c", ".h", ".pxd", ".pyi", ".pyx"})
LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
DPKG = Path("/var/lib/dpkg")
MADE_BY = {CERTIFICATES: "ca-certificates"}  # at its installation: dpkg does not list them
START = """\
#!{python}
from ollama_op.cli import main

main()
"""


def main(app: Path, out: Path) -> None:
    """Fill `out`, which must not be there."""
    out.mkdir()
    _copy_links(out)
    python = Path(os.path.realpath(sys.executable))
    stdlib = Path(os.__file__).parent
    _copy(python, out)
    link = python.with_name("python3")
    if link != python:
        _inside(out, link).symlink_to(python.name)
    shutil.copytree(stdlib, _inside(out, stdlib), ignore=shutil.ignore_patterns(*UNUSED))
    shutil.copytree(app, out / "app", ignore=_unwanted(app))
    for library in sorted(_libraries(out)):
        _copy(library, out)
    _copy(CERTIFICATES, out)
    _copy(Path("/etc/os-release"), out)
    _note_packages(out)
    _write(out / "etc/passwd", f"nonroot:x:{USER}:{USER}::/:/nologin\n")
    _write(out / "etc/group", f"nonroot:x:{USER}:\n")
    _write(out / "etc/nsswitch.conf", "hosts: files dns\n")
    _write(out / "usr/bin/ollama-op", START.format(python=python))
    (out / "usr/bin/ollama-op").chmod(0o755)
    (out / "tmp").mkdir()
    (out / "tmp").chmod(0o1777)
    # Checked never: the files cannot change, and the same sources give the same bytes.
    mode = PycInvalidationMode.UNCHECKED_HASH
    for folder in (_inside(out, stdlib), out / "app"):
        compileall.compile_dir(folder, quiet=2, stripdir=out, invalidation_mode=mode, workers=1)


def _copy_links(out: Path) -> None:
    """Have the links that merge /lib into /usr, where the base has them."""
    for name in ("lib", "lib64"):
        link = Path("/", name)
        if link.is_symlink():
            target = link.readlink()
            (out / name).symlink_to(target)
            (out / target).mkdir(parents=True, exist_ok=True)


def _libraries(out: Path) -> Iterator[Path]:
    """Name the shared libraries that anything in `out` loads."""
    for file in [path for path in out.rglob("*") if _is_elf(path)]:
        listed = subprocess.run(  # noqa: S603 - a file of ours
            [LDD, file], capture_output=True, text=True, check=False
        )
        yield from (Path(found) for found in LIBRARY.findall(listed.stdout))


def _note_packages(out: Path) -> None:
    """Say whose files were copied, where scanners look for it in images that have no dpkg."""
    copied = {_unmerged(Path("/", path.relative_to(out))) for path in out.rglob("*")}
    owners = {name for path, name in MADE_BY.items() if _unmerged(path) in copied}
    for listed in DPKG.glob("info/*.list"):
        files = (Path(line) for line in listed.read_text().splitlines())
        if any(_unmerged(path) in copied for path in files if not path.is_dir()):
            owners.add(listed.stem.partition(":")[0])
    for paragraph in (DPKG / "status").read_text().split("\n\n") if owners else ():
        name = paragraph.partition("\n")[0].removeprefix("Package: ")
        if name in owners:
            _write(out / f"var/lib/dpkg/status.d/{name}", paragraph + "\n")


def _unmerged(path: Path) -> str:
    """Return a path as it is whether /lib is a link to /usr/lib or not."""
    return str(path).removeprefix("/usr")


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _copy(source: Path, out: Path) -> None:
    """Copy a file to its own place; where it is a link, what it leads to as well."""
    target = _inside(out, source)
    if target.exists() or str(source).startswith(str(out)):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(stat.S_IMODE(source.stat().st_mode))


def _inside(out: Path, path: Path) -> Path:
    return out / path.relative_to("/")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _unwanted(app: Path) -> Callable[[str, list[str]], set[str]]:
    def ignore(folder: str, names: list[str]) -> set[str]:
        found = {name for name in names if name in UNREAD or Path(name).suffix in SOURCES}
        if Path(folder) == app:  # with what says that it is installed
            found |= {name for name in names if name.partition("-")[0].lower() in UNREACHED}
        if Path(folder) == app / "box":  # its Python is there as well, and a tenth of the size
            found |= {name for name in names if name.endswith(".so")}
        return found

    return ignore


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
