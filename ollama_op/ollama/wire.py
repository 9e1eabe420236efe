"""What Ollama says, as the rest of the operator reads it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from crd.names import ModelName

LARGEST: Final = 2**63 - 1  # what Ollama, and a status, can hold of a number
AN_AGE = timedelta(days=365 * 50)  # Ollama writes "for ever" as a time three centuries away


class Details(msgspec.Struct, frozen=True, gc=False):
    """What kind of model it is, in Ollama's words; nothing depends on them."""

    family: str | None = None
    parameter_size: str | None = None
    quantization_level: str | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One model in Ollama's list; `digest` is bare hex, `size` counts bytes."""

    name: str
    digest: Annotated[str, msgspec.Meta(min_length=1)]
    size: Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
    details: Details | None = None
    remote_host: str = ""  # URL where a cloud model runs; empty for one that runs on the server

    @property
    def runs_on(self) -> str | None:
        """The host where a cloud model runs; None for one that runs on the server."""
        if not self.remote_host:
            return None
        try:
            return urlsplit(self.remote_host).hostname or "another host"
        except ValueError:
            return "another host"


class Loaded(msgspec.Struct, frozen=True, gc=False):
    """One model in memory, until `expires_at` unless somebody uses it; `digest` as in the list."""

    expires_at: datetime
    digest: str = ""

    def is_for_ever(self, now: datetime) -> bool:
        """Return True if it is never to be unloaded."""
        return self.expires_at - now > AN_AGE


T = TypeVar("T", Entry, Loaded)


@dataclass(frozen=True, eq=False)
class Listing(Mapping[ModelName, T]):
    """The models of a list by name, and what of the list could not be read."""

    entries: Mapping[ModelName, T] = field(default_factory=dict)
    unread: Mapping[ModelName, str] = field(default_factory=dict)  # listed; why no more is known
    problems: tuple[str, ...] = ()  # one for each entry that could not be read, or not in full
    nameless: int = 0  # entries of which not even the model is known

    def __getitem__(self, name: ModelName) -> T:
        return self.entries[name]

    def __iter__(self) -> Iterator[ModelName]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class Step(msgspec.Struct, frozen=True, gc=False):
    """One line of a pull; `completed` and `total` are bytes of the layer `digest`."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: str = ""
