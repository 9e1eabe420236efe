"""The parts of a running operator that know how things are, for those who only look."""

from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Protocol

from api.ports import User
from crd.model import OllamaModel
from ollama_op.kube.reflector import Reflector
from ollama_op.kube.refusals import Refusals
from ollama_op.kube.store import Store
from ollama_op.server.servers import Servers


class VisitReviewer(Protocol):
    """Asks Kubernetes about people. Raises KubeErrors."""

    async def who(self, token: str) -> User | None:
        """Return whom the token stands for; None if it is not valid."""

    async def may_visit(self, user: User, path: str) -> bool:
        """Return True if `user` may read what is at a path that is no object."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running operator. Whoever has it looks, and changes nothing."""

    store: Store[OllamaModel]
    reflector: Reflector
    servers: Servers
    tasks: Sized  # one for each object, while this replica leads
    reviewer: VisitReviewer
    refusals: Refusals
    is_leading: Callable[[], bool]
