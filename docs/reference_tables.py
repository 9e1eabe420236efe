"""The tables of the reference that tell of the engine: reasons, events, annotations, metrics.

Each is made from what the engine itself goes by, so nothing can be there and not be listed.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from string import Formatter
from typing import Any, Final

import anyio
import msgspec

from crd.model import decode
from crd.names import ModelName
from crd.occasions import Occasion
from crd.placement import DEFAULT_SERVER
from crd.reasons import Mode, Reason
from crd.v1alpha1 import API_VERSION, FINALIZER, KIND, Annotations
from ollama_op.base.errors import OllamaError
from ollama_op.metrics.gauges import GaugeInputs, SeenServer, families
from ollama_op.metrics.recorder import Metrics
from ollama_op.metrics.served import Admitted
from ollama_op.ollama.wire import Details, Entry
from ollama_op.server.snapshot import Snapshot

MINUTE_S: Final = 60
# What stands in the messages of events, for an example.
VALUES: Final = {
    "model": "llama3.2:1b",
    "models": "llama3.2:1b",
    "size": "1.2 GiB",
    "seconds": 41.2,
    "until": "2026-01-01 12:10:00Z",
    "old": "a2af6cc3",
    "new": "9f1c77d0",
}
THE_PROBLEM: Final = "*what is wrong, as in `status.error`*"
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


def row(*cells: str) -> str:
    """Write a row of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def head(*cells: str) -> Iterator[str]:
    """Write the head of a table."""
    yield row(*cells)
    yield row(*("---" for _ in cells))


# --- reasons


def reasons() -> Iterator[str]:
    """List every reason of a condition, with what it stands beside and what follows."""
    yield from head("reason", "Ready", "and with it", "state", "tried again")
    for reason in Reason:
        link = f"[`{reason}`](reasons.md#{reason.lower()})"
        said = reason.row
        if said.ready is None or said.state is None:
            yield row(link, "as it was", "Stalled=True, unless Ready", "as it was", "")
            continue
        beside = f"{said.mode.value}=True" if said.mode.value else ""
        yield row(link, said.ready, beside, said.state, _again(reason))


def _again(reason: Reason) -> str:
    if reason.row.is_fine:
        return ""
    if reason.row.again:
        return reason.row.again
    if reason.row.needs_version:
        return "as soon as Ollama's version is another one"
    if reason.row.mode is Mode.STALLED:
        return "no: a person must act"
    patience_s = max(each.patience_s for each in _errors(OllamaError) if _is_of(each, reason))
    if not patience_s:
        return "yes"
    many, unit = (patience_s / MINUTE_S, "min") if patience_s >= MINUTE_S else (patience_s, "s")
    return f"yes, after {many:g} {unit} at the soonest"


def _errors(kind: type[OllamaError]) -> Iterator[type[OllamaError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _errors(each)


def _is_of(error: type[OllamaError], reason: Reason) -> bool:
    return error is OllamaError or error.reason is reason  # of the first, nothing is special


# --- events


def events() -> Iterator[str]:
    """List every event."""
    yield from head("reason", "type", "when", "message, for example")
    for occasion in Occasion:
        places = {place for _, place, _, _ in Formatter().parse(occasion.message) if place}
        values = {place: THE_PROBLEM if place == "problem" else VALUES[place] for place in places}
        message = occasion.message.format(**values)
        yield row(f"`{occasion.reason}`", occasion.kind, occasion.when, message)


# --- annotations


def annotations() -> Iterator[str]:
    """List what the operator reads and writes in an object's metadata."""
    schema = msgspec.json.schema(Annotations)["$defs"][Annotations.__name__]
    yield from head("annotation", "")
    for name, field in schema["properties"].items():
        yield row(f"`{name}`", field["description"])
    yield ""
    yield (
        f"The finalizer is `{FINALIZER}`: put there before Ollama is touched for an object, taken"
        " away once its models are removed or left. Others' finalizers are left alone."
    )


# --- metrics


def metrics() -> Iterator[str]:
    """List every metric, as it is exported."""
    yield from head("metric", "type", "unit", "labels", "what it is")
    common = {family.name for family in families(_scene(), per_model=False)}
    for family in _families():
        name = family.name + "_total" * (family.type == "counter")
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels)
        labels.pop("le", None)
        is_of_models = family.name.startswith("ollama_op_model_") and family.name not in common
        yield row(
            f"`{name}`" + " †" * is_of_models,
            family.type,
            _unit(family.name),
            ", ".join(f"`{label}`" for label in labels),
            family.documentation,
        )


def _unit(name: str) -> str:
    if name.endswith("_timestamp_seconds"):
        return "seconds since 1970"
    return next((unit for unit in ("seconds", "bytes") if name.endswith(f"_{unit}")), "")


def _families() -> list[Any]:
    """Measure everything once, so that each metric shows its labels."""
    found = [*anyio.run(_counted), *families(_scene(), per_model=True)]
    ours = [each for each in found if each.name.startswith(("ollama_op_", "ollama_api_"))]
    return sorted(ours, key=lambda family: family.name)


async def _counted() -> list[Any]:
    measured = Metrics()
    measured.called("/api/tags", "200", 0.1)
    measured.served.note("/api/v1/models", "GET", 200, 0.1)
    measured.admitted = Admitted(lambda: NOW)
    with measured.acting("AddFinalizer"), measured.pulling(lambda: 0):
        pass
    return [family for part in measured.counted() for family in part]


def _scene() -> GaugeInputs:
    raw = {
        "metadata": {"name": "m", "namespace": "n", "uid": "u"},
        "spec": {"name": "m", "tag": "1"},
        "status": {"size": 1, "loaded": True, "lastPullTime": NOW.isoformat()},
    }
    model = decode(json.dumps({"apiVersion": API_VERSION, "kind": KIND, **raw}).encode())
    entry = Entry(name="m:1", digest="0", size=1, details=Details("llama", "1B", "Q4_0"))
    server = Snapshot({ModelName.of("m", "1"): entry}, version="0.17.4")
    servers = {DEFAULT_SERVER: SeenServer(server, NOW, pulls_waiting=0)}
    return GaugeInputs((model,), servers, watch_up=True, tasks=1)
