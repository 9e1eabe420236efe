"""Requests to the REST API, counted and timed.

Not with prometheus_client's own instruments: their locks, for threads that are not here, cost a
request 4 µs of the 62 that it takes.
"""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "other"  # a client can make up any method
LABELS: Final = ("method", "route", "code")
BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
BOUNDS: Final = (*map(str, BUCKETS_S), "+Inf")


class Served:
    """What was served, by route template, method and status."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], list[int]] = {}  # one more than buckets
        self._sums_s: dict[tuple[str, str, int], float] = {}

    def note(self, route: str, method: str, code: int, duration_s: float) -> None:
        """Take in one request. It is an `api.front.Observe`, and quick."""
        key = (route, method, code)
        if key not in self._counts:
            key = (route, method if method in METHODS else OTHER, code)
            self._counts.setdefault(key, [0] * len(BOUNDS))
        self._counts[key][bisect_left(BUCKETS_S, duration_s)] += 1
        self._sums_s[key] = self._sums_s.get(key, 0) + duration_s

    def families(self) -> Iterable[Metric]:
        """Return how it is now."""
        count = CounterMetricFamily(
            "ollama_api_requests", "Requests to the REST API.", labels=LABELS
        )
        time = HistogramMetricFamily(
            "ollama_api_request_duration_seconds",
            "How long requests to the REST API took.",
            labels=LABELS,
        )
        for (route, method, code), counts in self._counts.items():
            labels, upto = (method, route, str(code)), [*accumulate(counts)]
            count.add_metric(labels, upto[-1])
            buckets = [*zip(BOUNDS, upto, strict=True)]
            time.add_metric(labels, buckets, self._sums_s[route, method, code])
        return [count, time]
