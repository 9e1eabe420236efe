"""How things are at the moment of a scrape, as metric families made afresh each time.

Nothing is kept between scrapes, so the series of an object go with the object.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Final

import anyio
from prometheus_client.core import GaugeMetricFamily, Metric

from crd.model import OllamaModel, is_said_ready, ready_reason
from crd.placement import ServerRef
from crd.reasons import Reason
from crd.v1alpha1 import State
from ollama_op.reconcile.engine import Engine
from ollama_op.server.instance import Instance
from ollama_op.server.snapshot import PS, TAGS, Snapshot

OWNER: Final = ("model_namespace", "model")  # `namespace` is the scraper's own label
SUSPENDED_STATE, QUEUED = "Suspended", "Queued"
DELETING, BLOCKED = "Deleting", "DeletionBlocked"
STATES: Final = (*(state.value for state in State), QUEUED, SUSPENDED_STATE, DELETING, BLOCKED)


@dataclass(frozen=True, slots=True)
class SeenServer:
    """What is known of one server at that moment."""

    seen: Snapshot
    looked_at: datetime | None
    pulls_waiting: int


@dataclass(frozen=True, slots=True)
class GaugeInputs:
    """What is true at one moment; no part of it changes any more."""

    models: tuple[OllamaModel, ...]
    servers: Mapping[ServerRef, SeenServer]
    watch_up: bool
    tasks: int
    refused: frozenset[str] = frozenset()  # uids about which Kubernetes refuses a write

    def is_stuck(self, model: OllamaModel) -> bool:
        """Return True if Kubernetes refuses to let an object go: its status may not say so."""
        return model.metadata.deletion_timestamp is not None and self.is_refused(model)

    def is_refused(self, model: OllamaModel) -> bool:
        """Return True if Kubernetes refuses what is to be written about an object."""
        return model.metadata.uid in self.refused

    def state_of(self, model: OllamaModel) -> str:
        """Return in one word what a model is doing: its `status.state`, or what matters more."""
        return BLOCKED if self.is_stuck(model) else _state_of(model)

    def is_ready(self, model: OllamaModel) -> bool:
        """Return True if the model can be used."""
        return is_said_ready(model) and not self.is_stuck(model)


def look(engine: Engine, now: datetime) -> GaugeInputs:
    """Record how things are. To be called on the engine's event loop."""
    return GaugeInputs(
        models=tuple(engine.store),
        servers={ref: _look_at(server, now) for ref, server in engine.servers.items()},
        watch_up=engine.reflector.is_in_sync(),
        tasks=len(engine.tasks),
        refused=engine.refusals.uids(),
    )


def _look_at(server: Instance, now: datetime) -> SeenServer:
    monitor, looked_at = server.monitor, None
    if monitor.looked_at is not None:
        age_s = anyio.current_time() - monitor.looked_at
        looked_at = datetime.fromtimestamp(now.timestamp() - age_s, UTC)
    return SeenServer(monitor.now, looked_at, server.pulls_waiting)


def families(scene: GaugeInputs, *, per_model: bool) -> Iterator[Metric]:
    """Write a scene down, with or without the series that each model has of its own."""
    yield from _of_servers(scene.servers)
    yield _gauge("watch_up", "1 if news of OllamaModels arrives.", scene.watch_up)
    yield _gauge("tasks", "Running tasks, one for each OllamaModel.", scene.tasks)
    refused = sum(map(scene.is_refused, scene.models))
    text = "OllamaModels about which Kubernetes refuses a write; the log has the cause."
    yield _gauge("models_refused", text, refused)
    states = Counter((each.desired.server, scene.state_of(each)) for each in scene.models)
    models = _family(
        "models", "OllamaModels by what they are doing; the sum is all.", ("server", "state")
    )
    for ref, state in product(scene.servers, STATES):
        models.add_metric((str(ref), state), states[ref, state])
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


def _of_servers(servers: Mapping[ServerRef, SeenServer]) -> Iterator[Metric]:
    label = ("server",)
    up = _family("server_up", "1 if Ollama answered the last look.", label)
    text = "When Ollama was last looked at, whether it answered or not."
    last_look = _family("server_last_look_timestamp_seconds", text, label)
    count = _family("server_models", "Models that Ollama lists, asked for or not.", label)
    text = "Entries of Ollama's lists that cannot be read; the others are."
    unreadable = _family("server_unreadable_entries", text, ("server", "endpoint"))
    info = _family("server_info", "Which Ollama it is.", ("server", "version"))
    waiting = _family("pulls_waiting", "Downloads that wait for a slot.", label)
    for ref, server in servers.items():
        name, seen = str(ref), server.seen
        up.add_metric((name,), server.looked_at is not None and seen.outage is None)
        if server.looked_at is not None:
            last_look.add_metric((name,), server.looked_at.timestamp())
            count.add_metric((name,), len(seen.models))
        for endpoint in (TAGS, PS):
            unreadable.add_metric((name, endpoint), seen.unreadable.get(endpoint, 0))
        if seen.version is not None:
            info.add_metric((name, seen.version), 1)
        waiting.add_metric((name,), server.pulls_waiting)
    yield from (up, last_look, count, unreadable, info, waiting)


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
    yield _info(scene)


def _last_pull(model: OllamaModel) -> float | None:
    when = model.status.last_pull_time
    return None if when is None else when.timestamp()


_PER_MODEL: Final[Mapping[str, tuple[str, Callable[[OllamaModel], float | None]]]] = {
    "size_bytes": ("Size of the model on the server.", lambda m: m.status.size),
    "loaded": ("1 if the model is in memory; only with keepAlive.", lambda m: m.status.loaded),
    "last_pull_timestamp_seconds": ("When the model was last pulled.", _last_pull),
}


def _info(scene: GaugeInputs) -> Metric:
    labels = (*OWNER, "family", "parameter_size", "quantization")
    info = _family("model_info", "What kind of model it is, as Ollama says.", labels)
    for model in scene.models:
        where = model.desired.placement
        entry = scene.servers[where.server].seen.models.get(where.model) if where else None
        if entry is not None and (kind := entry.details) is not None:
            words = (kind.family, kind.parameter_size, kind.quantization_level)
            info.add_metric((*_owner(model), *(word or "" for word in words)), 1)
    return info


def _owner(model: OllamaModel) -> tuple[str, str]:
    return model.metadata.namespace, model.metadata.name


def _gauge(name: str, text: str, value: float) -> Metric:
    family = _family(name, text, ())
    family.add_metric((), value)
    return family


def _family(name: str, text: str, labels: Iterable[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ollama_op_{name}", text, labels=tuple(labels))
