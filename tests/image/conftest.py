"""The image, built as its manual says, once for all tests of a run."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.process.image import DRIVER, IMAGE, ROOT, container, here

BUILDAH = """\
#!/bin/sh
command=$1
shift
[ "$command" != bud ] || set -- {flags} "$@"
exec {buildah} "$command" "$@"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do what docs/image.md says: build, take the bill of materials out, build again, compare."""
    folder = tmp_path_factory.mktemp("image")
    manual = (ROOT / "docs/image.md").read_text()
    fences = re.findall(r"^```sh image\n(.*?)^```$", manual, re.MULTILINE | re.DOTALL)
    with here() as flags:
        program = folder / "buildah"
        program.write_text(BUILDAH.format(flags=shlex.join(flags), buildah=shutil.which("buildah")))
        program.chmod(0o755)
        env = {"PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder)}
        script = "set -euxo pipefail\n" + "".join(fences)
        subprocess.run(["bash", "-c", script], cwd=ROOT, env=os.environ | DRIVER | env, check=True)
    return folder


@pytest.fixture(scope="module")
def image(folder: Path) -> str:
    assert folder.is_dir()
    return IMAGE


@pytest.fixture(scope="module")
def made(image: str) -> Iterator[tuple[str, Path]]:
    with container(image) as it:
        yield it
