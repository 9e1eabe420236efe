"""The operator, put together: who watches, who knows, who acts."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx
import structlog

from crd.model import OLLAMA_MODELS, OllamaModel
from crd.placement import DEFAULT_SERVER, Placement
from ollama_op.base.errors import OllamaError
from ollama_op.base.fence import no_fence
from ollama_op.base.observer import NOBODY, Observer
from ollama_op.base.settings import Settings
from ollama_op.kube.calls import KubeCalls
from ollama_op.kube.client import LoggedIn
from ollama_op.kube.cluster import Cluster
from ollama_op.kube.events import EventRecorder
from ollama_op.kube.lease import Leadership, boot_clock, identify
from ollama_op.kube.reflector import Reflector
from ollama_op.kube.store import Store
from ollama_op.kube.writes import StatusWriter
from ollama_op.ollama.client import OllamaClient
from ollama_op.reconcile.engine import Engine
from ollama_op.reconcile.handle import Handle
from ollama_op.reconcile.lifecycle import Lifecycle
from ollama_op.reconcile.supervise import Supervisor
from ollama_op.rest.gateway import Gateway
from ollama_op.rest.reviewer import KubeReviewer
from ollama_op.server.instance import Instance
from ollama_op.server.monitor import ServerMonitor
from ollama_op.server.servers import Servers

log = structlog.get_logger(__name__)


@dataclass
class Readiness:
    """What is told about a running operator, by probes and metrics."""

    engine: Engine | None = None
    is_admitting: bool = True  # False while a webhook that is wanted has no certificate
    login: LoggedIn | None = None

    def is_ready(self) -> bool:
        """Return True if all objects are known, the watch is up, and a webhook answers."""
        in_sync = self.engine is not None and self.engine.reflector.is_in_sync()
        return in_sync and self.is_admitting and self.is_logged_in()

    def is_logged_in(self) -> bool:
        """Return False while the cluster takes no credentials that the operator has."""
        return self.login is None or not self.login.problem()

    def sharers(self, where: Placement, uid: str) -> int:
        """Count the live objects other than `uid` that name this model, as far as is known."""
        return self.engine.store.sharers(where, uid) if self.engine else 0

    def admits(self) -> None:
        """Record that the webhook answers from now on."""
        self.is_admitting = True


Serve = Callable[[Gateway], Coroutine[Any, Any, None]]
"""Serves the REST API from what the operator knows and can do, until cancelled."""


async def operate(
    settings: Settings,
    cluster: Cluster,
    http: httpx.AsyncClient,
    *,
    health: Readiness,
    serve: Serve | None = None,
    observer: Observer = NOBODY,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    clock: Callable[[], float] = boot_clock,
) -> None:
    """Keep the cluster's OllamaModels on the Ollama server behind `http`, until cancelled.

    `serve` is begun beside it, and `observer` hears of what happens. `now` is the clock of what is
    written into statuses; waiting follows the event loop's, and `clock` is that of the lease.
    """
    leadership = None
    if settings.leader_elect:
        leadership = Leadership(
            cluster.lease or cluster.writes,
            namespace=settings.lease_namespace,
            name=settings.leader_elect_id,
            identity=identify(),
            clock=clock,
            now=now,
        )
    fence = leadership.check if leadership else no_fence
    ollama = OllamaClient(http, fence=fence, now=now)
    monitor = ServerMonitor(
        ollama, interval_s=settings.health_interval_s, ask_version=observer.wants_version
    )
    instance = Instance(
        ollama,
        monitor,
        stall_timeout_s=settings.stall_timeout_s,
        max_concurrent_pulls=settings.max_concurrent_pulls,
        deletion_grace_s=settings.deletion_grace_s,
        now=now,
        observer=observer,
    )
    servers = Servers({DEFAULT_SERVER: instance})
    kube = StatusWriter(cluster.writes, OLLAMA_MODELS, observer=observer, fence=fence)
    store = Store(OLLAMA_MODELS, lambda model: model.desired.placement)
    store.follow(kube.refusals)
    reflector = Reflector(
        cluster.watch, store, OLLAMA_MODELS, namespace=settings.namespace, observer=observer
    )
    for_clients = cluster.rest or cluster.writes
    gateway = Gateway(
        KubeCalls(for_clients),
        store=store,
        reflector=reflector,
        reviewer=KubeReviewer(KubeCalls(for_clients)),
        on_servers=servers.listed,
    )

    def events() -> EventRecorder:
        return EventRecorder(
            cluster.events, OLLAMA_MODELS, is_busy=kube.is_busy, fence=fence, now=now
        )

    def lifecycle(events: EventRecorder) -> Lifecycle:
        return Lifecycle(
            handle=lambda box: Handle(
                box, kube=kube, events=events, objects=store, servers=servers, clock=now
            ),
            progress_interval_s=settings.progress_interval_s,
            observer=observer,
        )

    crew = _Crew(store, servers, events, lifecycle, observer)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reflector.run)
        for server in servers:
            tasks.start_soon(server.monitor.run)
        if leadership is None:
            tasks.start_soon(crew.work)
        else:
            tasks.start_soon(leadership.run, crew.take_over)
        if serve is not None:
            tasks.start_soon(gateway.run)
            tasks.start_soon(serve, gateway)
        health.engine = Engine(
            store,
            reflector,
            servers,
            crew,
            gateway.reviewer,
            kube.refusals,
            is_leading=lambda: leadership is None or leadership.is_leading,
        )


@dataclass
class _Crew:
    """What acts: a task for each object, and the sender of events. All end with `work`."""

    store: Store[OllamaModel]
    servers: Servers
    events: Callable[[], EventRecorder]
    lifecycle: Callable[[EventRecorder], Lifecycle]
    observer: Observer
    _at_work: Supervisor[str, OllamaModel] | None = None

    def __len__(self) -> int:
        """Count the tasks of objects."""
        return len(self._at_work or ())

    async def take_over(self) -> None:
        """Work, once it is known what the last leader has left on the server."""
        for server in self.servers:
            with suppress(OllamaError):  # what there is of it is told by each model
                await server.monitor.refresh()
        await self.work()

    async def work(self) -> None:
        """Act, until cancelled."""
        events = self.events()
        async with anyio.create_task_group() as tasks:
            run = self.lifecycle(events).run
            self._at_work = Supervisor[str, OllamaModel](tasks, run, observer=self.observer)
            self.store.attach(self._at_work)
            for server in self.servers:
                tasks.start_soon(server.grace.sweep)
            try:
                await events.run()
            finally:
                self.store.attach(None)  # nothing can be begun any more
        self._at_work = None
