"""What the scripted Ollama has stored: models, and the layers that they share."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crd.names import ModelName


@dataclass(frozen=True)
class Layer:
    """A blob; `size` in bytes."""

    digest: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """A model as the registry publishes it and the server keeps it."""

    layers: tuple[Layer, ...]
    form: str = ""  # how its bytes are written, which changes the digest and nothing else

    @property
    def digest(self) -> str:
        """The bare hex digest that `/api/tags` shows."""
        text = self.form + " ".join(layer.digest for layer in self.layers)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.layers)


@dataclass
class Disk:
    """Manifests by name, when each was stored, and how many bytes there are of each blob."""

    manifests: dict[ModelName, Manifest] = field(default_factory=dict)
    blobs: Counter[str] = field(default_factory=Counter)
    spoilt: set[str] = field(default_factory=set)  # blobs that are not what their digest says
    modified: dict[ModelName, datetime] = field(default_factory=dict)
    remote_hosts: dict[ModelName, str] = field(default_factory=dict)  # of cloud models

    def has(self, manifest: Manifest) -> bool:
        """Return True if all layers are there, whole."""
        return all(self.blobs[layer.digest] >= layer.size for layer in manifest.layers)

    def is_spoilt(self, manifest: Manifest) -> bool:
        """Return True if a layer is there that cannot be read."""
        return any(layer.digest in self.spoilt for layer in manifest.layers)

    def listed(self) -> list[ModelName]:
        """Return the models that are in the list: those whose configuration can be read.

        That is the last layer, if there is any: an index has none.
        """
        return [
            name
            for name, manifest in self.manifests.items()
            if not any(layer.digest in self.spoilt for layer in manifest.layers[-1:])
        ]

    def store(self, name: ModelName, manifest: Manifest, now: datetime) -> bool:
        """Keep a model whose layers are there; tell whether layers of an older one were dropped."""
        old = self.manifests.get(name)
        self.manifests[name], self.modified[name] = manifest, now
        return old is not None and self._drop_unused(old)

    def copy(self, name: ModelName, to: ModelName, now: datetime) -> bool:
        """Give a model one more name; return True if it was there. Layers stay, wanted or not."""
        if name not in self.manifests:
            return False
        self.manifests[to], self.modified[to] = self.manifests[name], now
        if host := self.remote_hosts.get(name):
            self.remote_hosts[to] = host
        return True

    def delete(self, name: ModelName) -> bool:
        """Delete a model with the layers that no other one has; tell whether it was there."""
        manifest = self.manifests.pop(name, None)
        if manifest is None:
            return False
        self._drop_unused(manifest)
        return True

    def _drop_unused(self, old: Manifest) -> bool:
        kept = {layer.digest for m in self.manifests.values() for layer in m.layers}
        # What a running pull needs is not asked for.
        unused = [layer.digest for layer in old.layers if layer.digest not in kept]
        for digest in unused:
            del self.blobs[digest]
            self.spoilt.discard(digest)
        return bool(unused)

    def entry(self, name: ModelName) -> dict[str, Any]:
        """Describe a model as `/api/tags` does."""
        manifest = self.manifests[name]
        return {
            "name": str(name),
            "model": str(name),
            "modified_at": self.modified[name].isoformat(),
            "size": manifest.size,
            "digest": manifest.digest,
            "details": {"format": "gguf", "family": "llama", "parameter_size": "1B"},
        } | ({"remote_host": host} if (host := self.remote_hosts.get(name)) else {})
