"""A scripted Ollama with a registry of its own: what a real one says and does, without the bytes.

It keeps Ollama's traps, because the operator is there to deal with them: nearly every failure of
a pull is HTTP 200 and a last line; a stalled registry still sends lines; a part that was
downloaded is kept; deleting one model, or replacing it, drops layers that a running pull of another
counts on, and that pull says success all the same. The contract tests hold it to the real Ollama.
"""

import contextlib
import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anyio
import msgspec

from crd.names import InvalidNameError, ModelName
from ollama_op.sandbox.http import (
    Message,
    Receive,
    Request,
    Send,
    answer,
    chunk,
    read_request,
    start,
)

TICK_S = 0.06  # between two lines of a pull
_NO_TLS = (
    'pull model manifest: Get "https://{host}/v2/": http: server gave HTTP response to HTTPS client'
)
FOR_EVER = timedelta(days=365 * 292)  # what Ollama writes for a model that is never unloaded


@dataclass(frozen=True)
class Layer:
    """A blob; `size` in bytes."""

    digest: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """A model as the registry publishes it and the server keeps it."""

    layers: tuple[Layer, ...]

    @property
    def digest(self) -> str:
        """The bare hex digest that `/api/tags` shows."""
        return hashlib.sha256(" ".join(layer.digest for layer in self.layers).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.layers)


@dataclass(frozen=True)
class Trouble:
    """What goes wrong with one pull, once `after_bytes` of it have come."""

    error: str = ""  # the in-stream error; empty for none
    after_bytes: int = 0
    stall_s: float = 0.0  # lines go on, bytes do not
    until: anyio.Event | None = None  # likewise, until it is set
    cut: bool = False  # the connection breaks


@dataclass
class _Disk:
    """What is stored: manifests by name, and how many bytes of each blob."""

    manifests: dict[ModelName, Manifest] = field(default_factory=dict)
    blobs: Counter[str] = field(default_factory=Counter)
    modified: dict[ModelName, datetime] = field(default_factory=dict)


