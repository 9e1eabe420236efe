"""What the model registry holds, and what it was asked for."""

import hashlib
import time
from dataclasses import dataclass, field

from support.ollama.faults import Kind


@dataclass(kw_only=True)
class Exchange:
    """One request and how far its answer got."""

    method: str
    host: str
    path: str
    repo: str = ""
    kind: Kind | None = None
    range: str | None = None
    status: int = 0
    sent_bytes: int = 0
    at: float = field(default_factory=time.monotonic)


class Content:
    """What the registry holds, and what it was asked for."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.exchanges: list[Exchange] = []

    def add_blob(self, data: bytes, media_type: str) -> dict[str, object]:
        """Keep a blob; return what a manifest says of it."""
        digest = digest_of(data)
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def manifest(self, repo: str, reference: str) -> bytes | None:
        """Find a manifest by tag or by digest."""
        if reference.startswith("sha256:"):
            found = (body for (owner, _), body in self.manifests.items() if owner == repo)
            return next((body for body in found if digest_of(body) == reference), None)
        return self.manifests.get((repo, reference))


def digest_of(data: bytes) -> str:
    """Return the digest by which a registry knows these bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
