"""A scripted Ollama with a registry of its own: what a real one says and does, without the bytes.

It keeps Ollama's traps, because the operator is there to deal with them: nearly every failure of
a pull is HTTP 200 and a last line; a stalled registry still sends lines; a part that was
downloaded is kept; deleting one model, or replacing it, drops layers that a running pull of another
counts on, and that pull says success all the same. The contract tests hold it to the real Ollama.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, NamedTuple

import anyio
import msgspec

from crd.names import InvalidNameError, ModelName
from ollama_op.base.asgi import Message, Receive, Send
from ollama_op.sandbox.http import SandboxRequest, answer, read_request
from ollama_op.sandbox.ollama.disk import Disk, Layer, Manifest
from ollama_op.sandbox.ollama.pulls import TICK_S, Pulls, PullTrouble, as_model_name

_READING = ("POST /api/show", "POST /api/generate", "POST /api/embed")
FOR_EVER = timedelta(days=365 * 292)  # what Ollama writes for a model that is never unloaded


class _Loaded(NamedTuple):
    """A version of a model in memory."""

    manifest: Manifest
    until: datetime


class OllamaSandbox:
    """The application. Tests and the demo publish models, script troubles and look at `calls`."""

    def __init__(
        self,
        *,
        bytes_per_second: float = 200e6,
        tick_s: float = TICK_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.version = "0.17.4"
        self.only_embeds: set[str] = set()  # models that do not talk
        self.no_memory = False  # every load fails
        self.load_error = ""  # likewise, with these words
        self.unusable: dict[str, str] = {}  # models that it cannot use, and what it says then
        self.room = 100  # models in memory at a time; one more pushes out the one loaded first
        self.clock_skew = timedelta()  # how far its clock is ahead of everybody else's
        self.is_down = False  # every connection is refused
        self.overhear: Callable[[SandboxRequest], None] = lambda _request: (
            None
        )  # called for each one
        self.calls: Counter[str] = Counter()
        self.delay_s: defaultdict[str, float] = defaultdict(float)  # by endpoint
        self._now = now
        self._registry: dict[ModelName, Manifest] = {}
        self._disk = Disk()
        self.downloads = Pulls(self._disk, self._registry, now, bytes_per_second, tick_s)
        self._loaded: dict[ModelName, _Loaded] = {}  # in memory, and until when

    # --- the stage directions

    def publish(
        self, name: str, *sizes: int, seed: str = "", shared: str = "", form: str = ""
    ) -> str:
        """Put a model into the registry; return its digest.

        `sizes` are those of its layers; another `seed` is another version. `shared` names a first
        layer that models with the same word have in common. Another `form` of the manifest is
        another digest for the same layers.
        """
        words = [f"shared {shared}"] if shared else [f"{name} {seed}"]
        words += [f"{name} {seed} {i}" for i in range(1, len(sizes))]
        layers = (
            Layer("sha256:" + hashlib.sha256(word.encode()).hexdigest(), size)
            for word, size in zip(words, sizes, strict=True)
        )
        manifest = self._registry[ModelName.parse(name)] = Manifest(tuple(layers), form)
        return manifest.digest

    def publish_again(self, name: str, tag: str) -> None:
        """Put a published model into the registry under one more tag."""
        first = ModelName.parse(name)
        self._registry[replace(first, tag=tag)] = self._registry[first]

    def withdraw(self, name: str) -> None:
        """Take a model out of the registry."""
        del self._registry[ModelName.parse(name)]

    def run_elsewhere(self, name: str, host: str = "https://ollama.com:443") -> None:
        """Let a model be one of a cloud: once it is pulled, the list says where it runs."""
        self._disk.remote_hosts[ModelName.parse(name)] = host

    def trouble(self, name: str, *troubles: PullTrouble) -> None:
        """Let the next pulls of a model fail so, one after the other."""
        self.downloads.troubles[ModelName.parse(name)].extend(troubles)

    def forget_troubles(self) -> None:
        """Let no further pull fail."""
        self.downloads.troubles.clear()

    def preload(self, name: str) -> None:
        """Put a published model on the server already."""
        parsed = ModelName.parse(name)
        self._disk.store(parsed, self._registry[parsed], self._now())
        self.stock(name)

    def stock(self, name: str) -> None:
        """Put the layers of a published model on the server already, and not the model."""
        for layer in self._registry[ModelName.parse(name)].layers:
            self._disk.blobs[layer.digest] = layer.size

    def lose(self, name: str) -> None:
        """Delete a model behind everybody's back."""
        self._disk.delete(ModelName.parse(name))

    def break_blob(self, name: str) -> None:
        """Lose a model's first layer: it stays in the list, and cannot be shown."""
        del self._disk.blobs[self._disk.manifests[ModelName.parse(name)].layers[0].digest]

    def spoil(self, name: str, layer: int = 0) -> None:
        """Break a layer; without the last one, the model is not even listed."""
        manifest = self._disk.manifests[ModelName.parse(name)]
        self._disk.spoilt.add(manifest.layers[layer].digest)

    def publish_index(self, name: str) -> str:
        """Put a list of several images under a name, as registries for containers have them."""
        index = self._registry[ModelName.parse(name)] = Manifest(())
        return index.digest

    @property
    def pulls(self) -> int:
        """Count the pulls that are under way."""
        return len(self.downloads.under_way)

    @property
    def pulling(self) -> list[str]:
        """The models that are being pulled, each as often as it is."""
        return [str(name) for name in self.downloads.under_way.values()]

    def is_whole(self, name: str) -> bool:
        """Return True if a model is on the server with all its layers, and each can be read."""
        manifest = self._disk.manifests.get(ModelName.parse(name))
        if manifest is None or self._disk.is_spoilt(manifest):
            return False
        return self._disk.has(manifest)

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
            await self.downloads.serve(_body(request), receive, send)
            return
        status, body = self._answer(route, request)
        headers = {"date": format_datetime(self._clock(), usegmt=True)} if self.clock_skew else {}
        await answer(send, status, body, headers)

    def _answer(self, route: str, request: SandboxRequest) -> tuple[int, Any]:
        match route:
            case "GET /":
                return 200, "Ollama is running"
            case "GET /api/version":
                return 200, {"version": self.version}
            case "GET /api/tags":
                return 200, {"models": [self._disk.entry(name) for name in self._disk.listed()]}
            case "GET /api/ps":
                self._expire()
                return 200, {"models": [self._in_memory(name) for name in self._loaded]}
            case _:
                return self._answer_about(route, request)

    def _answer_about(self, route: str, request: SandboxRequest) -> tuple[int, Any]:
        body = _body(request)
        if route == "POST /api/copy":
            return self._copy(body.get("source", ""), body.get("destination", ""))
        try:
            name = as_model_name(body.get("model", ""))
        except InvalidNameError:
            return 400, {"error": "invalid model name"}
        missing = 404, {"error": f"model '{name}' not found"}
        manifest = self._disk.manifests.get(name)
        whole = manifest is not None and bool(manifest.layers) and self._disk.has(manifest)
        if manifest is not None and whole and route in _READING:
            if self._disk.is_spoilt(manifest):
                return 500, {"error": "invalid character 'z' looking for beginning of value"}
            if words := self.unusable.get(str(name)):
                return 500, {"error": words}
        match route:
            case "POST /api/show":
                return (200, {"details": {}, "model_info": {}}) if whole else missing
            case "POST /api/generate" if str(name) in self.only_embeds and _is_wanted(body):
                return 400, {"error": f'"{name}" does not support generate'}
            case "POST /api/generate" | "POST /api/embed":
                return self._load(name, body) if whole else missing
            case "DELETE /api/delete":
                return (200, None) if self._disk.delete(name) else missing
            case _:
                return 404, {"error": "not found"}

    def _copy(self, source: str, destination: str) -> tuple[int, Any]:
        try:
            name = as_model_name(source)
        except InvalidNameError:
            return 400, {"error": f'source "{source}" is invalid'}
        try:
            to = as_model_name(destination)
        except InvalidNameError:
            return 400, {"error": f'destination "{destination}" is invalid'}
        if not self._disk.copy(name, to, self._now()):
            return 404, {"error": f'model "{source}" not found'}
        return 200, None

    def _load(self, name: ModelName, body: dict[str, Any]) -> tuple[int, Any]:
        keep_alive_s = body.get("keep_alive", 300)
        about = {"model": body["model"], "done": True}
        manifest = self._disk.manifests[name]
        # One model under two names is in memory once, under the name that was first; an older
        # version is another model there, which no name leads to any more.
        name = next((n for n, one in self._loaded.items() if one.manifest == manifest), name)
        if not _is_wanted(body):
            if name in self._loaded and self._loaded[name].manifest == manifest:
                del self._loaded[name]
            return 200, about | {"done_reason": "unload"}
        if self.no_memory or self.load_error:
            full = "model requires more system memory than is available"
            return 500, {"error": self.load_error or full}
        until = self._clock() + (FOR_EVER if keep_alive_s < 0 else timedelta(seconds=keep_alive_s))
        self._loaded[name] = _Loaded(manifest, until)
        while len(self._loaded) > self.room:
            del self._loaded[next(iter(self._loaded))]
        return 200, about | {"done_reason": "load"}

    def _clock(self) -> datetime:
        return self._now() + self.clock_skew

    def _expire(self) -> None:
        now = self._clock()
        self._loaded = {name: one for name, one in self._loaded.items() if now < one.until}

    def _in_memory(self, name: ModelName) -> dict[str, Any]:
        # A model that was deleted or replaced stays in memory until its time is over.
        about = self._disk.entry(name) if name in self._disk.manifests else {"name": str(name)}
        one = self._loaded[name]
        about |= {"digest": one.manifest.digest, "size": one.manifest.size}
        return about | {"expires_at": one.until.isoformat(), "size_vram": 0}


def _is_wanted(body: dict[str, Any]) -> bool:
    """Return True for a load and False for an unload, which any model takes, whatever it is for."""
    return bool(body.get("keep_alive", 300)) or bool(body.get("prompt"))


def _body(request: SandboxRequest) -> dict[str, Any]:
    return msgspec.json.decode(request.body, type=dict[str, Any]) if request.body else {}
