"""The counters and histograms, by name. What can only have a few values is there from the start.

A counter that appears with its first event has no increase then, so no alert would see that event.
"""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from crd.placement import DEFAULT_SERVER
from ollama_op.base.errors import (
    ModelUnsupported,
    NotOllama,
    OllamaError,
    OllamaUnreachable,
    ProtocolError,
    PullFailed,
)

SUCCESS, CANCELLED = "success", "cancelled"
CLOSED, EXPIRED, BROKEN = "closed", "expired", "broken"
CONFLICT, FAILURE = "conflict", "error"

SERVER: Final = str(DEFAULT_SERVER)  # the calls and pulls that are measured are of this one
_CALL_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 900)
_PULL_S: Final = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
_ACT_S: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 14400)

# Else each of these has a second series that says since when.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types for it


class Instruments:
    """All that is counted as it happens, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def count(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def time(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        call = ("server", "endpoint", "code")
        self.calls = count(
            "ollama_op_ollama_requests",
            "Calls of Ollama; the code is error where no answer came.",
            *call,
        )
        self.call_s = time(
            "ollama_op_ollama_request_duration_seconds",
            "How long calls of Ollama took; a pull only until its answer began.",
            _CALL_S,
            *call,
        )
        pull = ("server", "result")
        self.pulls = count(
            "ollama_op_pulls",
            "Downloads that have ended: success, cancelled, or the reason.",
            *pull,
        )
        self.pull_s = time(
            "ollama_op_pull_duration_seconds", "How long downloads took.", _PULL_S, *pull
        )
        self.failures = count(
            "ollama_op_failures", "What did not work for a model, by reason.", "server", "reason"
        )
        self.crashes = count("ollama_op_task_crashes", "Bugs met, and tasks started again.")
        self.watches = count(
            "ollama_op_watch_restarts",
            "Ends of the watch of OllamaModels: closed by the API server, as it does every few"
            " minutes; expired; broken.",
            "cause",
        )
        self.writes = count(
            "ollama_op_status_writes", "Statuses written to Kubernetes, by result.", "result"
        )
        self.act_s = time(
            "ollama_op_reconcile_duration_seconds",
            "How long it took from a decision to the end of what it asked for.",
            _ACT_S,
            "action",
        )
        _set_facts(registry)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        for result in (SUCCESS, CANCELLED, *sorted(set(_reasons(PullFailed)) | _SERVER_TROUBLE)):
            self.pulls.labels(SERVER, result)
        for reason in sorted(set(_reasons(OllamaError))):
            self.failures.labels(SERVER, reason)
        for cause in (CLOSED, EXPIRED, BROKEN):
            self.watches.labels(cause)
        for result in (SUCCESS, CONFLICT, FAILURE, CANCELLED):
            self.writes.labels(result)


_SERVER_TROUBLE: Final = {
    e.reason.value for e in (OllamaUnreachable, NotOllama, ProtocolError, ModelUnsupported)
}


def _reasons(kind: type[OllamaError]) -> Iterator[str]:
    """List the reasons of a class of errors, and of those beneath it."""
    if hasattr(kind, "reason"):
        yield kind.reason.value
    for each in kind.__subclasses__():
        yield from _reasons(each)


def _set_facts(registry: CollectorRegistry) -> None:
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    info = Gauge("ollama_op_build_info", "Which ollama-op this is.", ["version"], registry=registry)
    info.labels(version("ollama-op")).set(1)
