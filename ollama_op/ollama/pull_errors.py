"""Why a pull failed: Ollama says it in words, after HTTP 200; here they become a class of error."""

import re
from typing import Final

from crd.names import ModelName
from ollama_op.errors import (
    AuthenticationFailed,
    DigestMismatch,
    InsufficientStorage,
    ModelUnknown,
    PullFailed,
    RegistryUnavailable,
    ServerTooOld,
)

_FOREIGN: Final = re.compile(r"\"[^\"]*\"|[0-9a-f]{12,}")
_REGISTRY_TROUBLE: Final = (
    "max retries",
    "dial tcp",
    "lookup",
    "no such host",
    "connection re",  # refused, reset
    "timeout",
    "deadline",
    "eof",
    "tls",
    "proxyconnect",
    "http response to https client",
    "certificate",
    "unavailable",
    "429",
    "50[0-9]",
)


def pull_failed(text: str, name: ModelName) -> PullFailed:
    """Turn what Ollama says about a failed pull into the error that says what happens next."""
    # Names, paths and digests in it are not Ollama's words.
    said = _FOREIGN.sub("", text.lower().replace(str(name).lower(), ""))

    def has(*words: str) -> bool:
        return any(re.search(rf"\b{word}", said) for word in words)

    if has("file does not exist", "manifest unknown", "manifest_unknown"):
        return ModelUnknown(
            f"The registry has no {name}. Correct spec.name or spec.tag, or request a refresh"
            " once it is there."
        )
    if has("no space left", "disk full", "disk quota"):
        return InsufficientStorage("No space left on the Ollama server.")
    if has("newer version of ollama"):
        return ServerTooOld(
            f"{name} needs a newer Ollama. Upgrade the server; it is tried again when the version"
            " changes."
        )
    if has("digest mismatch"):
        return DigestMismatch(f"What the registry sent for {name} does not match its digest.")
    if has("unauthorized", "401", "403", "access denied", "authentication"):
        return AuthenticationFailed(f"The registry denies access to {name}: {text}.")
    if has(*_REGISTRY_TROUBLE):
        return RegistryUnavailable(f"The registry does not serve {name}: {text}.")
    return PullFailed(f"Pull of {name} failed: {text}.")
