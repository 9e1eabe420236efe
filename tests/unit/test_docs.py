import re
from pathlib import Path

from crd.v1alpha1 import Reason

ROOT = Path(__file__).parents[2]


def test_every_reason_is_explained() -> None:
    """docs/reasons.md has a heading for each reason, and for nothing else."""
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/reasons.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(reason.value for reason in Reason)
