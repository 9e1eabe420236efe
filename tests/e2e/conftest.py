"""The real Kubernetes API, started once for all tests of a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.controlplane import ControlPlane, controlplane

_CRD = Path(__file__).parents[2] / "config" / "crd"


@pytest.fixture(scope="session")
def cluster() -> Iterator[ControlPlane]:
    """Run a real Kubernetes API that knows our custom resources."""
    with controlplane() as plane:
        _apply_crds(plane, _CRD)
        yield plane


def _apply_crds(plane: ControlPlane, folder: Path) -> None:
    files = sorted(path for path in folder.glob("*.yaml") if path.stem != "kustomization")
    for path in files:
        plane.kubectl("apply", "--server-side", "-f", path)
        plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", path)
