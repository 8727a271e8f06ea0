"""Metrics in the text format of Prometheus; prometheus-client is imported when they are wanted.

Nothing is counted here: each scrape reads the counts that the connector keeps anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from neon_mq_connector.health.status import Status
from neon_mq_connector.metrics import BOUNDS

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_OUTCOMES = ("handled", "failed", "parked", "expired")
_GAUGES = {
    "running": "Callbacks that are running.",
    "waiting": "Messages that wait here for a callback to end.",
    "unsettled": "Messages that were handed to a callback and are neither acked nor rejected.",
    "held": "Messages that wait for another try, or until they can be parked.",
}
_HISTOGRAMS = {
    "callback_seconds": "How long callbacks take.",
    "request_seconds": "How long requests take, until their last answer or their error.",
}
#: By name: the help text, and the labels beside that of the worker.
_COUNTERS = {
    "messages": ("Messages by outcome.", ("queue", "outcome")),
    "recoveries": ("How often consumers had to recover.", ("queue",)),
    "publishes": ("Published messages by outcome.", ("outcome",)),
}
_STATES = {
    **{name: (text, ("queue",)) for name, text in _GAUGES.items()},
    "consumer_up": ("Whether it consumes.", ("consumer", "queue")),
    "connection_up": ("Whether it is open.", ("connection",)),
}


def metrics_text(statuses: Sequence[Status]) -> bytes:
    """Return the metrics of some processes.

    Args:
        statuses: their states; where one has a ``worker``, that is a label of its metrics.

    Raises:
        ImportError: prometheus-client is not installed.
    """
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(statuses))
    text: bytes = generate_latest(registry)
    return text


class _Collector:
    """A collector of prometheus-client."""

    def __init__(self, statuses: Sequence[Status]) -> None:
        self._statuses = statuses
        self._first = ("worker",) if any("worker" in each for each in statuses) else ()

    def collect(self) -> Iterator[Metric]:
        """Make each metric of the counts of all processes."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        values: dict[str, dict[tuple[str, ...], float]] = {}
        for status in self._statuses:
            for name, labels, value in _values(status):
                # added, since two consumers may have one queue
                sums, key = values.setdefault(name, {}), (*self._worker(status), *labels)
                sums[key] = sums.get(key, 0.0) + value
        kind: Any
        for kind, declared in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _STATES)):
            for name, (text, labels) in declared.items():
                metric = kind(f"neon_mq_{name}", text, labels=(*self._first, *labels))
                for key, value in values.get(name, {}).items():
                    metric.add_metric(key, value)
                yield metric
        bounds = [*map(str, BOUNDS), "+Inf"]
        for name, text in _HISTOGRAMS.items():
            histogram = HistogramMetricFamily(
                f"neon_mq_{name}", text, labels=(*self._first, "queue")
            )
            for status in self._statuses:
                for queue, durations in status[name].items():
                    buckets = list(zip(bounds, accumulate(durations["counts"]), strict=True))
                    key = (*self._worker(status), queue)
                    histogram.add_metric(key, buckets=buckets, sum_value=durations["sum"])
            yield histogram

    def _worker(self, status: Status) -> tuple[str, ...]:
        return (str(status["worker"]),) if self._first else ()


def _values(status: Status) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """List the counts of a process: the metric, its labels, and the value."""
    for each in status["consumers"]:
        queue = each["label"]
        for outcome in _OUTCOMES:
            yield "messages", (queue, outcome), each[outcome]
        for name in ("recoveries", *_GAUGES):
            yield name, (queue,), each[name]
        yield "consumer_up", (each["name"], queue), each["healthy"]
    for each in status["connections"]:
        yield "connection_up", (each["name"],), each["state"] == "open"
    for outcome, count in status["publishes"].items():
        yield "publishes", (outcome,), count
