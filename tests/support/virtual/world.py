"""The operator between a sandboxed Kubernetes and a scripted Ollama: in process, in virtual time.

Everything of ours is the real thing, kr8s and httpx included; only the transports are short.
"""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx
from anyio.abc import TaskGroup

from crd.v1alpha1 import API_VERSION, KIND, PLURAL
from ollama_op.app.operator import Readiness, operate
from ollama_op.base.asgi import App
from ollama_op.base.observer import NOBODY, Observer
from ollama_op.base.settings import Settings
from ollama_op.kube.cluster import Cluster
from ollama_op.sandbox.kube.server import KubeSandbox
from ollama_op.sandbox.ollama.server import OllamaSandbox
from ollama_op.sandbox.transport import AppTransport
from support.virtual.gateway import Gateway
from support.virtual.unruly import Wire

Object = dict[str, Any]
START = datetime(2026, 1, 1, tzinfo=UTC)
MB = 1_000_000
TICK_S = 0.31  # between two lines of a pull: longer than between two looks, and no multiple of it


@dataclass
class World:
    """What a test can do, and see."""

    kube: KubeSandbox
    ollama: OllamaSandbox
    http: httpx.AsyncClient  # to the Kubernetes API, as a user
    cluster: Cluster
    ollama_http: httpx.AsyncClient
    tasks: TaskGroup
    gateway: Gateway  # before Ollama; lets everything through until it is told otherwise
    settings: Settings = field(default_factory=Settings)
    health: Readiness = field(default_factory=Readiness)
    observer: Observer = NOBODY
    crash: Exception | None = None  # what has ended the operator, and should not have
    _operator: anyio.CancelScope | None = None
    _ended: anyio.Event = field(default_factory=anyio.Event)

    def now(self) -> datetime:
        """Tell the virtual time."""
        return START + timedelta(seconds=anyio.current_time())

    # --- the operator

    def start(self) -> None:
        """Start the operator, unless it runs."""
        if self._operator is None:
            self._operator, self._ended = anyio.CancelScope(), anyio.Event()
            self.tasks.start_soon(self._operate, self._operator, self._ended)

    def kill(self) -> None:
        """End the operator as a crash would, at this very moment."""
        assert self._operator is not None
        self._operator.cancel()

    async def stop(self) -> None:
        """Kill the operator unless that was done, and let what was under way end."""
        if self._operator is not None:
            self.kill()
            await self._ended.wait()
        await anyio.sleep(0.01)

    async def _operate(self, scope: anyio.CancelScope, ended: anyio.Event) -> None:
        try:
            with scope:
                await operate(
                    self.settings,
                    self.cluster,
                    self.ollama_http,
                    health=self.health,
                    observer=self.observer,
                    now=self.now,
                    clock=anyio.current_time,
                )
        except Exception as error:  # noqa: BLE001 - raised by the fixture, and by what waits
            self.crash = error
        self._operator = None
        ended.set()

    # --- a user of Kubernetes

    async def apply(
        self,
        name: str,
        model: str,
        *,
        namespace: str = "default",
        spec: Object | None = None,
        **annotations: str,
    ) -> Object:
        """Create an OllamaModel for `model`, written as name:tag, with what else `spec` says."""
        repo, _, tag = model.rpartition(":")
        meta: Object = {"name": name}
        if annotations:
            meta["annotations"] = annotations
        return await self.call(
            "POST",
            self.path(namespace=namespace),
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "metadata": meta,
                "spec": {"name": repo, "tag": tag} | (spec or {}),
            },
        )

    async def get(self, name: str, *, namespace: str = "default") -> Object:
        """Read an OllamaModel."""
        return await self.call("GET", self.path(name, namespace=namespace))

    async def delete(self, name: str, *, namespace: str = "default") -> None:
        """Ask for an OllamaModel's deletion."""
        await self.call("DELETE", self.path(name, namespace=namespace))

    async def patch(self, name: str, body: Object, *, namespace: str = "default") -> Object:
        """Send a merge patch."""
        return await self.call("PATCH", self.path(name, namespace=namespace), body)

    async def exists(self, name: str, *, namespace: str = "default") -> bool:
        """Return True if the object is there."""
        answer = await self.http.get(self.path(name, namespace=namespace))
        return answer.is_success

    async def call(self, method: str, path: str, body: Object | None = None) -> Object:
        """Send one request that must succeed."""
        kind = "merge-patch+json" if method == "PATCH" else "json"
        answer = await self.http.request(
            method,
            path,
            content=None if body is None else json.dumps(body),
            headers={"content-type": f"application/{kind}"},
        )
        assert answer.is_success, answer.text
        result: Object = answer.json()
        return result

    @staticmethod
    def path(name: str = "", *, namespace: str = "default") -> str:
        """Return the URL path of an OllamaModel, or of all."""
        return f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}/{name}".rstrip("/")

    # --- waiting and looking

    async def until(
        self,
        name: str,
        accept: Callable[[Object], bool],
        *,
        within_s: float = 300,
        every_s: float = 0.25,
        namespace: str = "default",
    ) -> Object:
        """Wait until the object's status is accepted; return the status."""
        status: Object = {}
        seen = -1
        with anyio.move_on_after(within_s):
            while True:
                if seen != self.kube.store.revision:  # else it would be read for nothing
                    seen = self.kube.store.revision
                    status = (await self.get(name, namespace=namespace)).get("status", {})
                if accept(status):
                    return status
                if self.crash:
                    break
                await anyio.sleep(every_s)
        raise AssertionError(f"{name} never came so far: {json.dumps(status, indent=1)}")

    async def ready(self, name: str, *, within_s: float = 300, every_s: float = 0.25) -> Object:
        """Wait until the model is Ready; return the status."""
        return await self.until(
            name, lambda s: condition(s, "Ready") == "True", within_s=within_s, every_s=every_s
        )

    async def gone(self, name: str, *, within_s: float = 300, namespace: str = "default") -> None:
        """Wait until the object is gone."""
        with anyio.fail_after(within_s):
            while await self.exists(name, namespace=namespace):  # noqa: ASYNC110 - an API has no event
                await anyio.sleep(0.25)

    async def rest(self, *, quiet_s: float = 100) -> None:
        """Wait until the operator runs, no pull does, and nothing was written for so long.

        The default is longer than anything that one fault makes the operator wait for.
        """
        since, before = anyio.current_time(), -1
        while anyio.current_time() - since < quiet_s:
            await anyio.sleep(5)
            if self._operator is None or self.ollama.pulls or before != self._traffic():
                since, before = anyio.current_time(), self._traffic()

    def _traffic(self) -> int:
        """Count the requests that may have changed something."""
        calls = self.ollama.calls
        asked = sum(n for call, n in calls.items() if call[:4] != "GET " and "show" not in call)
        return asked + sum(method != "GET" for method, _ in self.kube.requests)

    def writes(self, name: str = "") -> list[tuple[str, str]]:
        """List the writes that the operator sent for an object: method, and what was written."""
        return [
            (method, path.rpartition("/")[2])
            for method, path in self.kube.requests
            if method in ("PATCH", "PUT") and f"/{PLURAL}/{name}" in path
        ]

    async def events(self) -> list[tuple[str, str]]:
        """List the Kubernetes events: reason and message."""
        await anyio.sleep(0.1)  # an event follows the status that it tells of
        items = (await self.call("GET", "/api/v1/namespaces/default/events"))["items"]
        return [(e["reason"], e["message"]) for e in items]


