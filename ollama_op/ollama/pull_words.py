"""The words for each kind of failed pull: what is wrong, what happens next, and what to do."""

import re
from dataclasses import dataclass
from typing import Final

from crd.names import DEFAULT_HOST, ModelName
from ollama_op.base.errors import (
    MESSAGE_LIMIT,
    AuthenticationFailed,
    DigestMismatch,
    InsufficientStorage,
    ModelUnknown,
    ModelUnsupported,
    NameRefused,
    OllamaError,
    RegistryBusy,
    RegistryRefused,
    RegistryUnavailable,
    RegistryUnsupported,
    ServerTooOld,
    StorageFailed,
    sanitise,
)

_FOREIGN: Final = re.compile(r"\"[^\"]*\"|[0-9a-f]{12,}")
# Registries to which nobody pushes an OCI manifest in place of Docker's.
_HUBS: Final = frozenset({DEFAULT_HOST, "hf.co", "huggingface.co", "modelscope.cn"})
_LATER: Final = "It is tried again when the version changes."
# The fast way of many small files, which knows no proxy.
_PAST_PROXY: Final = re.compile(
    r"max retries exceeded: get \"https?://\S+\": dial tcp.*no such host"
)


@dataclass(frozen=True, slots=True)
class Said:
    """What Ollama says, about which model."""

    text: str  # without `pull model manifest: `
    name: ModelName
    of_manifest: bool

    @property
    def words(self) -> str:
        """The text for people: bounded, and without a full stop."""
        return shown(self.text)

    @property
    def own(self) -> str:
        """Ollama's own words in lower case: names, paths in quotes and digests are not."""
        return _FOREIGN.sub("", self.text.lower().replace(str(self.name).lower(), ""))


def shown(words: str) -> str:
    """Bound foreign words, and leave out their full stop."""
    return sanitise(words, MESSAGE_LIMIT).rstrip(".")


# --- what the registry answered


def web_page(said: Said, status: int) -> OllamaError:
    """Return the error for this: a page came in place of the registry's answer."""
    return RegistryUnavailable(
        f"HTTP {status} with a web page came in place of {said.name}: not the registry's own"
        " answer. Look at what is between Ollama and the registry."
    )


def busy(words: str) -> OllamaError:
    """Return the error for this: the registry limits how often it is asked."""
    return RegistryBusy(f"The registry limits how often it is asked: {words}.")


def refused(said: Said, words: str) -> OllamaError:
    """Return the error for this: the registry will not give the model."""
    return RegistryRefused(
        f"The registry refuses {said.name}: {words}. Correct spec.name or spec.tag, or request a"
        " refresh once the registry offers it."
    )


def unknown(said: Said, words: str = "") -> OllamaError:
    """Return the error for this: the registry has no such model."""
    text = f"The registry has no {said.name}"
    text += f" ({words})" if words else ""
    text += ". Correct spec.name or spec.tag, or request a refresh once it is there."
    if said.name.host.lower() not in _HUBS:
        text += " A tag that has an OCI manifest only counts as missing: Ollama asks for Docker's."
    return ModelUnknown(text)


def missing(said: Said) -> OllamaError:
    """Return the error for this: something is not there: the model, or a file of it."""
    if said.of_manifest:
        return unknown(said)
    return RegistryUnavailable(f"The registry lists {said.name}, and lacks a file of it.")


def denied(said: Said, words: str = "") -> OllamaError:
    """Return the error for this: the registry wants other credentials."""
    return AuthenticationFailed(
        f"The registry denies access to {said.name}: {words or said.words}. Give Ollama's key"
        " access there, or correct the name; then request a refresh."
    )


def name_refused(said: Said) -> OllamaError:
    """Return the error for this: this server takes no such name."""
    return NameRefused(
        f"This Ollama takes no such name: {said.words}. Many versions take 80 characters for each"
        f" part of a name. Correct spec.name or spec.tag, or upgrade the server. {_LATER}"
    )


def too_old(said: Said) -> OllamaError:
    """Return the error for this: the model needs a newer Ollama."""
    return ServerTooOld(f"{said.name} needs a newer Ollama. Upgrade the server. {_LATER}")


def unsupported(said: Said) -> OllamaError:
    """Return the error for this: this Ollama cannot use the model."""
    return ModelUnsupported(f"This Ollama cannot use {said.name}: {said.words}. {_LATER}")


def no_redirect(said: Said) -> OllamaError:
    """Return the error for this: the registry serves files itself, which Ollama does not take."""
    return RegistryUnsupported(
        f"The registry serves the files of {said.name} itself (no Location header). Ollama takes"
        " them by a redirect to another host only: turn on redirects to the storage behind the"
        " registry, or use another registry; then request a refresh."
    )


def other_redirect(said: Said) -> OllamaError:
    """Return the error for this: the registry redirects in a way that Ollama does not take."""
    status = said.text.rpartition(" ")[2]
    return RegistryUnsupported(
        f"The registry redirects to the files of {said.name} by HTTP {status}. Ollama takes 307"
        " only. Change the registry, or use another; then request a refresh."
    )


def login_elsewhere(said: Said) -> OllamaError:
    """Return the error for this: the registry's login is at a host that Ollama does not trust."""
    return RegistryUnsupported(
        f"The registry of {said.name} asks Ollama to log in at another host, and Ollama logs in at"
        f" the registry itself only: {said.words}. Use another registry; then request a refresh."
    )


def full(_said: Said) -> OllamaError:
    """Return the error for this: the disk is full."""
    return InsufficientStorage("No space left on the Ollama server.")


def mismatch(said: Said) -> OllamaError:
    """Return the error for this: what came is not what was promised."""
    return DigestMismatch(f"What the registry sent for {said.name} does not match its digest.")


def storage(said: Said) -> OllamaError:
    """Return the error for this: the server's disk does not do what it should."""
    return StorageFailed(f"The Ollama server cannot use its disk: {said.words}.")


def no_manifest(said: Said) -> OllamaError:
    """Return the error for this: something else than a manifest came, with HTTP 200."""
    what = "a web page" if "'<'" in said.text else "no manifest"
    return RegistryUnavailable(
        f"{what.capitalize()} came in place of {said.name}: not a registry's answer"
        f" ({said.words}). Look at what is between Ollama and the registry."
    )


def past_proxy(said: Said) -> OllamaError:
    """Return the error for this: this kind of model is downloaded past the proxy."""
    return RegistryUnavailable(
        f"The registry serves the manifest of {said.name}, and not its files: {said.words}."
        " If Ollama goes through a proxy: it downloads safetensors models past HTTPS_PROXY; let it"
        " reach the registry directly, or use a GGUF model."
    )


def unavailable(said: Said, words: str = "") -> OllamaError:
    """Return the error for this: the registry, or the way to it, has trouble."""
    if not said.of_manifest and _PAST_PROXY.match(said.text.lower()):
        return past_proxy(said)
    return RegistryUnavailable(f"The registry does not serve {said.name}: {words or said.words}.")


def in_between(said: Said) -> OllamaError:
    """Return the error for this: a proxy refused the connection."""
    phrase = said.words.rpartition(": ")[2]
    return RegistryUnavailable(
        f"A proxy between Ollama and the registry of {said.name} answers {phrase}. Look at"
        " HTTPS_PROXY of the Ollama server, and at what that proxy allows."
    )
