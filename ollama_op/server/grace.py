"""What stays on an Ollama server for a while, so that an object made anew need not download it.

A model that is let go of is first copied to the name of a marker, which is a link and moves no
bytes, and then deleted. An object that wants it in time has it copied back; when the time is over,
the marker is deleted. All of it is in the server's list and nowhere else: whoever comes after a
crash sees what there is, and until when.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

import anyio
import structlog

from crd import markers
from crd.markers import Marker
from crd.names import ModelName
from ollama_op.base.errors import ModelAbsent, NotLeading, OllamaError, OllamaUnreachable
from ollama_op.ollama.client import OllamaClient
from ollama_op.server.monitor import ServerMonitor

log = structlog.get_logger(__name__)


class Server(Protocol):
    """How names on the server are acted on: alone, and deleted with care for running pulls."""

    def alone(self, name: ModelName) -> AbstractAsyncContextManager[None]:
        """Hold the lock of `name`; others wait in line."""

    async def delete_quietly(self, name: ModelName) -> bool:
        """Delete a name, whatever is in memory, and see it gone. Raises: OllamaError."""


class Grace:
    """Keeps models that were let go of for `seconds`, and gives them back; 0 keeps none.

    `now` is the clock of the deadlines.
    """

    def __init__(
        self,
        client: OllamaClient,
        monitor: ServerMonitor,
        server: Server,
        *,
        seconds: float,
        now: Callable[[], datetime],
    ) -> None:
        self._client, self._monitor, self._server = client, monitor, server
        self._seconds, self._now = seconds, now
        self._is_told = False  # that models are removed without a grace, as Ollama does not copy
        self._seen: tuple[object, Mapping[str, tuple[Marker, ...]]] = (None, {})

    def kept_until(self, name: ModelName) -> datetime | None:
        """Return until when a model is kept; None if it is not."""
        found = self._of(name)
        return found[0].until if found else None

    async def keep(self, name: ModelName, unless: Callable[[], bool]) -> None:
        """Keep a model that is about to be deleted. Whoever calls has the name for itself.

        One that was kept already, by whoever began this deletion, is not kept anew. A cloud model
        is a stub, and not worth it. If Ollama does not copy, the model is not kept.

        Raises: OllamaUnreachable.
        """
        entry = self._monitor.find(name)
        if not self._seconds or entry is None or entry.remote_host:
            return
        async with self._server.alone(markers.turn(markers.key(name))):
            if unless() or self._is_kept(name, entry.digest):
                return
            marker = Marker.of(name, math.ceil(self._now().timestamp() + self._seconds))
            try:
                await self._client.copy(name, marker.name)
            except OllamaUnreachable:
                raise  # so would be the deletion
            except OllamaError as error:
                self._tell(name, error)
                return
        self._is_told = False
        log.info("model kept for a while", model=str(name), until=f"{marker.until:%FT%TZ}")

    async def take_back(self, name: ModelName) -> bool:
        """Give a model its name back, if it is kept; return True if that was done.

        Whoever calls has the name for itself, and knows that the server has nothing under it. The
        model is yet to be seen whole under its name; until `settle`, it stays kept. One that cannot
        be shown is of no use to anybody, and deleted.

        Raises: OllamaUnreachable.
        """
        if not (found := self._of(name)):
            return False
        async with self._server.alone(markers.turn(found[0].key)):
            try:
                return await self._copy_back(found[0], name)
            except OllamaUnreachable:
                raise
            except OllamaError as error:
                problem = str(error)
                log.warning("kept model not taken over", model=str(name), problem=problem)
        return False

    async def settle(self, name: ModelName) -> None:
        """Keep no longer what has its name back; what cannot be deleted now is at its deadline."""
        for marker in self._of(name):
            async with self._server.alone(markers.turn(marker.key)):
                await self._drop(marker)

    async def sweep(self) -> None:
        """Delete what is kept for longer than its deadline, for ever."""
        await self._monitor.looked.wait()
        while True:
            for marker in self._due():
                async with self._server.alone(markers.turn(marker.key)):
                    if self._monitor.has(marker.name) and await self._drop(marker):
                        log.info("kept model deleted", model=str(marker.name))
            with anyio.move_on_after(self._next_s()):
                await self._monitor.listed.wait()

    async def _copy_back(self, marker: Marker, name: ModelName) -> bool:
        try:
            await self._client.show(marker.name)
        except ModelAbsent:
            return False
        except OllamaUnreachable:
            raise
        except OllamaError:
            # Its layers would stand in the way of those that a pull brings.
            await self._server.delete_quietly(marker.name)
            raise
        await self._client.copy(marker.name, name)
        return True

    async def _drop(self, marker: Marker) -> bool:
        """Delete a marker; return True if it is gone."""
        try:
            return await self._server.delete_quietly(marker.name)
        except (OllamaError, NotLeading) as error:
            log.debug("kept model not deleted", model=str(marker.name), problem=str(error))
        return False

    def _due(self) -> list[Marker]:
        if self._monitor.outage is not None:
            return []
        return [m for m in self._all() if m.deadline <= self._now().timestamp()]

    def _next_s(self) -> float:
        """Return in how many seconds the next deadline is; what is past it waits for a list."""
        now = self._now().timestamp()
        return min((m.deadline - now for m in self._all() if m.deadline > now), default=math.inf)

    def _is_kept(self, name: ModelName, digest: str) -> bool:
        """Return True if this version is kept, and its time is not over."""
        now = self._now().timestamp()
        entries = ((m, self._monitor.find(m.name)) for m in self._of(name))
        return any(e is not None and e.digest == digest and m.deadline > now for m, e in entries)

    def _of(self, name: ModelName) -> tuple[Marker, ...]:
        found = self._markers()
        return found.get(markers.key(name), ()) if found else ()

    def _all(self) -> list[Marker]:
        return [marker for found in self._markers().values() for marker in found]

    def _markers(self) -> Mapping[str, tuple[Marker, ...]]:
        """Return the markers in the newest list, which is looked through once."""
        models = self._monitor.now.models
        if self._seen[0] is not models:
            self._seen = models, markers.find(models)
        return self._seen[1]

    def _tell(self, name: ModelName, error: OllamaError) -> None:
        say = log.debug if self._is_told else log.warning
        self._is_told = True
        problem = str(error)
        say("model not kept, removed at once", model=str(name), problem=problem)
