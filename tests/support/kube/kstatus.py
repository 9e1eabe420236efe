"""What a tool that knows no OllamaModel makes of one: kubectl's kin, Flux, Argo CD, Helm.

Source: kubernetes-sigs/cli-utils, pkg/kstatus/README.md.
"""

from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """The words that kstatus has for an object that exists."""

    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    CURRENT = "Current"
    TERMINATING = "Terminating"


def kstatus(thing: dict[str, Any]) -> Verdict:
    """Judge an object by what any controller may say of itself."""
    meta, status = thing["metadata"], thing.get("status", {})
    true = {c["type"]: c["status"] == "True" for c in status.get("conditions", ())}
    if "deletionTimestamp" in meta:
        return Verdict.TERMINATING
    if status.get("observedGeneration", meta["generation"]) != meta["generation"]:
        return Verdict.IN_PROGRESS
    if true.get("Reconciling"):
        return Verdict.IN_PROGRESS
    if true.get("Stalled"):
        return Verdict.FAILED
    return Verdict.CURRENT if true.get("Ready", True) else Verdict.IN_PROGRESS
