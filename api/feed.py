"""Changes as they happen, to everybody who watches: server-sent events.

Each change becomes one piece of bytes for all readers. A reader has a queue of limited length; who
does not keep up is hung up on, and comes back to a snapshot. So nobody who is slow costs memory, or
holds back the operator or other readers.
"""

from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import anyio
import msgspec

from api.bodies import Deleted
from api.view import View, ViewEntry, ViewKey
from ollama_op.base.asgi import NO_SNIFFING, Header, Receive, Scope, Send

QUEUE: Final = 256  # events that may wait for one reader
MEMORY: Final = 1024  # past events that a reader who comes back can be told of
PING_S: Final = 15.0
STREAM_S: Final = 1800.0  # then the client comes back, and is asked for its key again
PING: Final = b": ping\n\n"
RETRY: Final = b"retry: 3000\n\n"
_HEADERS: Final[list[Header]] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
    NO_SNIFFING,
]

Wants = Callable[[ViewKey], bool]


@dataclass(frozen=True, slots=True)
class Event:
    """One change, as it is sent."""

    number: int
    key: ViewKey
    frame: bytes
    last: bool = False  # the object is gone


@dataclass(eq=False)
class FeedReader:
    """Somebody who watches."""

    wants: Wants
    queue: deque[Event] = field(default_factory=deque)
    news: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    over: bool = False  # no more will come

    def put(self, event: Event) -> None:
        """Let the reader have an event, or hang up on one who does not read."""
        if len(self.queue) >= QUEUE:
            self.scope.cancel()
            return
        self.queue.append(event)
        self.news.set()

    def end(self) -> None:
        """Announce that no more will come."""
        self.over = True
        self.news.set()

    async def take(self) -> list[Event] | None:
        """Wait for events; an empty list when there was none for a while, None at the end."""
        if not self.queue and not self.over:
            with anyio.move_on_after(PING_S):
                await self.news.wait()
        self.news = anyio.Event()
        events = list(self.queue)
        self.queue.clear()
        return None if self.over and not events else events


class Feed:
    """What happens to the models of a view."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._readers: set[FeedReader] = set()
        self._past: deque[Event] = deque(maxlen=MEMORY)
        self._number = 0
        self._closed = False
        view.changed, view.gone = self._changed, self._gone

    def __len__(self) -> int:
        """Count the readers."""
        return len(self._readers)

    def close(self) -> None:
        """Hang up on everybody, now and from now on: the server is about to stop."""
        self._closed = True
        self.hang_up()

    def hang_up(self) -> None:
        """End all streams. Clients come back, go on where they were, and show their keys again."""
        for reader in tuple(self._readers):
            reader.end()

    @contextmanager
    def reading(self, wants: Wants) -> Generator[FeedReader]:
        """Register a reader until the end of the block."""
        reader = FeedReader(wants)
        self._readers.add(reader)
        if self._closed:
            reader.end()
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def missed(self, last_id: str, wants: Wants) -> list[Event] | None:
        """Return what happened after the event `last_id`; None if that is not known any more."""
        epoch, _, number = last_id.rpartition("-")
        if epoch != self._view.epoch or not (number.isascii() and number.isdecimal()):
            return None
        seen = int(number[:18])
        oldest = self._number - len(self._past)
        if not oldest <= seen <= self._number:
            return None
        return [event for event in islice(self._past, seen - oldest, None) if wants(event.key)]

    def frame(self, kind: str, data: bytes) -> bytes:
        """Write an event that carries the present number."""
        head = f"event: {kind}\nid: {self._view.epoch}-{self._number}\ndata: "
        return head.encode() + data + b"\n\n"

    def _changed(self, entry: ViewEntry) -> None:
        self._publish(entry, "model", entry.body)

    def _gone(self, entry: ViewEntry) -> None:
        namespace, name = entry.key
        data = msgspec.json.encode(Deleted(name=name, namespace=namespace))
        self._publish(entry, "deleted", data, last=True)

    def _publish(self, entry: ViewEntry, kind: str, data: bytes, *, last: bool = False) -> None:
        self._number += 1
        event = Event(self._number, entry.key, self.frame(kind, data), last)
        self._past.append(event)
        for reader in tuple(self._readers):
            if reader.wants(entry.key):
                reader.put(event)


@dataclass(frozen=True)
class Stream:
    """The answer to somebody who watches, as an ASGI application.

    It begins with what `snapshot` writes, unless the reader can go on from `last_id`. With
    `one` it ends when its model is gone.
    """

    feed: Feed
    wants: Wants
    snapshot: Callable[[], bytes]
    last_id: str = ""
    one: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI has them
        """Send events until the client goes, cannot keep up, or there is nothing more to tell."""
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        with self.feed.reading(self.wants) as reader, reader.scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_wait_for_leave, receive, reader)
                with anyio.move_on_after(STREAM_S):
                    await self._write(reader, send)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                tasks.cancel_scope.cancel()

    async def _write(self, reader: FeedReader, send: Send) -> None:
        # No await before this is made: whatever changes from now on is in the queue.
        missed = self.feed.missed(self.last_id, self.wants) if self.last_id else None
        begin = self.snapshot() if missed is None else b"".join(e.frame for e in missed)
        ended = self.one and bool(missed) and missed is not None and missed[-1].last
        await _chunk(send, RETRY + begin)
        while not ended and (events := await reader.take()) is not None:
            await _chunk(send, b"".join([event.frame for event in events]) or PING)
            ended = self.one and any(event.last for event in events)


async def _chunk(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _wait_for_leave(receive: Receive, reader: FeedReader) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reader.scope.cancel()