def condition(status: Object, kind: str, what: str = "status") -> str | None:
    """Return the status of a condition, or another of its fields."""
    found = [c for c in status.get("conditions", []) if c["type"] == kind]
    return found[0][what] if found else None


def reason(status: Object) -> str | None:
    """Return the reason of the Ready condition."""
    return condition(status, "Ready", "reason")


@asynccontextmanager
async def world(
    through: Callable[[App], App] = lambda app: app, **settings: Any
) -> AsyncGenerator[World]:
    """Build a world; the operator is not started yet, and will reach the servers `through` this."""
    # Virtual time began at zero, and so do the sandboxes' clocks.
    clock = lambda: START + timedelta(seconds=anyio.current_time())  # noqa: E731 - one line that is used once
    kube = KubeSandbox(now=clock)
    ollama = OllamaSandbox(now=clock, bytes_per_second=10 * MB, tick_s=TICK_S)
    gateway = Gateway()
    async with (
        AppTransport(kube) as users,
        AppTransport(through(kube)) as to_kube,
        AppTransport(through(gateway.before(ollama))) as to_ollama,
        anyio.create_task_group() as tasks,
    ):
        it = World(
            kube=kube,
            ollama=ollama,
            http=httpx.AsyncClient(transport=users, base_url="http://sandbox"),
            cluster=Cluster(*(Wire(to_kube, use) for use in "abc")),
            ollama_http=httpx.AsyncClient(transport=to_ollama, base_url="http://ollama:11434"),
            tasks=tasks,
            gateway=gateway,
            settings=Settings(**settings),
        )
        yield it
        tasks.cancel_scope.cancel()
    if it.crash:  # raised in a task, it would cancel pytest's own, which then waits for ever
        raise AssertionError("the operator crashed") from it.crash