class OllamaSandbox:
    """The application. Tests and the demo publish models, script troubles and look at `calls`."""

    def __init__(
        self,
        *,
        bytes_per_second: float = 200e6,
        tick_s: float = TICK_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.bytes_per_second, self.tick_s, self.version = bytes_per_second, tick_s, "0.17.4"
        self.only_embeds: set[str] = set()  # models that do not talk
        self.no_memory = False  # every load fails
        self.room = 100  # models in memory at a time; one more pushes out the one loaded first
        self.insecure: set[str] = set()  # pulls that were asked for so
        self.plain_hosts: set[str] = set()  # registries without TLS
        self.clock_skew = timedelta()  # how far its clock is ahead of everybody else's
        self.is_down = False  # every connection is refused
        self.overhear: Callable[[Request], None] = lambda _request: None  # called for each one
        self.calls: Counter[str] = Counter()
        self.max_pulls = 0
        self._pulls: dict[_Say, ModelName] = {}
        self.delay_s: defaultdict[str, float] = defaultdict(float)  # by endpoint
        self._now = now
        self._registry: dict[ModelName, Manifest] = {}
        self._troubles: defaultdict[ModelName, deque[Trouble]] = defaultdict(deque)
        self._disk = _Disk()
        self._loaded: dict[ModelName, datetime] = {}  # in memory, and until when
        self._busy_layers: set[str] = set()

    # --- the stage directions

    def publish(self, name: str, *sizes: int, seed: str = "", shared: str = "") -> str:
        """Put a model into the registry; return its digest.

        `sizes` are those of its layers; another `seed` is another version. `shared` names a first
        layer that models with the same word have in common.
        """
        words = [f"shared {shared}"] if shared else [f"{name} {seed}"]
        words += [f"{name} {seed} {i}" for i in range(1, len(sizes))]
        layers = (
            Layer("sha256:" + hashlib.sha256(word.encode()).hexdigest(), size)
            for word, size in zip(words, sizes, strict=True)
        )
        manifest = self._registry[ModelName.parse(name)] = Manifest(tuple(layers))
        return manifest.digest

    def publish_again(self, name: str, tag: str) -> None:
        """Put a published model into the registry under one more tag."""
        first = ModelName.parse(name)
        self._registry[replace(first, tag=tag)] = self._registry[first]

    def withdraw(self, name: str) -> None:
        """Take a model out of the registry."""
        del self._registry[ModelName.parse(name)]

    def trouble(self, name: str, *troubles: Trouble) -> None:
        """Let the next pulls of a model fail so, one after the other."""
        self._troubles[ModelName.parse(name)].extend(troubles)

    def forget_troubles(self) -> None:
        """Let no further pull fail."""
        self._troubles.clear()

    def preload(self, name: str) -> None:
        """Have a published model on the server already."""
        parsed = ModelName.parse(name)
        self._store(parsed, self._registry[parsed])
        for layer in self._registry[parsed].layers:
            self._disk.blobs[layer.digest] = layer.size

    def lose(self, name: str) -> None:
        """Delete a model behind everybody's back."""
        self._delete(ModelName.parse(name))

    def break_blob(self, name: str) -> None:
        """Lose a model's first layer: it stays in the list, and cannot be shown."""
        del self._disk.blobs[self._disk.manifests[ModelName.parse(name)].layers[0].digest]

    @property
    def pulls(self) -> int:
        """How many pulls are under way."""
        return len(self._pulls)

    @property
    def pulling(self) -> list[str]:
        """The models that are being pulled, each as often as it is."""
        return [str(name) for name in self._pulls.values()]

    def is_whole(self, name: str) -> bool:
        """Tell whether a model is on the server with all its layers."""
        manifest = self._disk.manifests.get(ModelName.parse(name))
        return manifest is not None and self._has_layers(manifest)

    @property
    def models(self) -> dict[str, str]:
        """The models on the server: digest by name."""
        return {str(name): m.digest for name, m in self._disk.manifests.items()}

    @property
    def loaded(self) -> set[str]:
        """The models in memory."""
        self._expire()
        return {str(name) for name in self._loaded}

    # --- the server

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self.is_down:
            raise ConnectionError("connection refused")
        request = await read_request(scope, receive)
        self.overhear(request)
        route = f"{request.method} {request.path}"
        self.calls[route] += 1
        if delay_s := self.delay_s[request.path]:
            await anyio.sleep(delay_s)
        if route == "POST /api/pull":
            await self._pull(_body(request), receive, send)
            return
        status, body = self._answer(route, request)
        headers = {"date": format_datetime(self._clock(), usegmt=True)} if self.clock_skew else {}
        await answer(send, status, body, headers)

    def _answer(self, route: str, request: Request) -> tuple[int, Any]:
        match route:
            case "GET /":
                return 200, "Ollama is running"
            case "GET /api/version":
                return 200, {"version": self.version}
            case "GET /api/tags":
                return 200, {"models": [self._entry(name) for name in self._disk.manifests]}
            case "GET /api/ps":
                self._expire()
                return 200, {"models": [self._in_memory(name) for name in self._loaded]}
            case _:
                return self._answer_about(route, request)

    def _answer_about(self, route: str, request: Request) -> tuple[int, Any]:
        body = _body(request)
        try:
            name = ModelName.parse(body.get("model", ""))
        except InvalidNameError:
            return 400, {"error": "invalid model name"}
        missing = 404, {"error": f"model '{name}' not found"}
        manifest = self._disk.manifests.get(name)
        whole = manifest is not None and self._has_layers(manifest)
        match route:
            case "POST /api/show":
                return (200, {"details": {}, "model_info": {}}) if whole else missing
            case "POST /api/generate" if str(name) in self.only_embeds and _is_wanted(body):
                return 400, {"error": f'"{name}" does not support generate'}
            case "POST /api/generate" | "POST /api/embed":
                return self._load(name, body) if whole else missing
            case "DELETE /api/delete":
                return (200, None) if self._delete(name) else missing
            case _:
                return 404, {"error": "not found"}

    def _load(self, name: ModelName, body: dict[str, Any]) -> tuple[int, Any]:
        keep_alive_s = body.get("keep_alive", 300)
        manifests = self._disk.manifests
        # One model under two names is in memory once, under the name that was first.
        name = next((n for n in self._loaded if manifests.get(n) == manifests[name]), name)
        if not _is_wanted(body):
            self._loaded.pop(name, None)
            return 200, {"done": True, "done_reason": "unload"}
        if self.no_memory:
            return 500, {"error": "model requires more system memory than is available"}
        self._loaded[name] = self._clock() + (
            FOR_EVER if keep_alive_s < 0 else timedelta(seconds=keep_alive_s)
        )
        while len(self._loaded) > self.room:
            del self._loaded[next(iter(self._loaded))]
        return 200, {"done": True, "done_reason": "load"}

    def _has_layers(self, manifest: Manifest) -> bool:
        return all(self._disk.blobs[layer.digest] >= layer.size for layer in manifest.layers)

    def _clock(self) -> datetime:
        return self._now() + self.clock_skew

    def _expire(self) -> None:
        now = self._clock()
        self._loaded = {name: until for name, until in self._loaded.items() if now < until}

    def _in_memory(self, name: ModelName) -> dict[str, Any]:
        # A model that was deleted stays in memory until its time is over.
        about = self._entry(name) if name in self._disk.manifests else {"name": str(name)}
        return about | {"expires_at": self._loaded[name].isoformat(), "size_vram": 0}

    def _delete(self, name: ModelName) -> bool:
        manifest = self._disk.manifests.pop(name, None)
        if manifest is None:
            return False
        self._drop_unused(manifest)
        return True

    def _drop_unused(self, old: Manifest) -> bool:
        kept = {layer.digest for m in self._disk.manifests.values() for layer in m.layers}
        # What a running pull needs is not asked for.
        unused = [layer.digest for layer in old.layers if layer.digest not in kept]
        for digest in unused:
            del self._disk.blobs[digest]
        return bool(unused)

    def _store(self, name: ModelName, manifest: Manifest) -> None:
        self._disk.manifests[name] = manifest
        self._disk.modified[name] = self._now()

    def _entry(self, name: ModelName) -> dict[str, Any]:
        manifest = self._disk.manifests[name]
        return {
            "name": str(name),
            "model": str(name),
            "modified_at": self._disk.modified[name].isoformat(),
            "size": manifest.size,
            "digest": manifest.digest,
            "details": {"format": "gguf", "family": "llama", "parameter_size": "1B"},
        }

    # --- pulls

    async def _pull(self, body: dict[str, Any], receive: Receive, send: Send) -> None:
        try:
            name = ModelName.parse(body.get("model", ""))
        except InvalidNameError:
            await answer(send, 400, {"error": "invalid model name"})
            return
        if body.get("insecure"):
            self.insecure.add(str(name))
        await start(send, 200, {"content-type": "application/x-ndjson"})
        say = _Say(send)
        self._pulls[say] = name
        self.max_pulls = max(self.max_pulls, self.pulls)
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
            self._pulls.pop(say, None)
        if cut is not None:
            raise cut
        await chunk(send, b"", more=False)

    async def _stream(self, name: ModelName, say: "_Say", *, insecure: bool) -> None:
        troubles = self._troubles[name]
        trouble = troubles.popleft() if troubles else None
        await say(status="pulling manifest")
        if name.host in self.plain_hosts and not insecure:
            await say(error=_NO_TLS.format(host=name.host))
            return
        manifest = self._registry.get(name)
        if manifest is None:
            await say(error="pull model manifest: file does not exist")
            return
        came = 0
        for layer in manifest.layers:
            async with contextlib.aclosing(self._download(layer, say)) as ticks:
                async for gained in ticks:
                    came += gained
                    if trouble and came >= trouble.after_bytes:
                        await self._suffer(trouble, layer, say)
                        trouble = None
        for phase in ("verifying sha256 digest", "writing manifest"):
            await say(status=phase)
        old = self._disk.manifests.get(name)
        self._store(name, manifest)
        if old is not None and self._drop_unused(old):
            await say(status="removing unused layers")
        self._pulls.pop(say, None)  # whoever reads the next line may ask for another pull at once
        await say(status="success")

    async def _download(self, layer: Layer, say: "_Say") -> AsyncGenerator[int]:
        """Fetch a layer, or follow another pull that does; yield the bytes gained in each tick."""
        blobs, mine = self._disk.blobs, layer.digest not in self._busy_layers
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

    async def _suffer(self, trouble: Trouble, layer: Layer, say: "_Say") -> None:
        until = anyio.current_time() + trouble.stall_s
        while anyio.current_time() < until or (trouble.until and not trouble.until.is_set()):
            await say.layer(layer, self._disk.blobs[layer.digest])
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


def _is_wanted(body: dict[str, Any]) -> bool:
    """Tell a load from an unload, which any model takes, whatever it is for."""
    return bool(body.get("keep_alive", 300)) or bool(body.get("prompt"))


def _body(request: Request) -> dict[str, Any]:
    return msgspec.json.decode(request.body, type=dict[str, Any]) if request.body else {}
