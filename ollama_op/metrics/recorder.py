"""What the operator measures. Imported only where that is wanted.

Events are counted as they happen; states are looked up at each scrape, in `gauges`. No label has
values without bound from outside: no URL, path, digest or message.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import anyio
import httpx
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from crd.reasons import Reason
from ollama_op.base.errors import Conflict, KubeError, OllamaError
from ollama_op.base.observer import Observer
from ollama_op.metrics.gauges import families, look
from ollama_op.metrics.instruments import CANCELLED, CONFLICT, FAILURE, SERVER, SUCCESS, Instruments
from ollama_op.metrics.served import OTHER, Admitted, Served
from ollama_op.reconcile.engine import Engine

ENDPOINTS: Final = frozenset(
    f"/api/{name}"
    for name in ("tags", "ps", "version", "show", "pull", "delete", "generate", "embed")
)
RESTING: Final = "Wait"  # the one action that waits for as long as all is well


class Metrics(Observer):
    """Counts what happens, and writes it down when it is asked for."""

    wants_version = True

    def __init__(
        self,
        engine: Callable[[], Engine | None] = lambda: None,
        *,
        per_model: bool = True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.engine, self._per_model, self._now = engine, per_model, now
        self._registry = CollectorRegistry()
        self._count = Instruments(self._registry)
        self._pulls: dict[Callable[[], int], int] = {}  # under way; bytes at their beginning
        self._pulled_bytes = 0  # by those that have ended
        self.served = Served()
        self.admitted: Admitted | None = None  # where there is a webhook

    def scrape(self) -> Callable[[], bytes]:
        """Record how things are now; what is returned writes that down, in any thread."""
        parts = self.counted()
        if (engine := self.engine()) is not None:
            parts.append(families(look(engine, self._now()), per_model=self._per_model))
        return partial(generate_latest, _Joined(parts))

    def counted(self) -> list[Iterable[Metric]]:
        """Return all but how the models and the server are, which `gauges` looks up."""
        parts = [
            self._registry.collect(),
            self._leader(),
            self._downloads(),
            self.served.families(),
        ]
        return parts if self.admitted is None else [*parts, self.admitted.families()]

    def _leader(self) -> Iterable[Metric]:
        engine = self.engine()
        leader = GaugeMetricFamily("ollama_op_leader", "1 if this replica is the one that acts.")
        leader.add_metric([], engine is not None and engine.is_leading())
        return [leader]

    def _downloads(self) -> Iterable[Metric]:
        running = sum(received() - base for received, base in self._pulls.items())
        count = GaugeMetricFamily(
            "ollama_op_pulls_in_progress", "Downloads under way.", labels=["server"]
        )
        count.add_metric([SERVER], len(self._pulls))
        size = CounterMetricFamily(
            "ollama_op_pulled_bytes",
            "Bytes that were seen to arrive; not what was there before a pull.",
            labels=["server"],
        )
        size.add_metric([SERVER], self._pulled_bytes + running)
        return [count, size]

    # --- what the engine tells

    def failed(self, reason: Reason) -> None:
        """Count a failure."""
        self._count.failures.labels(SERVER, reason.value).inc()

    def crashed(self) -> None:
        """Count a crash."""
        self._count.crashes.inc()

    def watch_ended(self, cause: str) -> None:
        """Count an end of the watch."""
        self._count.watches.labels(cause).inc()

    def acting(self, action: str) -> AbstractContextManager[None]:
        """Time the carrying out of a decision."""
        return nullcontext() if action == RESTING else self._acting(action)

    @contextmanager
    def _acting(self, action: str) -> Generator[None]:
        began = anyio.current_time()
        try:
            yield
        finally:
            self._count.act_s.labels(action).observe(anyio.current_time() - began)

    @contextmanager
    def pulling(self, received: Callable[[], int]) -> Generator[None]:
        """Count a download, and time it."""
        began, result = anyio.current_time(), CANCELLED
        self._pulls[received] = received()
        try:
            yield
            result = SUCCESS
        except OllamaError as error:
            result = error.reason.value
            raise
        finally:
            self._pulled_bytes += received() - self._pulls.pop(received)
            self._count.pulls.labels(SERVER, result).inc()
            self._count.pull_s.labels(SERVER, result).observe(anyio.current_time() - began)

    @contextmanager
    def writing_status(self) -> Generator[None]:
        """Count the writing of a status."""
        result = CANCELLED
        try:
            yield
            result = SUCCESS
        except KubeError as error:
            result = CONFLICT if isinstance(error, Conflict) else FAILURE
            raise
        finally:
            self._count.writes.labels(result).inc()

    # --- what others tell

    def client(self, **how: Any) -> httpx.AsyncClient:
        """Make an HTTP client for Ollama whose calls are counted."""
        return MeasuredClient(self.called, **how)

    def called(self, path: str, code: str, duration_s: float) -> None:
        """Count a call of Ollama, whose API may be below some other path."""
        tail = "/api/" + path.rpartition("/api/")[2]
        labels = (SERVER, tail if tail in ENDPOINTS else OTHER, code)
        self._count.calls.labels(*labels).inc()
        self._count.call_s.labels(*labels).observe(duration_s)


class _Joined(Collector):
    """What several collectors have collected."""

    def __init__(self, parts: Iterable[Iterable[Metric]]) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        for part in self._parts:
            yield from part


class MeasuredClient(httpx.AsyncClient):
    """An HTTP client that tells of each call: path, status or `error`, and seconds."""

    def __init__(self, tell: Callable[[str, str, float], None], **how: Any) -> None:
        super().__init__(**how)
        self._tell = tell

    async def send(self, request: httpx.Request, **how: Any) -> httpx.Response:
        """Send a request; a call that is cancelled is not told of."""
        began = anyio.current_time()
        try:
            answer = await super().send(request, **how)
        except Exception:
            self._tell(request.url.path, FAILURE, anyio.current_time() - began)
            raise
        self._tell(request.url.path, str(answer.status_code), anyio.current_time() - began)
        return answer
