"""Watches every write that reaches the sandboxes, and knows what must never be written."""

import json
from dataclasses import dataclass, field
from typing import Any

import anyio

from crd.names import InvalidNameError, ModelName
from crd.v1alpha1 import FINALIZER, FORCE_DELETE, PLURAL
from ollama_op.sandbox.http import SandboxRequest
from ollama_op.sandbox.kube.server import ApiFault
from support.virtual.world import Object, World, condition, reason

OBJECTS = (("default", "a"), ("default", "b"), ("other", "c"), ("default", "d"))
GRACE_S = 5.0  # in which news of an object may still be on their way to the operator
NOTICED_S = 75.0  # in which a loss has to be noticed, with the default interval of 60 s


class Violation(AssertionError):
    """A promise was broken."""


@dataclass
class Witness:
    """Sees all writes of one world, and its objects."""

    w: World
    faults: list[ApiFault] = field(default_factory=list)  # for the operator's next writes
    excused: set[str] = field(default_factory=set)  # models that may stay without an object
    violations: list[Violation] = field(default_factory=list)
    _named: dict[str, tuple[str, float]] = field(default_factory=dict)  # by uid: name, since when
    _held: dict[str, float] = field(default_factory=dict)  # by name: when an object held it last
    _absent: dict[str, float] = field(default_factory=dict)
    _calm_since: float = 0

    def __post_init__(self) -> None:
        self.w.kube.intercept = self._on_kube
        self.w.ollama.overhear = self._on_ollama

    def disturbed(self) -> None:
        """Allow that the operator may be late with what it says."""
        self._calm_since = anyio.current_time()

    def objects(self) -> list[Object]:
        """List the objects as they are."""
        found = (self.w.kube.store.get(PLURAL, key) for key in OBJECTS)
        return [obj for obj in found if obj is not None]

    # --- at every write

    def _on_kube(self, request: SandboxRequest) -> ApiFault | None:
        self._look()
        if request.method != "PATCH" or f"/{PLURAL}/" not in request.path:
            return None
        body = json.loads(request.body)
        if not request.path.endswith("/status") and "uid" not in body.get("metadata", {}):
            return None  # a user's
        if "dryRun" not in request.query:  # only to ask lets nothing go
            self._check_release(request.path, body)
        return self.faults.pop() if self.faults else None

    def _check_release(self, path: str, body: Any) -> None:
        if isinstance(body, list) or FINALIZER in body["metadata"].get("finalizers", [FINALIZER]):
            return
        namespace, name = path.split("/")[5], path.split("/")[7]
        obj = self.w.kube.store.get(PLURAL, (namespace, name))
        if obj is None or obj["metadata"]["uid"] != body["metadata"]["uid"]:
            return
        forced = obj["metadata"].get("annotations", {}).get(FORCE_DELETE) == "true"
        if forced or obj["spec"].get("deletionPolicy") == "Retain":
            self.excused |= stands_for(obj)
            return
        others = set().union(*(stands_for(o) for o in self.objects() if o is not obj))
        left = (stands_for(obj) & set(map(canonical, self.w.ollama.models))) - others - self.excused
        if left:
            self._blame(f"{name} is let go of while {left} is on Ollama")

    def _on_ollama(self, request: SandboxRequest) -> None:
        self._look()
        if request.method not in ("DELETE", "POST") or self.w.ollama.is_down:
            return
        name, now = canonical(json.loads(request.body)["model"]), anyio.current_time()
        if request.path == "/api/delete" and self.w.ollama.is_whole(name):
            since = min((t for n, t in self._named.values() if n == name), default=now)
            if now - since > GRACE_S:
                self._blame(f"{name} is deleted, though an object names it since {since}")
        if request.path == "/api/pull":
            if now - self._held.get(name, -GRACE_S) > GRACE_S:
                self._blame(f"{name} is pulled, though nobody holds it")
            if name in map(canonical, self.w.ollama.pulling):
                self._blame(f"{name} is pulled twice at a time")
            if self.w.ollama.pulls >= self.w.settings.max_concurrent_pulls:
                self._blame(f"{name} is one pull too many")

    def _look(self) -> None:
        """Note who names and who holds which model, and since when."""
        now, known = anyio.current_time(), self._named
        self._named = {}
        for obj in self.objects():
            uid, name = obj["metadata"]["uid"], wanted(obj)
            if FINALIZER in obj["metadata"].get("finalizers", []):
                self._held |= dict.fromkeys(stands_for(obj), now)
            if "deletionTimestamp" not in obj["metadata"] and name:
                old, since = known.get(uid, ("", now))
                self._named[uid] = (name, since if old == name else now)

    def _blame(self, what: str) -> None:
        self.violations.append(Violation(f"at {anyio.current_time():.2f} s: {what}"))

    # --- after every step

    def check_writes(self) -> None:
        """Check that nothing was written that must not be.

        Raises: Violation.
        """
        if self.violations:
            raise self.violations[0]

    def check(self, obj: Object) -> None:
        """Check that an object's status does not contradict itself, nor what is on Ollama.

        Raises: Violation.
        """
        name, meta, status = obj["metadata"]["name"], obj["metadata"], obj.get("status", {})
        kinds = [c["type"] for c in status.get("conditions", [])]
        ready, state = condition(status, "Ready"), status.get("state")
        wrong = {
            "two modes": {"Reconciling", "Stalled"} <= set(kinds) or len(kinds) > len(set(kinds)),
            "ahead of the spec": status.get("observedGeneration", -1) > meta["generation"],
            "state": (state == "Ready") != (ready == "True"),
            "failed and yet not": state == "Failed" and ready != "False",
            "too long": len(status.get("error", "")) > 1024,
        }
        if found := [what for what, is_so in wrong.items() if is_so]:
            raise Violation(f"{name} is wrong ({found}): {json.dumps(status, indent=1)}")
        self._check_ready(obj)

    def _check_ready(self, obj: Object) -> None:
        now, status, name = anyio.current_time(), obj.get("status", {}), wanted(obj)
        listed = set(map(canonical, self.w.ollama.models))
        self._absent = {m: self._absent.get(m, now) for m in MODELS if m not in listed}
        is_current = status.get("observedGeneration") == obj["metadata"]["generation"]
        if condition(status, "Ready") != "True" or reason(status) == "Suspended" or not is_current:
            return
        since = max(self._absent.get(name, now), self._calm_since)
        if now - since > NOTICED_S:
            raise Violation(f"{obj['metadata']['name']} is called Ready without a model")

    # --- at the end

    def check_healed(self, obj: Object) -> None:
        """Check that an object is as well as its spec allows.

        Raises: Violation.
        """
        status, spec = obj.get("status", {}), obj["spec"]
        expected = "Available"
        if not wanted(obj):
            expected = "InvalidName"
        elif "refreshWindow" in spec and "refreshInterval" not in spec:
            expected = "InvalidSpec"
        elif spec.get("suspend"):
            expected = "Suspended"
        elif "expectedDigest" in spec:
            expected = "UnexpectedDigest"
        is_well = reason(status) == expected and "deletionTimestamp" not in obj["metadata"]
        if expected == "Available":
            digests = {canonical(n): d for n, d in self.w.ollama.models.items()}
            is_well &= status.get("digest") == digests.get(wanted(obj)) is not None
            is_well &= status.get("loaded", False) == ("keepAlive" in spec)
            is_well &= "error" not in status
        if not is_well:
            raise Violation(f"never {expected}: {json.dumps(obj, indent=1)}")

    def check_nothing_left(self) -> None:
        """Check that every model on Ollama has an object, or an excuse.

        Raises: Violation.
        """
        explained = self.excused.union(*(stands_for(obj) for obj in self.objects()))
        if left := set(map(canonical, self.w.ollama.models)) - explained:
            raise Violation(f"nobody wants {left} any more")


MODELS = ("m:1", "m:2", "n:1")


def canonical(name: str) -> str:
    """Return the one form of a name; none for what is no name."""
    try:
        return str(ModelName.parse(name)).lower()
    except InvalidNameError:
        return ""


def wanted(obj: Object) -> str:
    """Return the model that an object names."""
    return canonical(f"{obj['spec']['name']}:{obj['spec']['tag']}")


def stands_for(obj: Object) -> set[str]:
    """Return the models that an object names, or has brought."""
    owned = obj.get("status", {}).get("ownedModels", [])
    return {name for name in (wanted(obj), *map(canonical, owned)) if name}
