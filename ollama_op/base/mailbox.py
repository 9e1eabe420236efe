"""A mailbox for a task that reconciles: it holds only what is newest."""

from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


class Latest(Generic[T]):
    """A mailbox with one place: what is newer replaces what was not read."""

    def __init__(self, item: T) -> None:
        self.item = item
        self._news = anyio.Event()

    def put(self, item: T) -> None:
        """Replace the item and wake the reader. Never waits."""
        self.item = item
        self.poke()

    def poke(self) -> None:
        """Wake the reader: something that it looks at besides the item has changed."""
        self._news.set()

    async def news(self, within_s: float | None = None) -> None:
        """Wait for a put() or poke() since the last call, at most `within_s` seconds."""
        with anyio.move_on_after(within_s):
            await self._news.wait()
        self._news = anyio.Event()
