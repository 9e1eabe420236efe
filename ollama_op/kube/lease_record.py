"""What is written into a Lease of Kubernetes: records like those of client-go."""

from datetime import datetime
from typing import Final

from ollama_op.base.json import Object

LEASE_VERSION: Final = "coordination.k8s.io/v1"
DURATION_S: Final = 15  # of silence, after which another replica takes over


def spec_of(lease: Object | None) -> Object:
    """Return the record in a lease; empty where there is none."""
    return (lease or {}).get("spec") or {}


def holder_of(record: Object | None) -> str:
    """Return who leads by a record; empty for nobody."""
    return (record or {}).get("holderIdentity") or ""


def transitions_of(record: Object | None) -> int:
    """Return how often the holder has changed by a record."""
    return (record or {}).get("leaseTransitions") or 0


def claimed(lease: Object | None, identity: str, now: datetime) -> Object:
    """Return the record by which `identity` leads, or goes on leading."""
    old = spec_of(lease)
    new = {"holderIdentity": identity, "leaseDurationSeconds": DURATION_S, "renewTime": stamp(now)}
    if holder_of(old) != identity:
        new["acquireTime"] = stamp(now)
        new["leaseTransitions"] = 0 if lease is None else transitions_of(old) + 1
    return old | new


def released(lease: Object, now: datetime) -> Object:
    """Return the record by which nobody leads."""
    free = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": stamp(now)}
    return spec_of(lease) | free


def stamp(now: datetime) -> str:
    """Write a MicroTime."""
    return f"{now:%Y-%m-%dT%H:%M:%S.%fZ}"
