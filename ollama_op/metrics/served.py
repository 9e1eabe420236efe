"""Requests to the REST API and to the webhook, counted and timed.

Not with prometheus_client's own instruments: their locks, for threads that are not here, cost a
request 4 µs of the 62 that it takes.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import accumulate
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from ollama_op.admission.review import ALLOWED, DENIED, REWRITTEN

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "other"  # a client can make up any method
BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
BOUNDS: Final = (*map(str, BUCKETS_S), "+Inf")

WEBHOOKS: Final = {"/validate": "validate", "/mutate": "mutate"}
OPERATIONS: Final = ("CREATE", "UPDATE")  # that it is asked about
RESULTS: Final = {"validate": (ALLOWED, DENIED), "mutate": (ALLOWED, REWRITTEN)}

LabelValues = tuple[str | int, ...]


class Timed:
    """How many requests there were with the same labels, and how long they took."""

    def __init__(self, name: str, what: str, labels: tuple[str, ...]) -> None:
        self._name, self._what, self._labels = name, what, labels
        self._counts: dict[LabelValues, list[int]] = {}  # one more than buckets
        self._sums_s: dict[LabelValues, float] = {}

    def begin_at_zero(self, key: LabelValues) -> None:
        """Start a counter before the first request: else no alert would see that one."""
        self._counts.setdefault(key, [0] * len(BOUNDS))
        self._sums_s.setdefault(key, 0)

    def add(self, key: LabelValues, duration_s: float) -> None:
        """Record one request."""
        if key not in self._counts:
            self.begin_at_zero(key)
        self._counts[key][bisect_left(BUCKETS_S, duration_s)] += 1
        self._sums_s[key] += duration_s

    def families(self) -> Iterable[Metric]:
        """Return how it is now."""
        count = CounterMetricFamily(
            f"{self._name}_requests", f"Requests to {self._what}.", labels=self._labels
        )
        time = HistogramMetricFamily(
            f"{self._name}_request_duration_seconds",
            f"How long requests to {self._what} took.",
            labels=self._labels,
        )
        for key, counts in self._counts.items():
            labels, upto = [*map(str, key)], [*accumulate(counts)]
            count.add_metric(labels, upto[-1])
            time.add_metric(labels, [*zip(BOUNDS, upto, strict=True)], self._sums_s[key])
        return [count, time]


class Served(Timed):
    """What the REST API served, by route template, method and status."""

    def __init__(self) -> None:
        super().__init__("ollama_api", "the REST API", ("method", "route", "code"))

    def note(self, route: str, method: str, code: int, duration_s: float) -> None:
        """Record one request. It is an `api.front.ObserveRequest`, and quick."""
        key = (method, route, code)
        if key not in self._counts and method not in METHODS:
            key = (OTHER, route, code)
        self.add(key, duration_s)


class Admitted(Timed):
    """What the webhook was asked, and until when its certificate holds."""

    def __init__(self, expires_at: Callable[[], datetime | None]) -> None:
        super().__init__("ollama_op_webhook", "the webhook", ("webhook", "operation", "result"))
        self._expires_at = expires_at
        for webhook, results in RESULTS.items():
            for operation in OPERATIONS:
                for result in results:
                    self.begin_at_zero((webhook, operation, result))

    def note(self, path: str, operation: str, result: str, duration_s: float) -> None:
        """Record one request. It is an `asked.ObserveReview`."""
        webhook = WEBHOOKS.get(path, OTHER)
        self.add((webhook, operation if operation in OPERATIONS else OTHER, result), duration_s)

    def families(self) -> Iterable[Metric]:
        """Return how it is now."""
        expiry = GaugeMetricFamily(
            "ollama_op_webhook_certificate_expiry_timestamp_seconds",
            "When the certificate ends that the webhook serves with.",
        )
        if (expires_at := self._expires_at()) is not None:
            expiry.add_metric([], expires_at.timestamp())
        return [*super().families(), expiry]
