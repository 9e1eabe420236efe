"""What Kubernetes refuses to write, told once for each cause and not for each try.

A namespace that is being deleted loses its RoleBindings before its Storeds: from then on every
write about each of them is refused, for as long as it takes a person to notice. What cannot be
written on the objects is told here: by one line of the log, and by a metric.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, NamedTuple

import structlog

from crd.resource import Stored
from ollama_op.base.errors import REFUSED, KubeError, NotFound, NotPermitted

log = structlog.get_logger(__name__)

ALIKE: Final = 120  # characters by which a cause is known
_SEE: Final = "docs/reasons.md, Being deleted and does not go"
_HINTS: Final = {
    NotPermitted: "grant patch in a Role; where the namespace is being deleted, its RoleBindings"
    f" are gone and only a ClusterRoleBinding helps: {_SEE}",
    NotFound: "where a namespace is gone and objects in it are left, create it again, and they"
    f" can be let go of: {_SEE}",
}


class _Cause(NamedTuple):
    """What makes two refusals one that is told once."""

    namespace: str
    kind: type[KubeError]
    words: str


class Refusals:
    """The objects about which the last write was refused, and why. Follows the store."""

    def __init__(self) -> None:
        self._causes: dict[tuple[str, str], _Cause] = {}  # by uid, and what was to be written

    def uids(self) -> frozenset[str]:
        """Return the objects about which something cannot be written."""
        return frozenset(uid for uid, _ in self._causes)

    @contextmanager
    def noted(self, model: Stored, part: str) -> Generator[None]:
        """Record how the writing of `part` of an object ends: `/status`, or empty for the rest."""
        key = (model.metadata.uid, part)
        try:
            yield
        except REFUSED as error:
            self._note(key, model, error)
            raise
        if (cause := self._causes.pop(key, None)) and cause not in self._causes.values():
            log.info("kubernetes takes the write again", namespace=cause.namespace)

    def offer(self, key: str, item: Stored) -> None:
        """Ignore objects that live: each write about them is noted."""

    def retire(self, key: str) -> None:
        """Forget an object that is gone."""
        for each in [each for each in self._causes if each[0] == key]:
            del self._causes[each]

    def _note(self, key: tuple[str, str], model: Stored, error: KubeError) -> None:
        meta = model.metadata
        # The others' words are alike but for the name, and for where a long text is cut off.
        words = str(error).replace(f'"{meta.name}"', "…")[:ALIKE]
        cause = _Cause(meta.namespace, type(error), words)
        is_new = cause not in self._causes.values()
        self._causes[key] = cause
        if is_new:
            hint = {"hint": _HINTS[cause.kind]} if cause.kind in _HINTS else {}
            log.warning(
                "kubernetes refuses a write, will retry",
                namespace=meta.namespace,
                object=f"{meta.namespace}/{meta.name}",
                problem=str(error),
                **hint,
            )
