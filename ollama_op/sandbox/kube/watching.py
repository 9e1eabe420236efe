"""One watch: from the log of changes to a stream of events, as long as the client wants it."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio

from ollama_op.base.json import Object
from ollama_op.sandbox.kube.selectors import Predicate
from ollama_op.sandbox.kube.storage import Change, ObjectStore
from ollama_op.sandbox.status import ApiError

Emit = Callable[[str, Any], Awaitable[None]]
"""Sends one event: its type, and the object in stored form (for ERROR: a Status)."""

BOOKMARK_EVERY_S = 60
BOOKMARK_BEFORE_END_S = 2  # the last one, so that the client can resume from close to the end
DEFAULT_TIMEOUT_S = 1800
INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What a client asked for."""

    plural: str
    selects: Predicate
    since: int | None
    """None: start with an ADDED for every object that is there, and a bookmark after them."""
    timeout_s: float = DEFAULT_TIMEOUT_S
    bookmarks: bool = False


async def stream_changes(store: ObjectStore, watch: Watch, emit: Emit) -> None:
    """Emit events until the watch times out or its resourceVersion is too old.

    From a resourceVersion that is yet to come there is nothing to tell, bookmarks included, until
    it has come and gone: so does the real one.
    """
    begin = anyio.current_time()
    end = begin + watch.timeout_s
    endings = store.endings
    at = store.revision if watch.since is None else watch.since
    told = max(at, store.revision)
    try:
        store.since(at)
        if watch.since is None:
            await _initial(store, watch, at, emit)
        bookmark = _next_bookmark(begin, end)
        while (now := anyio.current_time()) < end and store.endings == endings:
            changes = store.since(at)
            for change in changes:
                await _emit_change(watch, change, emit)
                at = change.revision
            if changes:
                continue
            if watch.bookmarks and now >= bookmark:
                bookmark = _next_bookmark(now, end)
                # The real one is silent as well while nothing happens.
                if told < at <= store.revision:
                    await emit("BOOKMARK", _bookmark(at))
                continue  # while a slow client took it, there may have been changes
            with anyio.move_on_after(min(end, bookmark if watch.bookmarks else end) - now):
                await store.change()
    except ApiError as error:
        await emit("ERROR", error.status())


async def _initial(store: ObjectStore, watch: Watch, at: int, emit: Emit) -> None:
    for obj in store.at(watch.plural, at).values():
        if watch.selects(obj):
            await emit("ADDED", obj)
    if watch.bookmarks:
        await emit("BOOKMARK", _bookmark(at, INITIAL_EVENTS_END))


async def _emit_change(watch: Watch, change: Change, emit: Emit) -> None:
    """Emit what a change means to this client: an object may enter or leave its selection."""
    if change.plural != watch.plural:
        return
    was = change.before is not None and watch.selects(change.before)
    if change.after is not None and watch.selects(change.after):
        await emit("MODIFIED" if was else "ADDED", change.after)
    elif was and change.before is not None:
        meta = {**change.before["metadata"], "resourceVersion": str(change.revision)}
        await emit("DELETED", {**change.before, "metadata": meta})


def _next_bookmark(now: float, end: float) -> float:
    last = end - BOOKMARK_BEFORE_END_S
    if now >= last:
        return math.inf
    return min(now + BOOKMARK_EVERY_S, last)


def _bookmark(revision: int, annotations: dict[str, str] | None = None) -> Object:
    more = {"annotations": annotations} if annotations else {}
    return {"metadata": {"resourceVersion": str(revision), **more}}
