"""Objects by resource and name, one revision counter, and the log of changes that watches read.

Stored objects are never changed in place, so they can be handed out without copies; whoever gets
one must not change it either. One change has one revision, without gaps: the log is its own index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anyio

from ollama_op.base.json import Object
from ollama_op.sandbox.status import expired, too_large

ObjectKey = tuple[str, str]
"""Namespace (empty for cluster-scoped resources) and name."""

LOG_LIMIT = 20_000  # changes kept; the older half goes when there are more


@dataclass(frozen=True, slots=True)
class Backup:
    """All that a store had at some moment."""

    revision: int
    objects: Mapping[str, dict[ObjectKey, Object]]


@dataclass(frozen=True, slots=True)
class Change:
    """What one write did. `after` is None when it removed the object."""

    revision: int
    plural: str
    key: ObjectKey
    before: Object | None
    after: Object | None


class ObjectStore:
    """All objects of one API server."""

    def __init__(self) -> None:
        self.revision = 0
        self.endings = 0  # how often all watches were told to end
        self.compacted = 0  # changes up to this revision are gone
        self._log: list[Change] = []
        self._objects: dict[str, dict[ObjectKey, Object]] = {}
        self._changed: anyio.Event | None = None

    def get(self, plural: str, key: ObjectKey) -> Object | None:
        """Return the object as it is now."""
        return self._objects.get(plural, {}).get(key)

    def put(self, plural: str, key: ObjectKey, obj: Object) -> Object:
        """Store a new object or a new state of one; return it with its resourceVersion."""
        obj = _stamped(obj, self.revision + 1)
        objects = self._objects.setdefault(plural, {})
        self._append(plural, key, objects.get(key), obj)
        objects[key] = obj
        return obj

    def remove(self, plural: str, key: ObjectKey) -> Object:
        """Remove an object; return its last state with the resourceVersion of the removal."""
        before = self._objects[plural].pop(key)
        self._append(plural, key, before, None)
        return _stamped(before, self.revision)

    def at(self, plural: str, revision: int) -> dict[ObjectKey, Object]:
        """Return all objects of a resource as they were at a revision.

        Raises: ApiError 410 if that revision is compacted, 504 if it is yet to come.
        """
        if revision > self.revision:
            raise too_large(revision, self.revision)
        objects = dict(self._objects.get(plural, {}))
        for change in reversed(self.since(revision)):
            if change.plural != plural:
                continue
            if change.before is None:
                del objects[change.key]
            else:
                objects[change.key] = change.before
        return objects

    def since(self, revision: int) -> Sequence[Change]:
        """Return the changes after a revision, oldest first; none after one that is yet to come.

        Raises: ApiError 410 if some of them are compacted.
        """
        if revision < self.compacted:
            raise expired(revision, self.compacted)
        return self._log[revision - self.compacted :]

    def save(self) -> Backup:
        """Copy everything, as a backup of etcd does."""
        return Backup(self.revision, {name: dict(all_) for name, all_ in self._objects.items()})

    def restore(self, copy: Backup) -> None:
        """Put a copy in the place of everything; whoever watches is not told, as from etcd."""
        self._objects = {name: dict(objects) for name, objects in copy.objects.items()}
        self.revision = self.compacted = copy.revision
        self._log.clear()

    def compact(self, revision: int | None = None) -> None:
        """Forget the changes up to a revision, by default all: watches from before get a 410."""
        upto = self.revision if revision is None else revision
        del self._log[: max(0, upto - self.compacted)]
        self.compacted = max(self.compacted, upto)

    def wake(self, *, end: bool = False) -> None:
        """Let all who wait in `change` look again, or (`end`) go home."""
        self.endings += end
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def change(self) -> None:
        """Wait until something is written."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def _append(
        self, plural: str, key: ObjectKey, before: Object | None, after: Object | None
    ) -> None:
        self.revision += 1
        self._log.append(Change(self.revision, plural, key, before, after))
        if len(self._log) > LOG_LIMIT:
            self.compact(self.revision - LOG_LIMIT // 2)
        self.wake()


def _stamped(obj: Object, revision: int) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}
