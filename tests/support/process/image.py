"""Builds and runs the image on this machine: buildah as root, on a base that debootstrap makes."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
BASE = "localhost/ollama-op-base:bookworm"
IMAGE = "localhost/ollama-op:0.1.0"
DRIVER = {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}  # what works as root anywhere
CERTIFICATES = Path("/etc/ssl/certs")
WITHIN_S = 900


def buildah(*arguments: str | Path) -> str:
    """Run buildah; return what it prints.

    Raises: subprocess.CalledProcessError.
    """
    command = ["buildah", *map(str, arguments)]
    env = os.environ | DRIVER
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, timeout=WITHIN_S)
    return done.stdout.decode().strip()


def base() -> str:
    """Make the base, unless it is there: Debian with Python and nothing that it does not need."""
    if buildah("images", "--filter", f"reference={BASE}", "--quiet"):
        return BASE
    with tempfile.TemporaryDirectory(prefix="base-") as folder:
        wanted = "--include=python3,python3-venv,ca-certificates"
        subprocess.run(
            ["debootstrap", "--variant=minbase", wanted, "bookworm", folder],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        container = buildah("from", "scratch")
        buildah("add", "--quiet", container, folder, "/")
        buildah("commit", "--quiet", "--rm", container, BASE)
    return BASE


def build(name: str = IMAGE, *flags: str) -> str:
    """Build the image; return its id."""
    with here() as more:
        args = ["--timestamp=0", f"--tag={name}", *more, *flags]
        return buildah("bud", "--quiet", *args, ROOT).splitlines()[-1]


@contextmanager
def here() -> Iterator[list[str]]:
    """Hand out the flags for this machine: a base, and what its pip is told of proxies and such.

    That is mounted, as the image would keep an environment.
    """
    flags = [f"--build-arg=BASE={base()}"]
    if CERTIFICATES.is_dir():
        flags.append(f"--volume={CERTIFICATES}:{CERTIFICATES}:ro")
    with tempfile.NamedTemporaryFile("w", prefix="pip-", suffix=".conf") as file:
        file.write("[global]\n" + "".join(f"{key} = {told}\n" for key, told in _told_pip()))
        file.flush()
        yield [*flags, f"--volume={file.name}:/etc/pip.conf:ro"]


def _told_pip() -> Iterator[tuple[str, str]]:
    """Give what the environment tells pip as its configuration file has it."""
    for key, told in os.environ.items():
        if key.startswith("PIP_") and key != "PIP_FIND_LINKS":
            yield key.removeprefix("PIP_").replace("_", "-").lower(), told


@contextmanager
def container(name: str = IMAGE) -> Iterator[tuple[str, Path]]:
    """Make a container of the image; hand out its name and where its files are."""
    made = buildah("from", name)
    try:
        yield made, Path(buildah("mount", made))
    finally:
        buildah("rm", made)


def command(made: str, *arguments: str, volumes: Sequence[Path] = ()) -> list[str]:
    """Return what runs `ollama-op` with these arguments in a container."""
    shared = [f"--volume={path}:{path}:ro" for path in volumes]
    driver = [f"{key}={value}" for key, value in DRIVER.items()]
    where = ["env", *driver, str(shutil.which("buildah"))]
    return [*where, "run", *shared, made, "--", "/usr/bin/ollama-op", *arguments]


def confined(root: Path, *arguments: str, shared: Path) -> list[str]:
    """Return what runs `ollama-op` on a container's files as a kubelet has it run.

    It is the first process of its own namespace, as nobody, and can write to no file at all;
    `shared` is a folder that it may read, at the same place. What is started is its parent.
    """
    (root / shared.relative_to("/")).mkdir(parents=True, exist_ok=True)
    names = ["unshare", "--mount", "--pid", "--fork"]
    return [*names, "sh", "-euc", _CONFINED, "sh", str(root), str(shared), *arguments]


_CONFINED = """
root=$1 shared=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --bind "$shared" "$root$shared"
mount -o remount,bind,ro "$root$shared"
export PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
exec chroot --userspec=65532:65532 "$root" /usr/bin/ollama-op "$@"
"""
