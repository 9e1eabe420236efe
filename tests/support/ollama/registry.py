"""A model registry on loopback, from which a real Ollama pulls.

It is an HTTPS proxy too, and answers as whichever host is asked for. With it as its proxy, Ollama
takes `phi3:mini` from here although that name means registry.ollama.ai, and nothing leaves the
machine.

Source: Open Container Initiative, distribution-spec; Ollama, server/download.go.
"""

import hashlib
import json
import random
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from support.kube.certificate import write_certificate
from support.ollama.faults import Faults, FaultSwitch, Kind
from support.ollama.gguf import gguf
from support.ollama.registry_content import Content, Exchange, digest_of
from support.ollama.registry_server import Server

__all__ = ["Exchange", "Faults", "Registry"]

_HOSTS = ("registry.ollama.ai", "hf.co", "huggingface.co", "registry.example.com", "localhost")
_OLLAMA = "application/vnd.ollama.image."
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_SHARED_BYTES = 64 * 1024
_FILLER_BYTES = 1024 * 1024
_PARAMETERS = {"num_ctx": 256, "temperature": 0}


class Registry:
    """A registry that serves from a thread of its own between `with` and its end.

    A repository is `namespace/model`; one without a namespace is in `library`, as Ollama has it.
    One repository answers for every host. `host` is the address on which it listens.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._switch = FaultSwitch()
        self._content = Content()
        self._folder = tempfile.TemporaryDirectory(prefix="registry-")
        self.certificate, key = write_certificate(Path(self._folder.name), _HOSTS)
        self._server = Server(host, self._content, self._switch, (self.certificate, key))
        self._thread = threading.Thread(target=self._server.serve, name="registry")

    @property
    def address(self) -> str:
        """`host:port`, as it begins the name of a model that is to come from here directly."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    @property
    def url(self) -> str:
        """Base URL, which is also that of the proxy."""
        return f"http://{self.address}"

    @property
    def faults(self) -> Faults:
        """The faults of repositories that have none of their own.

        Setting them sets those of every repository: `registry.faults = Faults()` heals all, and
        answers that were stalled go on.
        """
        return self._switch.of()

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._switch.set(faults)

    def set_faults(self, repo: str, faults: Faults) -> None:
        """Set the faults of one repository, until the next change of those of all."""
        self._switch.set_for(_full(repo), faults)

    def wait_for_stall(self, timeout_s: float = 10) -> None:
        """Wait until some answer stands still.

        Raises: TimeoutError.
        """
        if not self._switch.wait_until_held(timeout_s):
            raise TimeoutError(f"no request was stalled within {timeout_s} s")

    @property
    def requests(self) -> list[Exchange]:
        """Every request since the start or the last `forget_requests`, in order of arrival."""
        return list(self._content.exchanges)

    def count(self, kind: Kind, repo: str | None = None, method: str = "GET") -> int:
        """Count the requests for manifests or for blobs, of one repository or of all."""
        wanted = _full(repo) if repo else None
        return sum(
            exchange.kind == kind and exchange.method == method and wanted in (None, exchange.repo)
            for exchange in self.requests
        )

    def sent(self, repo: str) -> int:
        """Count the bytes of a model's weights that were sent, to whoever asked for parts."""
        return sum(e.sent_bytes for e in self.requests if e.repo == _full(repo) and e.range)

    def forget_requests(self) -> None:
        """Begin a new log."""
        self._content.exchanges.clear()

    def publish(
        self,
        repo: str,
        tag: str = "latest",
        *,
        seed: int = 0,
        size: int | None = None,
        shared_layer_seed: int | None = None,
        template: str = "{{ .Prompt }}",
        parameters: Mapping[str, object] | None = None,
        embeds: bool = False,
    ) -> str:
        """Publish a model that loads and generates; return its digest as Ollama shows it (64 hex).

        Another `seed` gives other weights, and the same arguments the same digest. `size`, in
        bytes, makes the weights' layer longer (at least 320,000). Models with one
        `shared_layer_seed` share their first layer, a license of 64 KiB. One that `embeds` does
        not generate.
        """
        layers = [
            self._add("model", _weights(seed, size, embeds=embeds)),
            self._add("template", template.encode()),
            self._add("license", b"For tests only."),
            self._add("params", _json(parameters or _PARAMETERS)),
        ]
        if shared_layer_seed is not None:
            text = random.Random(shared_layer_seed).randbytes(_SHARED_BYTES // 2).hex()  # noqa: S311 - no secret
            # First, so that Ollama has or skips it while it still downloads the weights.
            layers = [self._add("license", text.encode()), *layers[:2], *layers[3:]]
        config = self._content.add_blob(
            _config([str(layer["digest"]) for layer in layers]), _CONFIG
        )
        manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": layers}
        # Compact and in this order: byte for byte what Ollama writes, hence the digest it shows.
        body = _json(manifest)
        self._content.manifests[_full(repo), tag] = body
        return digest_of(body).removeprefix("sha256:")

    def publish_index(self, repo: str, tag: str = "latest", *, seed: int = 0) -> None:
        """Publish a list of images under the tag, as registries for containers have them."""
        self.publish(repo, tag, seed=seed)
        image = self._content.manifests[_full(repo), tag]
        entry = {"mediaType": _MANIFEST, "digest": digest_of(image), "size": len(image)}
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}
        self._content.manifests[_full(repo), tag] = _json(index)

    def withdraw(self, repo: str, tag: str = "latest") -> None:
        """Forget a model; its blobs stay."""
        del self._content.manifests[_full(repo), tag]

    def close(self) -> None:
        """End every connection, the stalled ones too, and stop serving."""
        self._switch.close()
        self._server.close()
        self._thread.join()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add(self, layer: str, data: bytes) -> dict[str, object]:
        return self._content.add_blob(data, _OLLAMA + layer)


def _weights(seed: int, size: int | None, *, embeds: bool) -> bytes:
    """Return a model file, filled up behind its tensors to `size` bytes."""
    model = gguf(seed, embeds=embeds)
    if size is None:
        return model
    missing = size - len(model)
    if missing < 0:
        raise ValueError(f"a model has at least {len(model)} bytes, not {size}")
    # Different for each seed: a blob that begins like another must not be taken for it.
    filler = hashlib.shake_256(f"filler {seed}".encode()).digest(_FILLER_BYTES)
    return model + (filler * (missing // _FILLER_BYTES + 1))[:missing]


def _config(layer_digests: list[str]) -> bytes:
    return _json(
        {
            "model_format": "gguf",
            "model_family": "llama",
            "model_families": ["llama"],
            "model_type": "79.1K",
            "file_type": "F32",
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": layer_digests},
        }
    )


def _full(repo: str) -> str:
    return repo if "/" in repo else f"library/{repo}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
