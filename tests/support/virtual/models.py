"""OllamaModels made to measure, for tests of what is pure."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from crd.model import OllamaModel, decode
from crd.names import ModelName
from crd.placement import DEFAULT_SERVER, Placement
from crd.reasons import Reason
from crd.v1alpha1 import API_VERSION, FINALIZER, KIND, Condition

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DIGEST = "d" * 64


def manifest(
    name: str = "llama",
    *,
    uid: str | None = None,
    version: int = 1,
    model: str = "llama3.2:1b",
    **metadata: Any,
) -> dict[str, Any]:
    """Write an OllamaModel as the API server sends it; `model` is name:tag."""
    repo, _, tag = model.rpartition(":")
    meta = {
        "name": name,
        "namespace": "default",
        "uid": uid or f"uid-of-{name}",
        "resourceVersion": str(version),
        "generation": 1,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": meta | metadata,
        "spec": {"name": repo, "tag": tag},
    }


def raw(body: dict[str, Any]) -> msgspec.Raw:
    """Turn a manifest into what a watch hands on."""
    return msgspec.Raw(msgspec.json.encode(body))


def made(body: dict[str, Any]) -> OllamaModel:
    """Read a manifest."""
    return decode(raw(body))


def owned(model: str = "llama3.2:1b", **status: Any) -> OllamaModel:
    """Make an object that has our finalizer, and this status."""
    body = manifest(model=model, finalizers=[FINALIZER])
    return made(body | {"status": {"observedGeneration": 1} | status})


def condition(kind: str, status: str, reason: Reason) -> dict[str, Any]:
    """Write a condition as it stands in a status."""
    since = datetime(2026, 1, 1, tzinfo=UTC)
    made_of = Condition(
        type=kind, status=status, reason=reason, message="so", last_transition_time=since
    )
    result: dict[str, Any] = msgspec.to_builtins(made_of, builtin_types=(datetime,))
    return result


def placed(model: str | ModelName) -> Placement:
    """Return a model on the one server."""
    name = ModelName.parse(model) if isinstance(model, str) else model
    return Placement(DEFAULT_SERVER, name)
