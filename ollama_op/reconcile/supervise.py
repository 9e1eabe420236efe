"""One supervised task per object.

Reconciling is level-based: what counts is the newest object, and a backlog of older ones is worth
nothing. So a mailbox has one place, and a task that comes back to it after an hour finds what is
true now. A task that crashes has met a bug; it is started again, ever more slowly, and no other
task notices.
"""

from collections.abc import Awaitable, Callable, Hashable
from itertools import count
from typing import Generic, TypeVar

import anyio
import structlog
from anyio.abc import TaskGroup

from ollama_op.base.backoff import Backoff
from ollama_op.base.mailbox import Latest
from ollama_op.base.observer import NOBODY, Observer

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

log = structlog.get_logger(__name__)

RESTART = Backoff(first_s=1, longest_s=60)  # of a crashed task


class Supervisor(Generic[K, T]):
    """Own one running task per key. For one event loop only."""

    def __init__(
        self,
        tasks: TaskGroup,
        run: Callable[[Latest[T]], Awaitable[None]],
        *,
        observer: Observer = NOBODY,
    ) -> None:
        self._tasks, self._run, self._observer = tasks, run, observer
        self._live: dict[K, tuple[Latest[T], anyio.CancelScope]] = {}

    def __len__(self) -> int:
        """Count the tasks."""
        return len(self._live)

    def offer(self, key: K, item: T) -> None:
        """Notify the task of `key` about `item`; start the task if there is none."""
        if entry := self._live.get(key):
            entry[0].put(item)
            return
        self._live[key] = entry = (Latest(item), anyio.CancelScope())
        self._tasks.start_soon(self._supervise, key, *entry, name=f"model {key}")

    def poke(self, key: K) -> None:
        """Wake the task of `key`, if there is one, to look at everything again."""
        if entry := self._live.get(key):
            entry[0].poke()

    def retire(self, key: K) -> None:
        """Cancel the task of `key`, if there is one."""
        if entry := self._live.get(key):
            entry[1].cancel()

    async def _supervise(self, key: K, box: Latest[T], scope: anyio.CancelScope) -> None:
        try:
            with scope:  # retire() cancels this task only
                for delay_s in map(RESTART.after, count(1)):
                    try:
                        return await self._run(box)
                    except Exception:  # cancellation is a BaseException and passes
                        log.exception("model task crashed", uid=key, restart_in_s=delay_s)
                        self._observer.crashed()
                    await anyio.sleep(delay_s)
        finally:
            del self._live[key]
