"""The store: the newest known version of every object of a kind, and which name the same model.

It hears from the watch and from our own writes, in any order, and keeps what is newer. A list
judges what was known before it was asked for, whatever the versions: etcd may have been emptied, or
restored from a snapshot, and then versions begin anew somewhere in the past. Its listener, who
acts, is told of each change, and so are followers, who only look; the rest of the operator asks it
who else wants a model.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

import msgspec
import structlog

from crd.placement import Placement
from crd.resource import Resource, Stored, T
from crd.v1alpha1 import UNREADABLE

log = structlog.get_logger(__name__)

T_contra = TypeVar("T_contra", contravariant=True)
TOMBSTONES = 10_000  # deleted objects remembered, so that a late answer does not revive one


class Follower(Protocol[T_contra]):
    """Is notified of all objects."""

    def offer(self, key: str, item: T_contra) -> None:
        """Handle a new or changed object."""

    def retire(self, key: str) -> None:
        """Handle the end of an object."""


class StoreListener(Follower[T_contra], Protocol[T_contra]):
    """Acts on the objects: the supervisor."""

    def poke(self, key: str) -> None:
        """Handle a change of what an object shares with others."""


class _Meta(msgspec.Struct):
    uid: str
    namespace: str = ""
    name: str = ""


class _Head(msgspec.Struct):
    metadata: _Meta


_head = msgspec.json.Decoder(_Head)


class Store(Generic[T]):
    """All objects of one kind by uid. Silent until the first list is complete, then current."""

    def __init__(self, resource: Resource[T], placed: Callable[[T], Placement | None]) -> None:
        self._resource, self._placed = resource, placed
        self._listener: StoreListener[T] | None = None
        self._followers: list[Follower[T]] = []
        self._models: dict[str, T] = {}
        self._wanting: defaultdict[Placement, set[str]] = defaultdict(set)  # uids of live objects
        self._gone: dict[str, None] = {}
        self._doubted = set[str]()  # uids, alive or gone, that the list under way has yet to judge
        self._complete = False

    def __len__(self) -> int:
        """Count the objects."""
        return len(self._models)

    def __iter__(self) -> Iterator[T]:
        """Go through the objects as they are now, whatever becomes of them meanwhile."""
        return iter(tuple(self._models.values()))

    def attach(self, listener: StoreListener[T] | None) -> None:
        """Notify `listener` of all objects from now on; None for nobody."""
        self._listener = listener
        self._tell_all()

    def sharers(self, where: Placement, uid: str) -> int:
        """Count the live objects other than `uid` that name this model."""
        wanting = self._wanting.get(where) or set[str]()
        return len(wanting) - (uid in wanting)

    def sharing(self, where: Placement, uid: str) -> list[T]:
        """List the live objects other than `uid` that name this model."""
        return [self._models[other] for other in self._wanting.get(where, set()) - {uid}]

    def follow(self, follower: Follower[T]) -> None:
        """Notify `follower` of all objects too, from now on, whoever acts on them."""
        self._followers.append(follower)
        for model in self._models.values():
            self._tell_followers(model)

    def forget(self, uid: str) -> None:
        """Drop an object: its deletion was answered."""
        self._doubted.discard(uid)
        self._drop(uid)

    def put(self, model: T) -> None:
        """Handle a version of an object, unless a newer one is known."""
        uid = model.metadata.uid
        self._doubted.discard(uid)
        known = self._models.get(uid)
        if uid in self._gone:
            return
        # The answer to the write that lets an object go has the version of before.
        if known is None or _is_over(model) or _is_newer(model, known):
            self._take(model, known)

    def _take(self, model: T, known: T | None) -> None:
        meta = model.metadata
        if _is_over(model):
            self._drop(meta.uid)
            return
        before, after = self._named_by(known), self._named_by(model)
        self._models[meta.uid] = model
        if before != after:
            self._unindex(before, meta.uid)
            self._index(after, meta.uid)
        self._tell(meta.uid)
        self._tell_followers(model)

    # --- what the reflector says

    def listing(self) -> None:
        """Expect a list: what is known by now, alive or gone, is judged by it alone."""
        self._doubted = {*self._models, *self._gone}

    def seen(self, raw: msgspec.Raw) -> str:
        """Handle an object as the API server sent it; return its uid."""
        try:
            model = self._resource.decode(raw)
        except UNREADABLE as error:
            meta = _meta(raw)
            name = f"{meta.namespace}/{meta.name}"
            log.warning("object cannot be read", problem=str(error), object=name, uid=meta.uid)
            return meta.uid
        uid = model.metadata.uid
        if uid in self._doubted:
            self._doubted.discard(uid)
            self._gone.pop(uid, None)
            known = self._models.get(uid)
            if model != known:
                self._take(model, known)
        else:
            self.put(model)
        return uid

    def deleted(self, raw: msgspec.Raw) -> None:
        """Forget an object."""
        self._drop(_meta(raw).uid)

    def listed(self, uids: set[str], resource_version: str) -> None:
        """Forget what a complete list does not have; tell the listener, the first time, of all.

        Nothing is decided before that: a model may be named by an object not seen yet. An object
        that was written while the list was under way is missing only from a list of its version.
        """
        limit = _version(resource_version)
        for uid, model in tuple(self._models.items()):
            is_past = _version(model.metadata.resource_version) <= limit
            if uid not in uids and (uid in self._doubted or is_past):
                self._drop(uid)
        self._doubted = set()
        if not self._complete:
            self._complete = True
            self._tell_all()
            for model in self._models.values():
                self._tell_followers(model)

    def _drop(self, uid: str) -> None:
        self._unindex(self._named_by(self._models.pop(uid, None)), uid)
        self._gone[uid] = None
        if len(self._gone) > TOMBSTONES:
            del self._gone[next(iter(self._gone))]
        if self._listener is not None:
            self._listener.retire(uid)
        for follower in self._followers:
            with _no_harm():
                follower.retire(uid)

    def _tell_followers(self, model: T) -> None:
        if not self._complete:
            return
        for follower in self._followers:
            with _no_harm():
                follower.offer(model.metadata.uid, model)

    def _tell_all(self) -> None:
        for uid in self._models:
            self._tell(uid)

    def _tell(self, uid: str) -> None:
        if self._complete and self._listener is not None:
            self._listener.offer(uid, self._models[uid])

    def _index(self, where: Placement | None, uid: str) -> None:
        if where is not None:
            self._tell_sharers(where)
            self._wanting[where].add(uid)

    def _unindex(self, where: Placement | None, uid: str) -> None:
        if where is None:
            return
        self._wanting[where].discard(uid)
        if not self._wanting[where]:
            del self._wanting[where]
        else:
            self._tell_sharers(where)

    def _named_by(self, model: T | None) -> Placement | None:
        """Return what an object stands for, unless it is going or names nothing."""
        if model is None or model.metadata.deletion_timestamp is not None:
            return None
        return self._placed(model)

    def _tell_sharers(self, where: Placement) -> None:
        """Wake those who name a model: there are more of them by now, or fewer."""
        if self._complete and self._listener is not None:
            for uid in self._wanting[where]:
                self._listener.poke(uid)


@contextmanager
def _no_harm() -> Generator[None]:
    """Let a bug of a follower be its own: the watch goes on."""
    try:
        yield
    except Exception:
        log.exception("follower failed")


def _meta(raw: msgspec.Raw) -> _Meta:
    try:
        return _head.decode(raw).metadata
    except UNREADABLE:
        return _Meta("")


def _is_over(model: Stored) -> bool:
    return model.metadata.deletion_timestamp is not None and not model.metadata.finalizers


def _is_newer(model: Stored, known: Stored) -> bool:
    return _version(model.metadata.resource_version) > _version(known.metadata.resource_version)


def _version(text: str) -> int:
    """Order resourceVersions; since Kubernetes 1.35 the API promises that they are numbers."""
    return int(text) if text.isdecimal() else 0
