"""What must hold at every write of the operator, and what is left when all is quiet."""

from typing import Any

from crash.tap import Witness
from crash.writes import Write
from crd.markers import Marker
from crd.names import InvalidNameError, ModelName
from crd.v1alpha1 import FINALIZER, FORCE_DELETE, PLURAL, REFRESH, REFRESHED
from support.virtual.world import Object, World, condition, reason

_UNTOLD = {
    "metadata": {"uid", "resourceVersion", "creationTimestamp", "deletionGracePeriodSeconds"},
    # A pull whose end nobody saw cannot be dated; and whether a model was there before it was asked
    # for depends on the moment in which somebody steps in.
    # How many tries it took is what the mishap changes.
    "status": {"lastPullTime", "origin", "attempts"},
    "conditions": {"lastTransitionTime"},
}


class Watcher(Witness):
    """Sees every write, and notes in `broken` which of them broke a promise."""

    def __init__(self, world: World, broken: list[str]) -> None:
        self._world, self._broken = world, broken

    def sent(self, write: Write) -> None:
        """Note whom it was meant for, and see that Ollama is asked for nothing wrong."""
        if write.is_to_kube and (obj := self._get(write)):
            write.uid = obj["metadata"]["uid"]
        if (write.is_pull or write.is_deletion) and not _is_marker(write.model):
            if not self._holding(_name(write.model)):
                self._say(write, "no object with a finalizer stands for the model")
            if write.is_deletion:
                self._look_at_deletion(write)

    def arrives(self, write: Write) -> None:
        """Note the object as it is before."""
        if write.is_to_kube:
            write.before = self._get(write)

    def lands(self, write: Write) -> None:
        """Check that what was done to an object was right."""
        if before := write.before:
            if write.uid != before["metadata"]["uid"]:
                self._say(write, "meant for another object, it hit the one made anew")
            after = self._get(write)
            if _holds(before) and not (after and _holds(after)):
                self._look_at_release(write, before)
            if after and write.is_of_status:
                self._look_at_status(write, after["status"])

    def _look_at_deletion(self, write: Write) -> None:
        needing = self._needing(_name(write.model))
        # A broken model is pulled afresh.
        if needing and not any(reason(o.get("status", {})) == "ModelBroken" for o in needing):
            self._say(write, "an object still names the model")

    def _look_at_release(self, write: Write, obj: Object) -> None:
        meta = obj["metadata"]
        if "deletionTimestamp" not in meta:
            self._say(write, "an object that lives lost its finalizer")
        forced = meta.get("annotations", {}).get(FORCE_DELETE) == "true"
        if forced or obj["spec"].get("deletionPolicy") == "Retain":
            return
        # One that is being deleted as well, and holds its finalizer, sees to the rest.
        for name in _answers_for(obj) & self._present():
            if not self._needing(name) and not self._holding(name):
                self._say(write, f"the finalizer goes while {name} is still there")

    def _look_at_status(self, write: Write, status: Object) -> None:
        before = (write.before or {}).get("status", {})
        write.is_progress = status != before and _but_progress(status) == _but_progress(before)
        is_there = _name(status.get("model", "")) in self._present()
        if condition(status, "Ready") == "True" and not is_there:
            self._say(write, "Ready is said of a model that is not there")

    def _say(self, write: Write, what: str) -> None:
        self._broken.append(f"at {write}: {what}")

    def _needing(self, name: ModelName | None) -> list[Object]:
        """Return the objects that live and name the model."""
        alive = (o for o in objects(self._world) if "deletionTimestamp" not in o["metadata"])
        return [obj for obj in alive if _wanted(obj) == name]

    def _holding(self, name: ModelName | None) -> list[Object]:
        """Return the objects that will not go before the model does."""
        return [o for o in objects(self._world) if _holds(o) and name in _answers_for(o)]

    def _get(self, write: Write) -> Object | None:
        return self._world.kube.store.get(PLURAL, write.key)

    def _present(self) -> set[ModelName | None]:
        return {_name(text) for text in self._world.ollama.models}


def objects(world: World) -> list[Object]:
    """Return all OllamaModels as they are stored."""
    store = world.kube.store
    return list(store.at(PLURAL, store.revision).values())


def picture(world: World) -> dict[str, str]:
    """Return what is left, as flat facts: without times, versions and uids."""
    # Whoever is first decides how it is spelled.
    facts = {f"model {name.lower()}": digest for name, digest in world.ollama.models.items()}
    facts |= {f"memory {name.lower()}": "in use" for name in world.ollama.loaded}
    for obj in objects(world):
        meta = obj["metadata"]
        facts |= _flat(f"{meta['namespace']}/{meta['name']}", obj)
    return facts


def differences(expected: dict[str, str], actual: dict[str, str]) -> list[str]:
    """Say in words how the second picture differs from the first."""
    return [
        f"{fact} is {actual.get(fact, 'absent')}, not {expected.get(fact, 'absent')}"
        for fact in sorted(expected.keys() | actual.keys())
        if expected.get(fact) != actual.get(fact)
    ]


def _flat(path: str, value: Any, kind: str = "") -> dict[str, str]:
    match value:
        case dict():
            kept = {k: v for k, v in value.items() if k not in _UNTOLD.get(kind, ())}
            inner = ((f"{path} {k}", v, k) for k, v in kept.items())
        case list() if kind == "conditions":
            inner = ((f"{path} {each['type']}", each, kind) for each in value)
        case list():
            return {path: ", ".join(map(str, value))}
        case str() if kind == REFRESH and value.startswith(REFRESHED):
            return {path: f"{REFRESHED}<time>"}
        case _:
            is_time = kind.endswith(("Time", "Timestamp", "At"))
            return {path: "<time>" if is_time else str(value)}
    return {fact: told for step in inner for fact, told in _flat(*step).items()}


def _but_progress(status: Object) -> dict[str, str]:
    facts = _flat("", {**status, "progress": None})
    return {fact: told for fact, told in facts.items() if not fact.endswith("message")}


def _holds(obj: Object) -> bool:
    return FINALIZER in obj["metadata"].get("finalizers", ())


def _answers_for(obj: Object) -> set[ModelName | None]:
    owned = obj.get("status", {}).get("ownedModels", ())
    return {_wanted(obj), *map(_name, owned)} - {None}


def _wanted(obj: Object) -> ModelName | None:
    return _name(f"{obj['spec']['name']}:{obj['spec']['tag']}")


def _is_marker(text: str) -> bool:
    """Return True for what is kept for a grace, and so nobody's any more."""
    name = _name(text)
    return name is not None and Marker.read(name) is not None


def _name(text: str) -> ModelName | None:
    try:
        return ModelName.parse(text)
    except InvalidNameError:
        return None
