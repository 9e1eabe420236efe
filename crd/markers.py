"""The names under which models stay on a server for a while after they were let go of.

Pure. Such a name says which model it is for, and until when: the server's own list is the record,
and a restarted operator reads in it what the one before it has left.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple, Self

from crd.names import DEFAULT_HOST, ModelName

MARKER_NAMESPACE: Final = "ollama-op-grace"  # of Ollama's names; no object may name a model in it
_KEY: Final = re.compile(r"[0-9a-f]{32}")
_DEADLINE: Final = re.compile(r"[0-9]{9,11}")  # seconds since 1970, well before the year 9999

_LATEST: Final = 10**11 - 1


class Marker(NamedTuple):
    """For which model a name keeps what it stands for, and until when."""

    key: str
    deadline: int

    @classmethod
    def of(cls, name: ModelName, deadline: int) -> Self:
        """Return the marker of a model, which is kept until `deadline`."""
        return cls(key(name), min(deadline, _LATEST))

    @classmethod
    def read(cls, name: ModelName) -> Self | None:
        """Return what a name says; None for one that is no marker's."""
        if not is_reserved(name):
            return None
        if not _KEY.fullmatch(name.model) or not _DEADLINE.fullmatch(name.tag):
            return None
        return cls(name.model, int(name.tag))

    @property
    def name(self) -> ModelName:
        """The name on the server."""
        return ModelName(DEFAULT_HOST, MARKER_NAMESPACE, self.key, str(self.deadline))

    @property
    def until(self) -> datetime:
        """The deadline as a time."""
        return datetime.fromtimestamp(self.deadline, UTC)


def key(name: ModelName) -> str:
    """Return what a marker calls a model: the same for all its spellings."""
    return hashlib.sha256(name.canonical.encode()).hexdigest()[:32]


def turn(key: str) -> ModelName:
    """Return the name whose lock is held by whoever acts on the markers of one model."""
    return ModelName(DEFAULT_HOST, MARKER_NAMESPACE, key, "latest")


def is_reserved(name: ModelName) -> bool:
    """Return True for a name that only a marker may have."""
    return name.namespace.lower() == MARKER_NAMESPACE and name.host.lower() == DEFAULT_HOST


def find(names: Iterable[ModelName]) -> Mapping[str, tuple[Marker, ...]]:
    """Return the markers among these names by key, each with the latest deadline first."""
    found: dict[str, list[Marker]] = {}
    for name in names:
        if (marker := Marker.read(name)) is not None:
            found.setdefault(marker.key, []).append(marker)
    return {key: tuple(sorted(each, reverse=True)) for key, each in found.items()}
