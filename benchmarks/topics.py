"""What the plots of ``scripts/bench`` show: each has one topic, one quantity and one direction."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.actor import Sample

#: By experiment and contender, as results.json has them.
Samples = Mapping[str, Mapping[str, Sequence[Sample]]]


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        label: whose.
        contender: of the group's experiment.
        over: a contender whose value it is divided by.
        experiment: another one than the group's.
        quantity: another one than the topic's.
        ours: whether it is this library's.
    """

    label: str
    contender: str
    over: str = ""
    experiment: str = ""
    quantity: str = ""
    ours: bool = True


@dataclass(frozen=True)
class Group:
    """Bars that were measured in turns."""

    title: str
    experiment: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Topic:
    """A plot.

    Attributes:
        name: for its file.
        title: what it shows, with its unit.
        quantity: of the samples.
        groups: what is shown.
        higher: whether higher is better; else lower is.
        mark: a value with a line of its own, and what it is.
    """

    name: str
    title: str
    quantity: str
    groups: tuple[Group, ...]
    higher: bool = True
    mark: tuple[float, str] | None = None


def _other(label: str, contender: str, quantity: str = "") -> Bar:
    return Bar(label, contender, quantity=quantity, ours=False)


_OTHERS = (
    _other("aio-pika", "aio-pika"),
    _other("kombu", "kombu"),
    _other("FastStream", "FastStream"),
)
_PIKA = _other("plain pika", "pika")


def value_of(bar: Bar, group: Group, topic: Topic, samples: Samples) -> float | None:
    """Return the median that a bar shows; None where it was not measured."""
    contenders = samples.get(bar.experiment or group.experiment, {})
    quantity = bar.quantity or topic.quantity
    values = _median(contenders.get(bar.contender, ()), quantity)
    if values is None or not bar.over:
        return values
    base = _median(contenders.get(bar.over, ()), quantity)
    return values / base if base else None


def _median(samples: Sequence[Sample], quantity: str) -> float | None:
    values = [each[quantity] for each in samples if quantity in each]
    return statistics.median(values) if values else None


def _ratio(label: str, experiment: str, contender: str) -> Bar:
    return Bar(label, contender, over="pika", experiment=experiment)


TOPICS = (
    Topic(
        "overview",
        "Rate, in multiples of plain pika's",
        "rate",
        (
            Group(
                "",
                "",
                (
                    _ratio("consume and ack, prefetch 250", "consume", "prefetch 250"),
                    _ratio("consume and ack, prefetch 50", "consume", "default"),
                    _ratio("ask, 64 futures", "requests", "raw, futures"),
                    _ratio("send confirmed, 8 threads", "send", "8 threads"),
                    _ratio("publish in a callback, confirmed", "publish", "ours"),
                    _ratio("ask, 16 threads", "requests", "raw, threads"),
                    _ratio("send confirmed, 1 thread", "send", "1 thread"),
                    _ratio("ask, one at a time", "request", "ours"),
                ),
            ),
        ),
        mark=(1.0, "plain pika"),
    ),
    Topic(
        "requests",
        "Requests answered, a second",
        "rate",
        (
            Group(
                "one at a time",
                "request",
                (Bar("raw callback", "ours"), Bar("decorated callback", "decorated"), _PIKA),
            ),
            Group(
                "many at a time",
                "requests",
                (
                    Bar("64 futures", "raw, futures"),
                    Bar("16 threads", "raw, threads"),
                    _other("plain pika, 16 under way", "pika"),
                ),
            ),
            Group(
                "one at a time, and other libraries",
                "others-request",
                (Bar("raw callback", "ours"), *_OTHERS),
            ),
            Group(
                "1,000 awaited at a time",
                "await-requests",
                (Bar("coroutines", "ours"), _other("aio-pika's RPC", "aio-pika")),
            ),
        ),
    ),
    Topic(
        "sending",
        "Messages sent and confirmed, a second",
        "rate",
        (
            Group(
                "to a transient queue",
                "send",
                (Bar("8 threads", "8 threads"), Bar("1 thread", "1 thread"), _PIKA),
            ),
            Group("to a durable queue", "disk", (Bar("1 thread", "ours"), _PIKA)),
            Group(
                "to a transient queue, and other libraries",
                "others-send",
                (Bar("1 thread", "ours"), *_OTHERS),
            ),
        ),
    ),
    Topic(
        "consuming",
        "Messages consumed and acknowledged, a second",
        "rate",
        (
            Group(
                "in a thread",
                "consume",
                (Bar("prefetch 250", "prefetch 250"), Bar("prefetch 50", "default"), _PIKA),
            ),
            Group(
                "in a thread, and other libraries",
                "others-consume",
                (Bar("prefetch 50", "ours"), *_OTHERS),
            ),
            Group(
                "in coroutines",
                "others-coroutines",
                (
                    Bar("pika's four arguments", "arguments"),
                    Bar("aio-pika's message", "message"),
                    _other("aio-pika", "aio-pika"),
                ),
            ),
        ),
    ),
    Topic(
        "processor",
        "Processor's time for each, µs",
        "cpu",
        (
            Group(
                "request, one at a time: client", "request", (Bar("this library", "ours"), _PIKA)
            ),
            Group(
                "request, one at a time: service",
                "request",
                (
                    Bar("this library", "ours", quantity="service_cpu"),
                    _other("plain pika", "pika", "service_cpu"),
                ),
            ),
            Group(
                "1,000 awaited requests: client",
                "await-requests",
                (Bar("this library", "ours"), _other("aio-pika's RPC", "aio-pika")),
            ),
            Group("confirmed message", "send", (Bar("this library", "1 thread"), _PIKA)),
            Group(
                "confirmed message, and other libraries",
                "others-send",
                (Bar("this library", "ours"), *_OTHERS),
            ),
            Group("message consumed", "consume", (Bar("this library", "default"), _PIKA)),
            Group(
                "message consumed, and other libraries",
                "others-consume",
                (Bar("this library", "ours"), *_OTHERS),
            ),
        ),
        higher=False,
    ),
    Topic(
        "latency",
        "Median time of a request, ms",
        "median",
        (
            Group(
                "nothing else to do",
                "busy",
                (Bar("this library", "quiet"), _other("plain pika", "pika quiet")),
            ),
            Group(
                "while 20,000 messages a second come in",
                "busy",
                (Bar("this library", "busy"), _other("plain pika", "pika busy")),
            ),
        ),
        higher=False,
    ),
    Topic(
        "bodies",
        "Bodies of 10 MB, MB/s",
        "volume",
        (
            Group(
                "bytes, published",
                "bodies",
                (Bar("in a callback", "bytes"), _other("plain pika", "pika send")),
            ),
            Group(
                "a dict, encoded and sent",
                "bodies",
                (Bar("send_message", "send"), _other("plain pika, same format", "pika encode")),
            ),
            Group(
                "consumed",
                "bodies",
                (Bar("this library", "consume"), _other("plain pika", "pika consume")),
            ),
        ),
    ),
    Topic(
        "memory",
        "Memory of the process, MiB",
        "resident",
        (
            Group("1,000 queues consumed", "queues", (Bar("this library", "ours"), _PIKA)),
            Group(
                "bodies of 10 MB consumed, at most",
                "bodies",
                (
                    Bar("this library", "consume", quantity="peak"),
                    _other("plain pika", "pika consume", "peak"),
                ),
            ),
            Group(
                "dicts of 10 MB sent, at most",
                "bodies",
                (
                    Bar("this library", "send", quantity="peak"),
                    _other("plain pika", "pika encode", "peak"),
                ),
            ),
        ),
        higher=False,
    ),
)
