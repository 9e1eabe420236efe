"""How things are at the moment of a scrape, as metric families made afresh each time.

Nothing is kept between scrapes, so the series of an object go with the object.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import anyio
from prometheus_client.core import GaugeMetricFamily, Metric

from crd.model import OllamaModel, is_said_ready, ready_reason
from crd.names import ModelName
from crd.reasons import Reason
from crd.v1alpha1 import State
from ollama_op.ollama.wire import Entry
from ollama_op.reconcile.engine import Engine
from ollama_op.server.snapshot import PS, TAGS, Snapshot

SERVER: Final = "default"  # there is one; the label keeps queries valid once there are more
OWNER: Final = ("model_namespace", "model")  # `namespace` is the scraper's own label
SUSPENDED_STATE, QUEUED = "Suspended", "Queued"
DELETING, BLOCKED = "Deleting", "DeletionBlocked"
STATES: Final = (*(state.value for state in State), QUEUED, SUSPENDED_STATE, DELETING, BLOCKED)


@dataclass(frozen=True, slots=True)
class GaugeInputs:
    """What is true at one moment; no part of it changes any more."""

    models: tuple[OllamaModel, ...]
    server: Snapshot
    looked_at: datetime | None
    watch_up: bool
    tasks: int
    pulls_waiting: int
    refused: frozenset[str] = frozenset()  # uids about which Kubernetes refuses a write

    def is_stuck(self, model: OllamaModel) -> bool:
        """Return True if Kubernetes refuses to let an object go: its status may not say so."""
        return model.metadata.deletion_timestamp is not None and self.is_refused(model)

    def is_refused(self, model: OllamaModel) -> bool:
        """Return True if Kubernetes refuses what is to be written about an object."""
        return model.metadata.uid in self.refused

    def state_of(self, model: OllamaModel) -> str:
        """Say in one word what a model is doing: its `status.state`, or what matters more."""
        return BLOCKED if self.is_stuck(model) else _state_of(model)

    def is_ready(self, model: OllamaModel) -> bool:
        """Return True if the model can be used."""
        return is_said_ready(model) and not self.is_stuck(model)


def look(engine: Engine, now: datetime) -> GaugeInputs:
    """Take in how things are. To be called on the engine's event loop."""
    monitor = engine.monitor
    looked_at = None
    if monitor.looked_at is not None:
        age_s = anyio.current_time() - monitor.looked_at
        looked_at = datetime.fromtimestamp(now.timestamp() - age_s, UTC)
    return GaugeInputs(
        models=tuple(engine.store),
        server=monitor.now,
        looked_at=looked_at,
        watch_up=engine.reflector.is_in_sync(),
        tasks=len(engine.tasks),
        pulls_waiting=engine.instance.pulls_waiting,
        refused=engine.refusals.uids(),
    )


def families(scene: GaugeInputs, *, per_model: bool) -> Iterator[Metric]:
    """Write a scene down, with or without the series that each model has of its own."""
    yield from _of_server(scene)
    yield _gauge("watch_up", "1 if news of OllamaModels arrives.", scene.watch_up)
    yield _gauge("tasks", "Running tasks, one for each OllamaModel.", scene.tasks)
    yield _gauge(
        "pulls_waiting", "Downloads that wait for a slot.", scene.pulls_waiting, server=True
    )
    refused = sum(map(scene.is_refused, scene.models))
    text = "OllamaModels about which Kubernetes refuses a write; the log has the cause."
    yield _gauge("models_refused", text, refused)
    states = Counter(map(scene.state_of, scene.models))
    models = _family(
        "models", "OllamaModels by what they are doing; the sum is all.", ("server", "state")
    )
    for state in STATES:
        models.add_metric((SERVER, state), states[state])
    yield models
    if per_model:
        yield from _of_models(scene)


def _state_of(model: OllamaModel) -> str:
    reason = ready_reason(model)
    if model.metadata.deletion_timestamp is not None:
        return BLOCKED if reason == Reason.DELETION_BLOCKED else DELETING
    if model.desired.is_suspended:
        return SUSPENDED_STATE
    if reason == Reason.QUEUED:
        return QUEUED
    return (model.status.state or State.PENDING).value


def _of_server(scene: GaugeInputs) -> Iterator[Metric]:
    server = scene.server
    up = scene.looked_at is not None and server.outage is None
    yield _gauge("server_up", "1 if Ollama answered the last look.", up, server=True)
    if scene.looked_at is not None:
        when = scene.looked_at.timestamp()
        text = "When Ollama was last looked at, whether it answered or not."
        yield _gauge("server_last_look_timestamp_seconds", text, when, server=True)
        text = "Models that Ollama lists, asked for or not."
        yield _gauge("server_models", text, len(server.models), server=True)
    text = "Entries of Ollama's lists that cannot be read; the others are."
    unreadable = _family("server_unreadable_entries", text, ("server", "endpoint"))
    for endpoint in (TAGS, PS):
        unreadable.add_metric((SERVER, endpoint), server.unreadable.get(endpoint, 0))
    yield unreadable
    info = _family("server_info", "Which Ollama it is.", ("server", "version"))
    if server.version is not None:
        info.add_metric((SERVER, server.version), 1)
    yield info


def _of_models(scene: GaugeInputs) -> Iterator[Metric]:
    ready = ("1 if the model can be used.", scene.is_ready)
    for name, (text, value_of) in {"ready": ready, **_PER_MODEL}.items():
        family = _family(f"model_{name}", text, OWNER)
        for model in scene.models:
            if (value := value_of(model)) is not None:
                family.add_metric(_owner(model), value)
        yield family
    text = "What the model is doing: 1 for the one state that it is in."
    state = _family("model_state", text, (*OWNER, "state"))
    for model in scene.models:
        state.add_metric((*_owner(model), scene.state_of(model)), 1)
    yield state
    yield _info(scene.models, scene.server.models)


def _last_pull(model: OllamaModel) -> float | None:
    when = model.status.last_pull_time
    return None if when is None else when.timestamp()


_PER_MODEL: Final[Mapping[str, tuple[str, Callable[[OllamaModel], float | None]]]] = {
    "size_bytes": ("Size of the model on the server.", lambda m: m.status.size),
    "loaded": ("1 if the model is in memory; only with keepAlive.", lambda m: m.status.loaded),
    "last_pull_timestamp_seconds": ("When the model was last pulled.", _last_pull),
}


def _info(models: Iterable[OllamaModel], held: Mapping[ModelName, Entry]) -> Metric:
    labels = (*OWNER, "family", "parameter_size", "quantization")
    info = _family("model_info", "What kind of model it is, as Ollama says.", labels)
    for model in models:
        name = model.desired.name
        entry = held.get(name) if isinstance(name, ModelName) else None
        if entry is not None and (kind := entry.details) is not None:
            words = (kind.family, kind.parameter_size, kind.quantization_level)
            info.add_metric((*_owner(model), *(word or "" for word in words)), 1)
    return info


def _owner(model: OllamaModel) -> tuple[str, str]:
    return model.metadata.namespace, model.metadata.name


def _gauge(name: str, text: str, value: float, *, server: bool = False) -> Metric:
    family = _family(name, text, ("server",) if server else ())
    family.add_metric((SERVER,) if server else (), value)
    return family


def _family(name: str, text: str, labels: Iterable[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ollama_op_{name}", text, labels=tuple(labels))
