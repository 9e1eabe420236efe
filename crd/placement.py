"""Where a model is: on which Ollama server, under which name."""

from typing import Final, NamedTuple

from crd.names import ModelName


class ServerRef(NamedTuple):
    """Which Ollama server is meant. As a text it is the label `server` of metrics."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Write it as kubectl would name an object; without a namespace it is its name."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


DEFAULT_SERVER: Final = ServerRef("", "default")  # the one at --ollama-api-url


class Placement(NamedTuple):
    """A model on a server: what two objects share that name the same one."""

    server: ServerRef
    model: ModelName
