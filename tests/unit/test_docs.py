import re
from pathlib import Path

from crd.v1alpha1 import Reason
from ollama_op.reference import PATH, page

ROOT = Path(__file__).parents[2]


def test_every_reason_is_explained() -> None:
    """docs/reasons.md has a heading for each reason, and for nothing else."""
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/reasons.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(reason.value for reason in Reason)


def test_the_reference_is_current() -> None:
    """What flags and fields there are is said as the code has it: `just reference` renders it."""
    assert PATH.read_text() == page()
