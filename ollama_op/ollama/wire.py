"""What Ollama says, as the rest of the operator reads it."""

from datetime import datetime, timedelta

import msgspec

AN_AGE = timedelta(days=365 * 50)  # Ollama writes "for ever" as a time three centuries away


class Details(msgspec.Struct, frozen=True, gc=False):
    """What kind of model it is, in Ollama's words; nothing depends on them."""

    family: str | None = None
    parameter_size: str | None = None
    quantization_level: str | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One model in Ollama's list; `digest` is bare hex, `size` counts bytes."""

    name: str
    digest: str
    size: int
    details: Details | None = None


class Loaded(msgspec.Struct, frozen=True, gc=False):
    """One model in memory, until `expires_at` unless somebody uses it; `digest` as in the list."""

    expires_at: datetime
    digest: str = ""

    def is_for_ever(self, now: datetime) -> bool:
        """Tell whether it is never to be unloaded."""
        return self.expires_at - now > AN_AGE


class Step(msgspec.Struct, frozen=True, gc=False):
    """One line of a pull; `completed` and `total` are bytes of the layer `digest`."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: str = ""
