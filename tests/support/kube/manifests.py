"""What `kubectl kustomize` makes of the folders of config/."""

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from support.process.assets import assets

CONFIG = Path(__file__).parents[3] / "config"
NAMESPACE = "ollama-op-system"

Object = dict[str, Any]


@functools.cache
def text_of(folder: Path) -> str:
    """Return what kubectl makes of a folder.

    Raises: subprocess.CalledProcessError; what was wrong is on standard error.
    """
    command = [assets() / "kubectl", "kustomize", folder]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def rendered(folder: str | Path) -> list[Object]:
    """Return the objects of a folder, which may be named from config/ on."""
    return list(yaml.safe_load_all(text_of(CONFIG / folder)))


def of_kind(objects: list[Object], *kinds: str) -> Iterator[Object]:
    """Return the objects of these kinds."""
    return (each for each in objects if each["kind"] in kinds)


def named(objects: list[Object], kind: str, name: str) -> Object:
    """Return the one object of this kind and name."""
    (found,) = (each for each in of_kind(objects, kind) if each["metadata"]["name"] == name)
    return found
