"""The images that a node runs; no registry has to be asked for any of them."""

from pathlib import Path

from support.kube.manifests import of_kind, rendered
from support.process.assets import assets, node_assets
from support.process.image import IMAGE, base, build, buildah

PAUSE = "localhost/pause:1"


def images(folder: Path) -> list[Path]:
    """Make every image, named as the manifests name it; return an archive of each.

    Raises: subprocess.CalledProcessError.
    """
    return [
        _archive(_pause(), PAUSE, folder / "pause.tar"),
        _archive(build(IMAGE, "--layers"), _named("Deployment"), folder / "ollama-op.tar"),
        _archive(_ollama(), _named("StatefulSet"), folder / "ollama.tar"),
    ]


def _named(kind: str) -> str:
    """Return the image of the one workload of this kind, in full."""
    (workload,) = of_kind(rendered("with-ollama"), kind)
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    name = str(container["image"])
    return f"docker.io/{name}" if "/" in name else f"docker.io/library/{name}"


def _archive(image: str, name: str, path: Path) -> Path:
    buildah("push", "--quiet", image, f"docker-archive:{path}:{name}")
    return path


def _pause() -> str:
    return _commit("scratch", node_assets() / "pause", "/pause")


def _ollama() -> str:
    """Make an image of the Ollama that the tests have: another release than the manifest's."""
    return _commit(base(), assets() / "ollama", "/bin/ollama", "serve")


def _commit(start: str, program: Path, *command: str) -> str:
    """Put one program on top of an image, to be run as `command`; return the new image's id."""
    container = buildah("from", start)
    try:
        buildah("copy", "--quiet", container, program.resolve(), command[0])
        entrypoint = "[" + ",".join(f'"{word}"' for word in command) + "]"
        buildah("config", f"--entrypoint={entrypoint}", container)
        return buildah("commit", "--quiet", container)
    finally:
        buildah("rm", container)
