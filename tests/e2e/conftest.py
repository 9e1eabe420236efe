"""The real Kubernetes API, started once for all tests of a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.controlplane import ControlPlane, controlplane
from support.operator import apply_crd

_CRD = Path(__file__).parents[2] / "config" / "crd"


@pytest.fixture(scope="session")
def cluster() -> Iterator[ControlPlane]:
    """Run a real Kubernetes API that knows our custom resources."""
    with controlplane() as plane:
        apply_crd(plane, _CRD)
        yield plane
