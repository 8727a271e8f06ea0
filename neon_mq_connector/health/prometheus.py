"""The state in the text format of Prometheus; prometheus-client is imported when it is asked for.

Nothing is counted here: each scrape reads the counts that the connector keeps anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    """What prometheus-client asks for metrics."""

    def __init__(self, statuses: Sequence[Status]) -> None:
        self._statuses = statuses

    def collect(self) -> Iterator[Metric]:
        """Make each metric of the counts of all processes."""
        first = ("worker",) if any("worker" in status for status in self._statuses) else ()
        by_queue = (*first, "queue")
        messages = _Family("messages", "Messages by outcome.", (*by_queue, "outcome"))
        recoveries = _Family("recoveries", "How often consumers had to recover.", by_queue)
        publishes = _Family("publishes", "Published messages by outcome.", (*first, "outcome"))
        gauges = {name: _Family(name, text, by_queue) for name, text in _GAUGES.items()}
        consumers = _Family("consumer_up", "Whether it consumes.", (*first, "consumer", "queue"))
        connections = _Family("connection_up", "Whether it is open.", (*first, "connection"))
        histograms = {name: _Family(name, text, by_queue) for name, text in _HISTOGRAMS.items()}
        for status in self._statuses:
            worker = (str(status["worker"]),) if first else ()
            for each in status["consumers"]:
                queue = each["label"]
                for outcome in _OUTCOMES:
                    messages.add(*worker, queue, outcome, value=each[outcome])
                recoveries.add(*worker, queue, value=each["recoveries"])
                for name, gauge in gauges.items():
                    gauge.add(*worker, queue, value=each[name])
                consumers.add(*worker, each["name"], queue, value=each["healthy"])
            for each in status["connections"]:
                connections.add(*worker, each["name"], value=each["state"] == "open")
            for outcome, count in status["publishes"].items():
                publishes.add(*worker, outcome, value=count)
            for name, family in histograms.items():
                for queue, durations in status[name].items():
                    family.histograms.update({(*worker, queue): durations})
        for family in (messages, recoveries, publishes):
            yield family.counter()
        for family in (*gauges.values(), consumers, connections):
            yield family.gauge()
        for family in histograms.values():
            yield family.histogram()


class _Family:
    """One metric, with a value for each set of labels."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self._arguments = (f"neon_mq_{name}", text)
        self._labels = labels
        self._values: dict[tuple[str, ...], float] = {}
        self.histograms: dict[tuple[str, ...], Mapping[str, Any]] = {}

    def add(self, *labels: str, value: float) -> None:
        """Add to the value of some labels: two consumers may have one queue."""
        self._values[labels] = self._values.get(labels, 0.0) + value

    def counter(self) -> Metric:
        """Return it as a counter."""
        from prometheus_client.core import CounterMetricFamily

        metric: Metric = self._filled(CounterMetricFamily)
        return metric

    def gauge(self) -> Metric:
        """Return it as a gauge."""
        from prometheus_client.core import GaugeMetricFamily

        metric: Metric = self._filled(GaugeMetricFamily)
        return metric

    def histogram(self) -> Metric:
        """Return it as a histogram."""
        from prometheus_client.core import HistogramMetricFamily

        metric = HistogramMetricFamily(*self._arguments, labels=self._labels)
        bounds = [*map(str, BOUNDS), "+Inf"]
        for labels, durations in self.histograms.items():
            buckets = list(zip(bounds, accumulate(durations["counts"]), strict=True))
            metric.add_metric(labels, buckets=buckets, sum_value=durations["sum"])
        return metric

    def _filled(self, kind: Any) -> Any:
        metric = kind(*self._arguments, labels=self._labels)
        for labels, value in self._values.items():
            metric.add_metric(labels, value)
        return metric
