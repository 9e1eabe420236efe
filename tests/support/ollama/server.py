"""A real Ollama server on loopback that pulls from the test registry."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from support.ollama.registry import Registry
from support.process.assets import assets
from support.process.child import Process, free_port

_TIMEOUT_S = 180


class OllamaServer:
    """One Ollama with a home, a models folder and a port of its own.

    It runs between `with` and its end; `stop`, `kill`, `start` and `restart` leave its port and
    its models as they are. `models` is a folder of the caller's choice; without it, the models end
    with the server. `env` is added to the server's environment.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        models: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ollama-")
        self.home = Path(self._folder.name)
        self.models = models or self.home / "models"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = Process(
            [assets() / "ollama", "serve"],
            log=self.home / "ollama.log",
            ready=self._is_ready,
            env=self._environment(registry) | dict(env or {}),
        )
        # Not the environment's proxies: they are no way to loopback.
        self.client = httpx.Client(base_url=self.url, timeout=_TIMEOUT_S, trust_env=False)

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises: ProcessFailedError.
        """
        self.process.start()

    def stop(self) -> None:
        """End the server as Kubernetes would: SIGTERM, and SIGKILL if it lingers."""
        self.process.stop()

    def kill(self) -> None:
        """End the server and its runners at once (SIGKILL)."""
        self.process.kill()

    def restart(self) -> None:
        """Stop the server and start it again."""
        self.stop()
        self.start()

    def tags(self) -> list[dict[str, Any]]:
        """Return the models that the server has, as `GET /api/tags` lists them."""
        models = self._request("GET", "/api/tags").json()["models"]
        return list(models)

    def digests(self) -> dict[str, str]:
        """Return the digest (64 hex) of each model, by its full name and tag."""
        return {model["name"]: model["digest"] for model in self.tags()}

    def show(self, name: str) -> httpx.Response:
        """Ask what a model is; whether it is known and whole is for the caller to read."""
        return self.client.post("/api/show", json={"model": name})

    def pull(self, name: str) -> list[dict[str, Any]]:
        """Pull a model to the end; return every line of the stream, the error's too."""
        with self.pulling(name) as lines:
            return list(lines)

    @contextlib.contextmanager
    def pulling(self, name: str) -> Iterator[Iterator[dict[str, Any]]]:
        """Pull a model and read the lines as they come; leaving early cancels the pull."""
        request = {"model": name}
        with self.client.stream("POST", "/api/pull", json=request) as response:
            yield map(json.loads, response.iter_lines())

    def generate(self, name: str, prompt: str, *, tokens: int = 4) -> dict[str, Any]:
        """Load a model and let it write a few tokens."""
        request = {
            "model": name,
            "prompt": prompt,
            "stream": False,
            "options": {"num_predict": tokens},
        }
        answer: dict[str, Any] = self._request("POST", "/api/generate", json=request).json()
        return answer

    def delete(self, name: str) -> None:
        """Delete a model.

        Raises: httpx.HTTPStatusError if there is none.
        """
        self._request("DELETE", "/api/delete", json={"model": name})

    def running(self) -> dict[str, str]:
        """Return until when each model is in memory, by its full name and tag."""
        models = self._request("GET", "/api/ps").json()["models"]
        return {model["name"]: model["expires_at"] for model in models}

    def load(self, name: str, keep_alive: float = 300) -> None:
        """Load a model, and keep it in memory for so many seconds."""
        body = {"model": name, "keep_alive": keep_alive, "stream": False}
        self._request("POST", "/api/generate", json=body)

    def weights(self, name: str) -> Path:
        """Return the file in which a model's weights are."""
        _, _, line = self.show(name).json()["modelfile"].partition("\nFROM ")
        return Path(line.splitlines()[0])

    def clear(self) -> None:
        """Delete every model."""
        for model in self.tags():
            self.delete(model["name"])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.client.close()
        self._folder.cleanup()

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.client.request(method, path, **options).raise_for_status()

    def _is_ready(self) -> bool:
        return self.client.get("/api/version").is_success

    def _environment(self, registry: Registry) -> dict[str, str]:
        """Return an environment in which every way out leads to the registry."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.home),
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_MODELS": str(self.models),
            "OLLAMA_NO_CLOUD": "1",
            "HTTP_PROXY": registry.url,
            "HTTPS_PROXY": registry.url,
            "SSL_CERT_FILE": str(registry.certificate),
        }
