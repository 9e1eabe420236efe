"""Two operators on real parts, one of which leads, and everything that can befall that one."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count

from support.kube.controlplane import ControlPlane
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.operator import Models, Operator, wait_until
from support.virtual.relay import Relay, Sent

LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
PATIENCE_S = 300.0  # how long it takes is for tests/verify/leader.py to judge
BLINK_S = 3.0  # a pause that costs nobody the lease
SLACK_S = 0.3  # between what a relay and a reader of the lease see
POLL_S = 0.05
KINDS = ("stop", "pause", "blink", "kill")


@dataclass(eq=False)
class Replica:
    """One operator, and its own way to Ollama."""

    operator: Operator
    relay: Relay

    def identities(self) -> set[str]:
        """Return the names under which it has led, one for each of its lives."""
        return {line["identity"] for line in self.operator.logs() if line["msg"] == "leading"}

    def signal(self, number: int) -> None:
        """Send a signal to this one process."""
        assert self.operator.pid is not None
        os.kill(self.operator.pid, number)


@dataclass
class Leaders:
    """Both replicas, and who held the lease when."""

    cluster: ControlPlane
    registry: Registry
    ollama: OllamaServer
    models: Models
    replicas: list[Replica]
    times_s: dict[str, list[float]] = field(default_factory=dict)  # until another led, by kind
    deleted_twice: list[str] = field(default_factory=list)
    _held: list[tuple[float, float, str]] = field(default_factory=list)  # each read, begin to end
    _end: threading.Event = field(default_factory=threading.Event)
    _numbers: Iterator[int] = field(default_factory=count)

    def watch(self) -> None:
        """Read the lease until the end; note its holder."""
        while not self._end.wait(POLL_S):
            with contextlib.suppress(Exception):
                began, spec = time.monotonic(), self.cluster.get(f"{LEASES}/ollama-op")["spec"]
                self._held.append((began, time.monotonic(), spec.get("holderIdentity", "")))

    def leader(self, within_s: float, *, other_than: Replica | None = None) -> Replica:
        """Wait until a replica holds the lease."""
        found: list[Replica] = []

        def look() -> bool:
            holder = self._held[-1][-1] if self._held else ""
            found[:] = [r for r in self.replicas if holder in r.identities() and r != other_than]
            return bool(found)

        wait_until(look, lambda: f"the lease was held by {self._held[-1:]}", within_s)
        return found[0]

    def round(self, kind: str) -> None:
        """Let something befall the leader while models come and go, and see that all is well."""
        n = next(self._numbers)
        keep, drop, come = (f"{part}-{n}" for part in ("keep", "drop", "come"))
        for seed, name in enumerate((keep, drop, come)):
            self.registry.publish(name, seed=3 * n + seed)
        leader = self.leader(PATIENCE_S)
        self.models.apply(keep, f"{keep}:latest")
        self.models.apply(drop, f"{drop}:latest")
        self.models.ready(keep, drop)

        self.models.delete(drop)
        self.models.apply(come, f"{come}:latest")
        began = time.monotonic()
        self._befall(kind, leader)
        if kind != "blink":
            self.leader(PATIENCE_S, other_than=leader)
            self.times_s.setdefault(kind, []).append(time.monotonic() - began)
        self.models.gone(drop)
        self.models.ready(keep, come)
        if kind == "pause":
            leader.signal(signal.SIGCONT)
        elif kind in ("kill", "stop"):
            leader.operator.start()
        self.models.delete(keep, come)
        self.models.gone(keep, come)
        wait_until(lambda: not self._left(n), lambda: f"Ollama still has {self._left(n)}")
        self._check(kind, [keep, drop, come])

    def _left(self, n: int) -> list[str]:
        return [name for name in self.ollama.digests() if name.endswith(f"-{n}:latest")]

    def _befall(self, kind: str, leader: Replica) -> None:
        match kind:
            case "stop":
                assert leader.operator.stop() == 0
            case "kill":
                leader.operator.kill()
            case "pause":
                leader.signal(signal.SIGSTOP)
            case "blink":
                leader.signal(signal.SIGSTOP)
                time.sleep(BLINK_S)
                leader.signal(signal.SIGCONT)

    def _check(self, kind: str, names: list[str]) -> None:
        """Check that whoever changed something held the lease, and that nobody met a bug."""
        for name in names:
            deleters = [r for r in self.replicas if self._changes(r, f"{name}:latest", "delete")]
            assert deleters, f"nobody deleted {name}"
            # Who was ended between the deletion and the word of it leaves both to the next one.
            if len(deleters) > 1:
                assert kind in ("kill", "pause"), f"two replicas deleted {name}: {kind}"
                self.deleted_twice.append(name)
        for replica in self.replicas:
            for sent in replica.relay.sent:
                if kind == "pause" and sent.what == "pull":
                    continue  # asked for, then stopped before it left; ended as soon as it woke up
                holders = self._holders(sent)
                assert holders & replica.identities(), f"{sent} while {holders} held the lease"
            replica.relay.sent.clear()
            assert replica.operator.bugs() == []

    @staticmethod
    def _changes(replica: Replica, model: str, what: str) -> list[Sent]:
        return [s for s in replica.relay.sent if s.what == what and s.model.endswith(model)]

    def _holders(self, sent: Sent) -> set[str]:
        """Return who may have held the lease then: a busy machine reads it seldom."""
        since, until = sent.at_s - SLACK_S, sent.at_s + SLACK_S
        last_before = max((ended for _, ended, _ in self._held if ended <= since), default=since)
        first_after = min((began for began, _, _ in self._held if began >= until), default=until)
        return {
            who for began, ended, who in self._held if ended >= last_before and began <= first_after
        }


@contextmanager
def leaders(cluster: ControlPlane, registry: Registry, ollama: OllamaServer) -> Iterator[Leaders]:
    """Run two operators on a lease that is free, so that the first need not wait for it."""
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "ollama-op"},
        "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
    }
    cluster.kubectl("apply", "-f", "-", input=json.dumps(lease))
    registry.publish("keeper")
    ollama.pull("keeper")  # its small layers are those of every other model
    with ExitStack() as stack:
        replicas = []
        for _ in "ab":
            relay = stack.enter_context(Relay(ollama.port))
            operator = Operator(cluster.kubeconfig, relay.url, "--leader-elect")
            replicas.append(Replica(stack.enter_context(operator), relay))
        it = Leaders(cluster, registry, ollama, Models(cluster), replicas)
        watcher = threading.Thread(target=it.watch)
        watcher.start()
        try:
            yield it
        finally:
            it._end.set()
            watcher.join()
            for replica in replicas:  # a paused one could not be ended
                with contextlib.suppress(ProcessLookupError, AssertionError):
                    replica.signal(signal.SIGCONT)
