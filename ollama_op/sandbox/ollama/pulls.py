"""Pulls of the scripted Ollama: lines that go on while bytes do not, and all that can go wrong."""

import contextlib
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import anyio
import msgspec

from crd.names import InvalidNameError, ModelName
from ollama_op.base.asgi import Receive, Send
from ollama_op.sandbox.http import answer, chunk, send_start
from ollama_op.sandbox.ollama.disk import Disk, Layer, Manifest

TICK_S: Final = 0.06  # between two lines of a pull
_NO_TLS: Final = (
    'pull model manifest: Get "https://{host}/v2/": http: server gave HTTP response to HTTPS client'
)


LONGEST_PART: Final = 80  # of a name, as in Ollama 0.17.4; newer ones take more


def as_model_name(text: str) -> ModelName:
    """Read a name as the server does.

    Raises: InvalidNameError.
    """
    name = ModelName.parse(text)
    if max(map(len, (name.namespace, name.model, name.tag))) > LONGEST_PART:
        raise InvalidNameError("too long")
    return name


@dataclass(frozen=True)
class PullTrouble:
    """What goes wrong with one pull, once `after_bytes` of it have come."""

    error: str = ""  # the in-stream error; empty for none
    after_bytes: int = 0
    stall_s: float = 0.0  # lines go on, bytes do not
    until: anyio.Event | None = None  # likewise, until it is set
    cut: bool = False  # the connection breaks
    spoils: bool = False  # what is left on the disk is not what its digest says, the weights apart


@dataclass
class Pulls:
    """What is pulled from `registry` to `disk`, how fast, and what is to go wrong."""

    disk: Disk
    registry: dict[ModelName, Manifest]
    now: Callable[[], datetime]
    bytes_per_second: float
    tick_s: float
    plain_hosts: set[str] = field(default_factory=set)  # registries without TLS
    insecure: set[str] = field(default_factory=set)  # pulls that were asked for so
    verify_s: float = 0  # how long it takes to verify what has come
    most: int = 0  # that were under way at a time
    troubles: defaultdict[ModelName, deque[PullTrouble]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    under_way: "dict[_Say, ModelName]" = field(default_factory=dict)
    _busy_layers: set[str] = field(default_factory=set)

    async def serve(self, body: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request for a pull, line by line, until it is over or the client has left."""
        try:
            name = as_model_name(body.get("model", ""))
        except InvalidNameError:
            await answer(send, 400, {"error": "invalid model name"})
            return
        if body.get("insecure"):
            self.insecure.add(str(name))
        await send_start(send, 200, {"content-type": "application/x-ndjson"})
        say = _Say(send)
        self.under_way[say] = name
        self.most = max(self.most, len(self.under_way))
        cut: ConnectionError | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_when_left, receive, tasks.cancel_scope)
                try:
                    await self._stream(name, say, insecure=bool(body.get("insecure")))
                except _PullEnded:
                    pass
                except ConnectionError as error:  # by itself, not in a group of exceptions
                    cut = error
                tasks.cancel_scope.cancel()
        finally:
            self.under_way.pop(say, None)
        if cut is not None:
            raise cut
        await chunk(send, b"", more=False)

    async def _stream(self, name: ModelName, say: "_Say", *, insecure: bool) -> None:
        troubles = self.troubles[name]
        trouble = troubles.popleft() if troubles else None
        await say(status="pulling manifest")
        if name.host in self.plain_hosts and not insecure:
            await say(error=_NO_TLS.format(host=name.host))
            return
        manifest = self.registry.get(name)
        if manifest is None:
            await say(error="pull model manifest: file does not exist")
            return
        came = 0
        for layer in manifest.layers:
            async with contextlib.aclosing(self._download(layer, say)) as ticks:
                async for gained in ticks:
                    came += gained
                    if trouble and came >= trouble.after_bytes:
                        if trouble.spoils:
                            self._spoil(manifest)
                        await self._suffer(trouble, layer, say)
                        trouble = None
        await say(status="verifying sha256 digest")
        if self.verify_s:
            with anyio.CancelScope(shield=True):  # it goes on, though the client may have left
                await anyio.sleep(self.verify_s)
                self.disk.store(name, manifest, self.now())
        await say(status="writing manifest")
        if self.disk.store(name, manifest, self.now()):
            await say(status="removing unused layers")
        self.under_way.pop(say, None)  # who reads the next line may ask for another pull at once
        await say(status="success")

    async def _download(self, layer: Layer, say: "_Say") -> AsyncGenerator[int]:
        """Fetch a layer, or follow another pull that does; yield the bytes gained in each tick."""
        blobs, mine = self.disk.blobs, layer.digest not in self._busy_layers
        self._busy_layers.add(layer.digest)
        try:
            while True:
                done = blobs[layer.digest]
                await say.layer(layer, done)
                yield 0
                if done >= layer.size:
                    return
                await anyio.sleep(self.tick_s)
                mine = mine or layer.digest not in self._busy_layers
                if mine:
                    gained = int(self.bytes_per_second * self.tick_s)
                    blobs[layer.digest] = min(layer.size, blobs[layer.digest] + gained)
                    yield blobs[layer.digest] - done
        finally:
            if mine:
                self._busy_layers.discard(layer.digest)

    def _spoil(self, manifest: Manifest) -> None:
        """Leave behind what Ollama leaves after a mismatch: it throws away the first bad layer."""
        weights, *others = manifest.layers
        self.disk.blobs[weights.digest] = 0
        for layer in others:
            self.disk.blobs[layer.digest] = layer.size
            self.disk.spoilt.add(layer.digest)

    async def _suffer(self, trouble: PullTrouble, layer: Layer, say: "_Say") -> None:
        until = anyio.current_time() + trouble.stall_s
        while anyio.current_time() < until or (trouble.until and not trouble.until.is_set()):
            await say.layer(layer, self.disk.blobs[layer.digest])
            await anyio.sleep(self.tick_s)
        if trouble.cut:
            raise ConnectionResetError("cut by the script")
        if trouble.error:
            await say(error=trouble.error)
            raise _PullEnded


class _PullEnded(Exception):
    """The pull is over; its last line has been sent."""


class _Say:
    """Sends the lines of a pull."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, **line: object) -> None:
        await chunk(self._send, msgspec.json.encode(line) + b"\n")

    async def layer(self, layer: Layer, completed: int) -> None:
        line: dict[str, object] = {
            "status": f"pulling {layer.digest[7:19]}",
            "digest": layer.digest,
            "total": layer.size,
        }
        if completed:  # absent at 0, as Ollama has it
            line["completed"] = completed
        await self(**line)


async def _cancel_when_left(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
