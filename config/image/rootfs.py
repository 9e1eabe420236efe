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
import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from py_compile import PycInvalidationMode

USER = 65532
LDD = "/usr/bin/ldd"
UNUSED = (  # of the standard library; some of it brings libraries that nothing else needs
    *("__pycache__", "config-*", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages"),
    *("dist-packages", "distutils", "test", "tkinter", "turtle.py", "turtledemo", "venv"),
    *("_test*", "_xxtest*", "_ctypes_test*", "xxlimited*", "ossaudiodev*", "audioop*"),
    *("sqlite3", "_sqlite3*", "dbm", "_dbm*", "_gdbm*", "curses", "_curses*", "readline*"),
    *("nis.*", "_tkinter*", "crypt.py", "_crypt.*"),
)
UNREACHED = frozenset(  # distributions that others demand, and no import of the operator reaches
    {
        *("beautifulsoup4", "faker", "googleapis-common-protos", "litestar-htmx", "markdown-it-py"),
        *("mdurl", "polyfactory", "pycparser", "rich-click", "soupsieve"),
    }
)
UNREAD = (  # of the others: what only compilers, tests and developers' tools read
    *("bin", "**/__pycache__", "**/test", "**/tests", "**/_tests", "litestar/**/testing"),
    *("**/*.c", "**/*.h", "**/*.proto", "**/*.pxd", "**/*.pyi", "**/*.pyx", "**/*.map"),
    *("multidict/_testcapi.*", "pygments/lexers/[!_]*.py", "**/swagger-ui-standalone-*"),
    "box/*.so",  # its Python is there as well, and a tenth of the size
)
ELF = b"\x7fELF"
HEADER = struct.Struct("<16s2HI3QI6H")
PHOFF, SHOFF, PHENTSIZE, PHNUM, SHNUM, SHSTRNDX = 5, 6, 9, 10, 12, 13  # places in it
SEGMENT = struct.Struct("<2I6Q")
LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
DPKG = Path("/var/lib/dpkg")
MADE_BY = {CERTIFICATES: "ca-certificates"}  # at its installation: dpkg does not list them
START = """\
#!{python}
from ollama_op.__main__ import main

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
    shutil.copytree(app, out / "app")
    _trim(out / "app")
    for library in filter(_is_elf, out.glob("app/**/*.so*")):
        _cut(library)
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


def _trim(app: Path) -> None:
    """Remove what nobody will miss, with whatever says that it is installed."""
    for found in [each for each in distributions(path=[str(app)]) if _is_unreached(each.name)]:
        for file in found.files or ():
            if ".." not in file.parts:  # programs, which are in bin here
                Path(found.locate_file(file)).unlink(missing_ok=True)
    for path in [path for pattern in UNREAD for path in app.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for folder in sorted((path for path in app.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def _is_unreached(name: str) -> bool:
    return re.sub(r"[-_.]+", "-", name).lower() in UNREACHED


def _cut(library: Path) -> None:
    """Take off its end: symbols and line numbers that only debuggers read, two thirds of uvloop.

    What a program loads are its segments; past the last one are sections that are not loaded, and
    the table of all sections. As `strip` does it, but on any base, and with the same bytes.
    Source: elf(5).
    """
    data = library.read_bytes()
    if data[:6] != ELF + b"\x02\x01":  # 64 bits, the lowest byte first
        return
    header = [*HEADER.unpack_from(data)]
    at, size, number = (header[field] for field in (PHOFF, PHENTSIZE, PHNUM))
    segments = (SEGMENT.unpack_from(data, at + size * each) for each in range(number))
    end = max(offset + length for _, _, offset, _, _, length, _, _ in segments)
    for field in (SHOFF, SHNUM, SHSTRNDX):
        header[field] = 0
    library.write_bytes(HEADER.pack(*header) + data[HEADER.size : max(end, at + size * number)])


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
    if not DPKG.is_dir():
        return
    copied = {_unmerged(Path("/", path.relative_to(out))) for path in out.rglob("*")}
    owners = {name for path, name in MADE_BY.items() if _unmerged(path) in copied}
    for listed in DPKG.glob("info/*.list"):
        files = (Path(line) for line in listed.read_text().splitlines())
        if any(_unmerged(path) in copied for path in files if not path.is_dir()):
            owners.add(listed.stem.partition(":")[0])
    for paragraph in (DPKG / "status").read_text().split("\n\n"):
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
        return file.read(len(ELF)) == ELF


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


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
