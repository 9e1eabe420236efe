"""What may enter as a spec: the one answer that the REST API, the webhook and the status give.

What has one meaning is taken, however it is written: a tag in the name, `1d`, `-1m`. The rest is
told by field, with what was written and what to write. The policies of config/policy say the same
in CEL; `tests/support/virtual/inputs.py` holds all of them to it.
"""

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from crd.markers import MARKER_NAMESPACE, is_reserved
from crd.names import PARTS, InvalidNameError, ModelName, meant
from crd.options import InvalidOptionError, options
from crd.v1alpha1 import OllamaModelSpec

_OLLAMAS_NAME: Final = "model"  # for `name:tag`, in the bodies of Ollama's own API


def mended(raw: object) -> object:
    """Return JSON of a spec with name and tag in their fields, if it is clear what they are."""
    if not isinstance(raw, Mapping):
        return raw
    spec: dict[str, Any] = dict(raw)
    if "name" not in spec and isinstance(spec.get(_OLLAMAS_NAME), str):
        spec["name"] = spec.pop(_OLLAMAS_NAME)
    name, tag = spec.get("name"), spec.get("tag")
    if isinstance(name, str) and (tag is None or isinstance(tag, str)):
        spec |= _names(name, tag)
    return spec


def read_name(name: str | None, tag: str | None) -> ModelName:
    """Read the model that `spec.name` and `spec.tag` name.

    Raises: InvalidNameError, also for what the operator keeps for itself.
    """
    found = ModelName.of(name, tag)
    if is_reserved(found):
        raise InvalidNameError(
            f"{MARKER_NAMESPACE} is where the operator keeps models for --deletion-grace;"
            " name the model by its own name"
        )
    return found


def problems(spec: OllamaModelSpec) -> list[tuple[str, str]]:
    """List what is wrong with a spec of the right form: the fields, and a sentence for each."""
    found = []
    try:
        read_name(spec.name, spec.tag)
    except InvalidNameError as error:
        found.append((error.field, str(error)))
    try:
        options(spec)
    except InvalidOptionError as error:
        found.append((error.field, error.problem))
    return found


def normal(spec: OllamaModelSpec) -> OllamaModelSpec:
    """Return a spec as it is best written: the tag in its field, keepAlive as a text.

    What is wrong stays as it was written.
    """
    keep_alive = None if spec.keep_alive is None else str(spec.keep_alive)
    return replace(spec, **_names(spec.name, spec.tag), keep_alive=keep_alive)


def _names(name: str, tag: str | None) -> dict[str, str]:
    """Return the two fields as they are best written; none where that is unclear.

    A host has no other case than the lower one. Of the rest a registry may care for the case.
    """
    try:
        path, tag = meant(name, tag)
        ModelName.of(path, tag)
    except InvalidNameError:
        return {}
    parts = path.split("/")
    if len(parts) == PARTS:
        parts[0] = parts[0].lower()
    return {"name": "/".join(parts), "tag": tag}
