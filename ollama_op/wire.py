"""What Ollama says, as the rest of the operator reads it."""

import msgspec


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One model in Ollama's list; `digest` is bare hex, `size` counts bytes."""

    name: str
    digest: str
    size: int


class Step(msgspec.Struct, frozen=True, gc=False):
    """One line of a pull; `completed` and `total` are bytes of the layer `digest`."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: str = ""
