"""What is in the memory of one Ollama server, and how a model gets there and out again.

To unload is a courtesy. A model that is deleted or replaced could not be unloaded any more, so it
is before that; but an Ollama that does not do so, or does not answer, holds up neither.
"""

from collections.abc import Callable
from itertools import count
from typing import Final

import anyio

from crd.names import ModelName
from ollama_op.base.errors import LoadFailed, ModelAbsent, ModelBroken, OllamaError, ProtocolError
from ollama_op.ollama.client import OllamaClient
from ollama_op.ollama.wire import Entry, Listing, Loaded
from ollama_op.server.monitor import ServerMonitor
from ollama_op.server.turns import Turns

UNLOADS_AT_MOST: Final = 2  # of a model that goes or is replaced; then that goes on without
UNLOAD_GAP_S: Final = 1.0  # between them

Stays = Callable[[OllamaError], None]
"""Hears that a model may stay in memory after it has gone from the disk, and why."""


class Memory:
    """Loads and unloads. Whoever calls has the model for itself meanwhile."""

    def __init__(self, client: OllamaClient, monitor: ServerMonitor) -> None:
        self._client, self._monitor = client, monitor
        self._turns = Turns()
        self._asking, self._order = anyio.Lock(), count(1)
        self._asked = 0  # when the newest answer was asked for, in the order of those who want one
        self._answer: Listing[Loaded] | None = None

    def forget(self, name: ModelName) -> None:
        """Forget a model that has gone."""
        self._turns.forget(name)

    async def load(self, name: ModelName, keep_alive_s: float) -> None:
        """Load the model, for so long after each use; infinite is for ever.

        Raises: OllamaError; LoadFailed also while it has to yield to others.
        """
        self._check(name)
        is_loaded = False
        try:
            await self._load(name, keep_alive_s)
            is_loaded = True
        finally:  # also if it is seen there before Ollama has said so, and this is cancelled
            memory = self._monitor.now.memory
            if memory is not None and (is_loaded or name in memory):
                self._turns.came(name, keep_alive_s, memory, anyio.current_time())
        self._check(name)

    def _check(self, name: ModelName) -> None:
        if (memory := self._monitor.now.memory) is not None:
            self._turns.check(name, memory, anyio.current_time())

    async def _load(self, name: ModelName, keep_alive_s: float) -> None:
        try:
            await self._client.load(name, keep_alive_s)
        except ModelAbsent:
            await self._monitor.refresh()  # the list may be older than the loss
            if self._monitor.find(name):
                await self._expect_shown(name)
                raise LoadFailed(f"Ollama shows {name}, and says that it has none") from None
            raise
        await self._monitor.refresh_memory()

    async def _expect_shown(self, name: ModelName) -> None:
        """Raise ModelBroken for a listed model that cannot be loaded, unless it can be shown."""
        try:
            await self._client.show(name)
        except (ModelAbsent, ModelBroken):
            raise ModelBroken(f"Ollama lists {name} but cannot load it") from None

    async def unload(self, name: ModelName) -> None:
        """Take the model out of memory, under whichever of its names it is there.

        Raises: OllamaError.
        """
        self._turns.forget(name)
        await self._client.unload(name)

    async def drop(self, name: ModelName) -> OllamaError | None:
        """Take a model out of memory that could not be later; return why it may stay there.

        Raises: OllamaUnreachable, NotOllama if Ollama lists nothing either.
        """
        self._turns.left(name)
        loaded = await self._running()
        if loaded is None:  # better unload once too often; but not without an Ollama
            await self._monitor.refresh()
        elif name not in loaded:
            return None
        for attempt in count(1):
            try:
                await self._client.unload(name)
            except OllamaError as error:
                if attempt == UNLOADS_AT_MOST:
                    return error
                await anyio.sleep(UNLOAD_GAP_S)
            else:
                break
        return None

    async def _running(self) -> Listing[Loaded] | None:
        """Return what is in memory after this call, None if Ollama does not say.

        Callers share answers: hundreds of deletions at a time need only a few.
        """
        came = next(self._order)
        async with self._asking:
            if self._asked < came:
                asked = next(self._order)
                try:
                    self._answer = await self._client.running()
                except OllamaError:
                    self._answer = None
                self._asked = asked
            return self._answer

    async def make_way(self, old: Entry | None, name: ModelName, stays: Stays) -> None:
        """Take the old version out of memory, as a new one comes that is under its name then."""
        if old is not None and not old.remote_host and (problem := await self.drop(name)):
            stays(problem)

    async def clear(self, old: Entry | None, new: Entry, name: ModelName, stays: Stays) -> None:
        """Take the old version out of memory, should it be there though it was replaced.

        Its weights may have been on the disk, so that no download began; or somebody has loaded it
        again meanwhile.
        """
        if old is None or old.remote_host or new.digest == old.digest:
            return
        if not await self._is_in_memory(name, old.digest):
            return
        await self.drop(name)  # which works if both have the same weights
        if await self._is_in_memory(name, old.digest):
            stays(ProtocolError("it was in memory when its new version was there"))

    async def _is_in_memory(self, name: ModelName, digest: str) -> bool:
        """Return True if this version is known to be in memory."""
        try:
            loaded = (await self._client.running()).get(name)
        except OllamaError:
            return False
        return loaded is not None and loaded.digest == digest
