"""The whole operator under a list of steps: what users do, what fails, and how time passes.

A run is a list of steps and not a Hypothesis state machine: all of it happens inside one event loop
in virtual time, and a list shrinks to the few steps that matter. `Witness` watches every write that
reaches a sandbox; `Machine` takes the steps, checks the objects after each, and at the end lets
everything heal and asks whether all has come right.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from crd.v1alpha1 import API_VERSION, FORCE_DELETE, KIND, REFRESH
from ollama_op.sandbox.kube.server import ApiFault
from ollama_op.sandbox.ollama.pulls import PullTrouble
from property.witness import OBJECTS, Witness
from support.virtual.world import MB, Object, World, world

Step = tuple[str, int, int]  # what, to which object, in which way

MODELS = ("m:1", "m:2", "n:1", "M:1")  # the first two share a layer; the last is the first again
OLD = "412: requires a newer version of Ollama"
TROUBLES = (
    PullTrouble(error="max retries exceeded: EOF", after_bytes=MB),
    PullTrouble(error="no space left on device"),
    PullTrouble(error="digest mismatch, file must be downloaded again"),
    PullTrouble(cut=True, after_bytes=2 * MB),
    PullTrouble(stall_s=400, after_bytes=MB),
    PullTrouble(error=OLD),
)
FAULTS = (
    ApiFault(code=503),
    ApiFault(code=409, reason="Conflict"),
    ApiFault(code=0),
    ApiFault(code=0, done=True),
    ApiFault(code=503, done=True),
)
CARE: tuple[Object, ...] = (
    {},
    {"deletionPolicy": "Retain"},
    {"suspend": True},
    {"keepAlive": "-1"},
    {"keepAlive": "10m", "interval": "30s"},
    {"refreshInterval": "10m"},
    {"timeout": "3s"},
    {"expectedDigest": "0" * 64},
    {"refreshWindow": {"schedule": "0 3 * * *", "duration": "1h"}},  # of what interval?
    {"name": "not a name"},
)
PAUSES_S = (0.05, 0.7, 3, 20, 130, 500)
HEALING_S = 900  # longer than the longest wait between two tries


@dataclass
class Machine:
    """Takes steps in a world whose operator runs."""

    w: World
    witness: Witness
    versions: dict[str, int] = field(default_factory=dict)

    async def take(self, step: Step) -> None:
        """Take one step, and see that nothing is said that cannot be."""
        what, which, how = step
        act: Callable[[int, int], Any] = getattr(self, what)
        result = act(which % len(OBJECTS), how)
        if result is not None:
            await result
        self.witness.check_writes()
        for obj in self.witness.objects():
            self.witness.check(obj)

    # --- what users do

    async def create(self, which: int, how: int) -> None:
        """Create an object, if it is not there."""
        await self._send("POST", which, self._body(which, how))

    async def care(self, which: int, how: int) -> None:
        """Change how a model is cared for, and take back all other wishes."""
        old = dict.fromkeys(key for care in CARE for key in care if key != "name")
        await self._send("PATCH", which, {"spec": old | CARE[how % len(CARE)]})

    async def change(self, which: int, how: int) -> None:
        """Name another model."""
        await self._send("PATCH", which, {"spec": _spec(MODELS[how % len(MODELS)])})

    async def refresh(self, which: int, how: int) -> None:
        """Wish for a newer version, by token or not, or take the wish back."""
        value = ("true", f"token-{how}", None)[how % 3]
        await self._send("PATCH", which, {"metadata": {"annotations": {REFRESH: value}}})

    async def delete(self, which: int, _how: int) -> None:
        """Delete an object."""
        await self._send("DELETE", which)

    async def force(self, which: int, _how: int) -> None:
        """Delete an object by force."""
        await self._send("PATCH", which, {"metadata": {"annotations": {FORCE_DELETE: "true"}}})
        await self._send("DELETE", which)

    # --- what happens to Ollama and its registry

    def lose(self, _which: int, how: int) -> None:
        """Delete a model by hand."""
        if (name := MODELS[how % 3]) in self.w.ollama.models:
            self.w.ollama.lose(name)

    def break_blob(self, _which: int, how: int) -> None:
        """Lose a layer of a model."""
        if self.w.ollama.is_whole(name := MODELS[how % 3]):
            self.w.ollama.break_blob(name)

    def by_hand(self, _which: int, how: int) -> None:
        """Bring a model in without an object."""
        self.publish(0, how, fresh=False)
        self.w.ollama.preload(MODELS[how % 3])
        self.witness.excused.add(MODELS[how % 3])

    def publish(self, _which: int, how: int, *, fresh: bool = True) -> None:
        """Have a newer version in the registry."""
        name = MODELS[how % 3]
        self.versions[name] = self.versions.get(name, 0) + fresh
        shared = "base" if name.startswith("m:") else ""
        self.w.ollama.publish(name, 2 * MB, 9 * MB, seed=f"{self.versions[name]}", shared=shared)

    def withdraw(self, _which: int, how: int) -> None:
        """Take a model out of the registry."""
        self.publish(0, how, fresh=False)
        self.w.ollama.withdraw(MODELS[how % 3])

    def trouble(self, which: int, how: int) -> None:
        """Let the next pull of a model fail."""
        self.w.ollama.trouble(MODELS[which % 3], TROUBLES[how % len(TROUBLES)])

    def outage(self, _which: int, how: int) -> None:
        """Take Ollama away, or bring it back."""
        self.w.ollama.is_down = how % 2 == 0
        self.witness.disturbed()

    def memory(self, _which: int, how: int) -> None:
        """Let loads fail, or succeed."""
        self.w.ollama.no_memory = how % 2 == 0

    # --- what happens to Kubernetes and to the operator

    def faults(self, _which: int, how: int) -> None:
        """Let the operator's next writes fail, one after the other."""
        self.witness.faults = [FAULTS[how % len(FAULTS)]] * (1 + how % 3)
        self.witness.disturbed()

    def hang_up(self, _which: int, _how: int) -> None:
        """End all watches."""
        self.w.kube.hang_up()
        self.witness.disturbed()

    async def restart(self, _which: int, how: int) -> None:
        """Kill the operator and, after a while, start another."""
        await self.w.stop()
        await anyio.sleep((0, 5)[how % 2])
        self.w.start()
        self.witness.disturbed()

    async def wait(self, _which: int, how: int) -> None:
        """Let time pass."""
        await anyio.sleep(PAUSES_S[how % len(PAUSES_S)])

    # --- the end

    async def heal(self) -> None:
        """End every fault, ask once more for every model, and see that all comes right.

        Raises: Violation.
        """
        self.witness.faults, self.w.ollama.is_down = [], False
        self.w.ollama.no_memory, self.w.ollama.version = False, "99"
        self.w.ollama.forget_troubles()
        for number in range(3):
            self.publish(0, number, fresh=False)
        self.witness.disturbed()
        await anyio.sleep(HEALING_S)
        for which, (_, name) in enumerate(OBJECTS):
            if await self.w.exists(name, namespace=OBJECTS[which][0]):
                await self.refresh(which, 1)  # a person's word to those who wait for one
        await anyio.sleep(HEALING_S)
        self.witness.check_writes()
        for obj in self.witness.objects():
            self.witness.check_healed(obj)
        self.witness.check_nothing_left()

    async def _send(self, method: str, which: int, body: Object | None = None) -> None:
        namespace, name = OBJECTS[which]
        path = self.w.path("" if method == "POST" else name, namespace=namespace)
        kind = "merge-patch+json" if method == "PATCH" else "json"
        # Refused where it makes no sense: creating what is there, changing what is not.
        await self.w.http.request(
            method, path, json=body, headers={"content-type": f"application/{kind}"}
        )

    def _body(self, which: int, how: int) -> Object:
        spec = _spec(MODELS[how % len(MODELS)]) | CARE[how // len(MODELS) % len(CARE)]
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": OBJECTS[which][1]},
            "spec": spec,
        }


def _spec(model: str) -> Mapping[str, str]:
    name, _, tag = model.partition(":")
    return {"name": name, "tag": tag}


@asynccontextmanager
async def machine() -> AsyncGenerator[Machine]:
    """Build a world with an operator, and all models in the registry."""
    async with world() as w:
        w.ollama.downloads.tick_s = 0.5
        it = Machine(w, Witness(w))
        for number in range(3):
            it.publish(0, number)
        w.start()
        yield it


async def run(steps: Sequence[Step]) -> None:
    """Take these steps, then heal.

    Raises: Violation.
    """
    async with machine() as it:
        for step in steps:
            await it.take(step)
        await it.heal()
