"""A mailbox for a task that reconciles: it holds only what is newest."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


class Latest(Generic[T]):
    """A mailbox with one place: what is newer replaces what was not read."""

    def __init__(self, item: T) -> None:
        self.item = item
        self._news = anyio.Event()
        self._is_expected: Callable[[T], bool] = _never

    def put(self, item: T) -> None:
        """Replace the item and wake the reader, unless it expects this one. Never waits."""
        self.item = item
        if not self._is_expected(item):
            self.poke()

    @contextmanager
    def expecting(self, is_expected: Callable[[T], bool]) -> Generator[None]:
        """Let no item wake the reader that `is_expected`: the reader makes it itself."""
        self._is_expected = is_expected
        try:
            yield
        finally:
            self._is_expected = _never

    def poke(self) -> None:
        """Wake the reader: something that it looks at besides the item has changed."""
        self._news.set()

    async def news(self, within_s: float | None = None) -> None:
        """Wait for a put() or poke() since the last call, at most `within_s` seconds."""
        with anyio.move_on_after(within_s):
            await self._news.wait()
        self._news = anyio.Event()


def _never(_item: object) -> bool:
    return False
