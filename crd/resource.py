"""One kind of custom resource, as a value: what reads, stores and writes objects takes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec

from crd.v1alpha1 import ObjectMeta


class Stored(Protocol):
    """An object of Kubernetes, as far as any kind has the same."""

    @property
    def metadata(self) -> ObjectMeta:
        """What identifies it, and its version."""


T = TypeVar("T", bound=Stored)


@dataclass(frozen=True, slots=True)
class Resource(Generic[T]):
    """How Kubernetes names a kind of object, and how one is read.

    `decode` raises one of `crd.v1alpha1.UNREADABLE` for what is no object at all.
    """

    group: str
    version: str
    plural: str
    kind: str
    decode: Callable[[bytes | msgspec.Raw], T]

    @property
    def api_version(self) -> str:
        """The group and the version, as `apiVersion` has them."""
        return f"{self.group}/{self.version}"
