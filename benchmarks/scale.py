"""What the work costs as it grows: queues, threads, sizes of bodies."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks import feeder
from benchmarks.actor import Actor, Load, Sample
from benchmarks.experiment import Contender, Experiment
from benchmarks.ours import bodies as our_bodies
from benchmarks.ours import many_queues as our_many_queues
from benchmarks.ours import requests as our_requests
from benchmarks.ours import sending as our_sending
from benchmarks.plain_pika import bodies as pika_bodies
from benchmarks.plain_pika import many_queues as pika_many_queues
from benchmarks.plain_pika import requests as pika_requests
from benchmarks.plain_pika import sending as pika_sending
from benchmarks.report import number, table
from benchmarks.runner import Results, measure
from benchmarks.worker import Role
from neon_mq_connector.testing import PrivateBroker


@dataclass(frozen=True)
class Chart:
    """A quantity of some contenders over what grows.

    Attributes:
        name: for files.
        title: what it shows.
        contenders: whose quantity.
        quantity: which of the quantities of their samples.
        unit: of it.
        higher: whether higher is better; else lower is.
    """

    name: str
    title: str
    contenders: tuple[str, ...]
    quantity: str
    unit: str
    higher: bool = False


@dataclass(frozen=True)
class Scale:
    """Something that grows.

    Attributes:
        name: for ``--only``.
        axis: what grows, with its unit.
        points: what is measured, by how much of it there is.
        charts: what is shown.
    """

    name: str
    axis: str
    points: Mapping[int, Experiment]
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Curve:
    """A contender's medians; x is how much there is of what grows."""

    label: str
    points: tuple[tuple[float, float], ...]


def _queues(count: int) -> Experiment:
    options = {"queues": count}
    return Experiment(
        f"queues-{count}",
        f"{count:,} queues",
        {
            "ours": Contender(Role(our_many_queues.ManyQueues, "ours", options), fresh=True),
            "pika": Contender(Role(pika_many_queues.ManyQueues, "pika", options), fresh=True),
        },
    )


def _threads(count: int) -> Experiment:
    return Experiment(
        f"threads-{count}",
        f"{count} threads",
        {
            "send_mq_request": Contender(
                Role(our_requests.Asker, "ours", {"threads": count}),
                Role(our_requests.Service, "ours"),
            ),
            "pika, 1 thread, as many under way": Contender(
                Role(pika_requests.Asker, "pika", {"in_flight": count}),
                Role(pika_requests.Service, "pika"),
            ),
            "send_message": Contender(Role(our_sending.Sender, "sink", {"threads": count})),
            "pika, 1 thread": Contender(Role(pika_sending.Sender, "pika-sink", {"confirm": True})),
        },
    )


def _sizes(size: int) -> Experiment:
    def consuming(consumer: type[Actor], queue: str) -> Contender:
        return Contender(
            Role(consumer, queue, {"size": size}),
            before=Role(feeder.Filler, queue, {"size": size}),
        )

    return Experiment(
        f"bodies-{size}",
        f"bodies of {size:,} bytes",
        {
            "send_message": Contender(Role(our_bodies.Sender, "ours", {"size": size})),
            "pika, confirmed": Contender(Role(pika_bodies.Sender, "pika", {"size": size})),
            "ours, prefetch 50": consuming(our_bodies.Consumer, "ours-filled"),
            "pika, prefetch 50": consuming(pika_bodies.Consumer, "pika-filled"),
        },
    )


_QUEUES = ("ours", "pika")
_ASKERS = ("send_mq_request", "pika, 1 thread, as many under way")

SCALES = (
    Scale(
        "queues",
        "queues",
        {count: _queues(count) for count in (1, 10, 100, 1_000)},
        (
            Chart("queues-start", "Time to start", _QUEUES, "start", "s"),
            Chart("queues-memory", "Resident memory", _QUEUES, "resident", "MiB"),
            Chart("queues-stop", "Time to stop", _QUEUES, "stop", "s"),
        ),
    ),
    Scale(
        "threads",
        "threads",
        {count: _threads(count) for count in (1, 4, 16, 64, 256)},
        (
            Chart("threads-requests", "Requests", _ASKERS, "rate", "/s", higher=True),
            Chart("threads-cpu", "Processor's time a request", _ASKERS, "cpu", "µs"),
            Chart(
                "threads-sending",
                "Confirmed messages",
                ("send_message", "pika, 1 thread"),
                "rate",
                "/s",
                higher=True,
            ),
        ),
    ),
    Scale(
        "bodies",
        "bytes of a body",
        {size: _sizes(size) for size in (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)},
        (
            Chart(
                "bodies-sending",
                "Sent",
                ("send_message", "pika, confirmed"),
                "volume",
                "MB/s",
                higher=True,
            ),
            Chart(
                "bodies-consuming",
                "Consumed",
                ("ours, prefetch 50", "pika, prefetch 50"),
                "volume",
                "MB/s",
                higher=True,
            ),
        ),
    ),
)


def measure_scale(
    scale: Scale, broker: PrivateBroker, load: Load, rounds: int
) -> dict[int, Results]:
    """Measure each point in turn.

    Args:
        scale: what grows.
        broker: where to measure.
        load: how much to do in a round.
        rounds: how many rounds count.

    Returns:
        What was measured, point by point.
    """
    return {
        point: measure(experiment, broker, load, rounds)
        for point, experiment in scale.points.items()
    }


def curves_of(chart: Chart, points_of: Mapping[int, Mapping[str, Sequence[Sample]]]) -> list[Curve]:
    """Take the curves of a chart from the samples of each point."""
    curves = []
    for contender in chart.contenders:
        points = [
            (float(point), statistics.median(sample[chart.quantity] for sample in samples))
            for point, each in points_of.items()
            if (samples := each.get(contender))
        ]
        if points:
            curves.append(Curve(contender, tuple(points)))
    return curves


def as_text(scale: Scale, chart: Chart, curves: Sequence[Curve]) -> str:
    """Make a table for a person, a column for each point."""
    rows = [[f"{chart.title}, {chart.unit}", *(f"{point:,}" for point in scale.points)]]
    for curve in curves:
        found = dict(curve.points)
        cells = [number(found[point]) if point in found else "" for point in scale.points]
        rows.append([f"  {curve.label}", *cells])
    return table(rows)
