"""What an OllamaModel is called when nobody said so."""

import re
from hashlib import sha256
from typing import Final

from crd.names import ModelName
from crd.v1alpha1 import OllamaModelSpec

LONGEST_OBJECT_NAME: Final = (
    63  # characters, as labels have; longer ones are cut and told apart by the hash
)
_HASH: Final = 8  # hex digits
_LEGAL: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_ILLEGAL: Final = re.compile(r"[^a-z0-9]+")


def resource_name(spec: OllamaModelSpec) -> str:
    """Return `<name>-<tag>` where that is a legal name, else a readable one with a hash.

    The hash is that of the model's canonical name: one model, one name.
    """
    plain = f"{spec.name}-{spec.tag}"
    if len(plain) <= LONGEST_OBJECT_NAME and _LEGAL.fullmatch(plain):
        return plain
    canonical = ModelName.of(spec.name, spec.tag).canonical
    digest = sha256(canonical.encode()).hexdigest()[:_HASH]
    readable = (
        _ILLEGAL.sub("-", plain.lower()).strip("-")[: LONGEST_OBJECT_NAME - _HASH - 1].rstrip("-")
    )
    return f"{readable}-{digest}".lstrip("-")
