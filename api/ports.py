"""What the API asks of the operator: a reader, a writer, and somebody who knows bearer tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from crd.model import OllamaModel
from crd.placement import Placement
from crd.v1alpha1 import OllamaModelSpec


class Listener(Protocol):
    """Is notified of every object: first of all that are known, then of each change."""

    def offer(self, key: str, item: OllamaModel) -> None:
        """Handle a new or changed object; `key` is its uid."""

    def retire(self, key: str) -> None:
        """Handle the end of an object."""


@dataclass(frozen=True, slots=True)
class Held:
    """A model that an Ollama server has. `digest` is bare hex."""

    digest: str
    size_bytes: int


class Reader(Protocol):
    """What is known without asking anybody. Nothing here waits."""

    def follow(self, listener: Listener) -> None:
        """Notify `listener` of all objects from now on."""

    def is_listed(self) -> bool:
        """Return True if all objects are known: the first list was complete."""

    def age_s(self) -> float:
        """Return for how many seconds no news could arrive; 0 while the watch is up."""

    def on_servers(self) -> Mapping[Placement, Held] | None:
        """Return what the Ollama server has; None while nobody knows."""


class Writer(Protocol):
    """Writes objects to Kubernetes. What was written, the next read finds.

    Names and namespaces must be legal. Every call raises KubeErrors; with `dry_run` it asks
    Kubernetes for its verdict and changes nothing.
    """

    async def create(
        self, namespace: str, name: str, spec: OllamaModelSpec, *, dry_run: bool = False
    ) -> OllamaModel:
        """Create an object."""

    async def patch(
        self, namespace: str, name: str, change: Mapping[str, Any], *, dry_run: bool = False
    ) -> OllamaModel:
        """Merge `change` into an object; a resourceVersion in it must be the object's."""

    async def delete(
        self, namespace: str, name: str, *, version: str | None = None, dry_run: bool = False
    ) -> None:
        """Delete an object; `version` is the resourceVersion that it must have."""


@dataclass(frozen=True, slots=True)
class User:
    """Whom a bearer token stands for, as Kubernetes knows them."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Reviewer(Protocol):
    """Asks Kubernetes about people. Raises KubeErrors."""

    async def who(self, token: str) -> User | None:
        """Return whom the token stands for; None if it is not valid."""

    async def may(self, user: User, verb: str, namespace: str | None) -> bool:
        """Return True if `user` may do this to OllamaModels there; None is all namespaces."""
