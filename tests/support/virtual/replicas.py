"""Several replicas on one sandbox, each behind a wire of its own that a test can cut."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio

from ollama_op.app.operator import Readiness, operate
from ollama_op.base.asgi import App, Message, Receive, Send
from ollama_op.kube.cluster import Cluster
from ollama_op.metrics.recorder import Metrics
from ollama_op.sandbox.transport import AppTransport
from support.virtual.unruly import Wire
from support.virtual.world import World, world

LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
NAME = "ollama-op"


@dataclass
class Line:
    """What lies between a replica and the servers."""

    is_dead: bool = False  # the process is gone, and nothing it says arrives
    is_silent: Callable[[str], bool] = lambda _path: False  # no answer ever comes, by path
    sent: list[tuple[float, str, str]] = field(default_factory=list)  # when, method, path

    def to(self, app: App) -> App:
        """Return what the replica reaches instead of `app`."""

        async def call(scope: Message, receive: Receive, send: Send) -> None:
            method, path = scope["method"], scope["path"]
            if self.is_dead:
                raise ConnectionResetError("its process is gone")
            if self.is_silent(path):
                await anyio.sleep_forever()
            self.sent.append((anyio.current_time(), method, path))
            await app(scope, receive, send)

        return call


@dataclass
class Replica:
    """One of several operators."""

    line: Line
    health: Readiness = field(default_factory=Readiness)
    metrics: Metrics = field(init=False)
    ended: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def __post_init__(self) -> None:
        self.metrics = Metrics(lambda: self.health.engine)

    @property
    def is_leading(self) -> bool:
        """Tell what its metrics tell."""
        return b"\nollama_op_leader 1.0" in self.metrics.scrape()()

    async def stop(self) -> None:
        """End it in an orderly way."""
        self.scope.cancel()
        await self.ended.wait()

    def kill(self) -> None:
        """End it at once, with all that it has open."""
        self.line.is_dead = True
        self.scope.cancel()

    def acts(self) -> list[tuple[float, str, str]]:
        """List what it sent to change models or OllamaModels."""
        reads = ("/api/show", LEASE)
        return [
            each
            for each in self.line.sent
            if each[1] != "GET" and not each[2].startswith(reads) and "events" not in each[2]
        ]


@dataclass
class Replicas:
    """A world, and the replicas in it."""

    w: World
    stack: AsyncExitStack
    all: list[Replica] = field(default_factory=list)

    async def start(self, skew: timedelta = timedelta()) -> Replica:
        """Start one more, whose wall clock is off by `skew`."""
        replica = Replica(Line())
        to_kube = await self.stack.enter_async_context(AppTransport(replica.line.to(self.w.kube)))
        to_ollama = await self.stack.enter_async_context(
            AppTransport(replica.line.to(self.w.ollama))
        )
        cluster = Cluster(*(Wire(to_kube, use) for use in "abcde"))
        http = replica.metrics.client(transport=to_ollama, base_url="http://ollama:11434")

        async def run() -> None:
            try:
                with replica.scope:
                    await operate(
                        self.w.settings,
                        cluster,
                        http,
                        health=replica.health,
                        observer=replica.metrics,
                        now=lambda: self.w.now() + skew,
                        clock=lambda: anyio.current_time() + skew.total_seconds(),
                    )
            finally:
                replica.ended.set()

        self.w.tasks.start_soon(run)
        self.all.append(replica)
        return replica

    async def led_by(self, replica: Replica, within_s: float) -> float:
        """Wait until it leads; return how long that took."""
        began = anyio.current_time()
        with anyio.fail_after(within_s):
            # Not its metrics: to write them all takes long, and is asked for often.
            while not ((engine := replica.health.engine) and engine.is_leading()):  # noqa: ASYNC110 - no event for it
                await anyio.sleep(0.1)
        assert replica.is_leading
        return anyio.current_time() - began

    async def lease(self) -> dict[str, Any]:
        """Read the record."""
        spec: dict[str, Any] = (await self.w.call("GET", f"{LEASE}/{NAME}"))["spec"]
        return spec


@asynccontextmanager
async def replicas(**settings: Any) -> AsyncGenerator[Replicas]:
    """Build a world with a lease that was released, and no replica yet."""
    async with world(leader_elect=True, **settings) as w, AsyncExitStack() as stack:
        await make_lease(w)
        it = Replicas(w, stack)
        yield it
        for each in it.all:
            each.kill()
            await each.ended.wait()


async def make_lease(w: World, **spec: Any) -> None:
    """Create the lease as somebody else has left it, by default released."""
    await w.call(
        "POST",
        LEASE,
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": NAME},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": 1} | spec,
        },
    )
