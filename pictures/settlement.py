"""What becomes of a message, from what was seen on the wire in runs of every kind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from neon_mq_connector import ExponentialBackoff, MQConnector, Retry
from neon_mq_connector.testing import EmbeddedBroker
from neon_mq_connector.testing.polling import poll
from pictures.graph import Move, Node, check, draw
from pictures.svg import Drawing
from pictures.wire import Event, Tap

_QUEUE = "q"
_PATIENCE = 20.0

_NODES = {
    "ready": Node(90, 130, ("in its queue", "ready"), 130),
    "here": Node(300, 130, ("in the service", "unacknowledged"), 140),
    "running": Node(540, 130, ("in its callback",), 140),
    "retry": Node(575, 280, ("waits for", "another try"), 110),
    "dropped": Node(90, 280, ("dropped", "or dead-lettered"), 140, last=True),
    "parked": Node(300, 280, ("in <queue>.dead", "parked"), 140, last=True),
    "done": Node(710, 280, ("acknowledged",), 120, last=True),
}
_MOVES = {
    ("ready", "here"): Move(("delivered",)),
    ("here", "running"): Move(("its turn",)),
    ("running", "done"): Move(("returned,", "or acked"), shift=(10, -8), anchor="start"),
    ("running", "retry"): Move(("raised",), bend=-14, shift=(-6, 14), anchor="end"),
    ("retry", "running"): Move(("due",), bend=-14, shift=(8, 0), anchor="start"),
    ("running", "parked"): Move(
        ("raised for", "the last time"), at=0.62, shift=(12, 6), anchor="start"
    ),
    ("running", "dropped"): Move(("rejected",), bend=18, at=0.62, shift=(0, -10), anchor="end"),
    ("here", "ready"): Move(("stop, lost connection",), bend=40, shift=(0, 15)),
    ("running", "ready"): Move(("nack with requeue, lost connection",), bend=-58, shift=(0, -6)),
}

#: A way of a message: the states through which it went.
Way = list[str]
Callback = Callable[..., None]


def make() -> str:
    """Draw it.

    Raises:
        ValueError: in the runs other moves were seen than are drawn.
    """
    found = {move for way in _ways() for move in pairwise(way)}
    check("the picture of a message", list(_MOVES), found)
    drawing = Drawing(790, 330, "What becomes of a message, from its queue to its settlement")
    drawing.text(16, 26, "What becomes of a message", "title")
    drawing.text(774, 26, 'ack="on_success" and "manual"', "faint code small", "end")
    draw(drawing, _NODES, _MOVES)
    return str(drawing)


@dataclass(frozen=True)
class _Run:
    """A service whose callback is watched, on a broker of its own."""

    broker: EmbeddedBroker
    tap: Tap
    connector: MQConnector

    def way(self) -> Way:
        """Wait until the message has come to an end, and return how.

        Raises:
            ValueError: it has not.
        """
        way = poll(lambda: _read(list(self.tap.events)), lambda found: _NODES[found[-1]].last)
        if not _NODES[way[-1]].last:
            raise ValueError(f"the message came no further than {way}")
        return way


@contextmanager
def _run(callback: Callback, ack: str, **retry: Any) -> Iterator[_Run]:
    with EmbeddedBroker() as broker, closing(Tap(broker.port)) as tap:
        user = {"user": broker.username, "password": broker.password}
        config = {"server": tap.host, "port": tap.port, "users": {"service": user}}
        connector = MQConnector(config, "service")

        def watched(channel: Any, method: Any, properties: Any, body: Any) -> None:
            tap.note("starts")
            callback(channel, method)

        connector.register_consumer(
            "c",
            connector.vhost,
            _QUEUE,
            watched,
            lambda *_: None,
            ack=ack,
            retry=Retry(attempts=2, backoff=ExponentialBackoff(first=0.05), **retry),
        )
        connector.run(run_sync=False, run_observer=False)
        try:
            yield _Run(broker, tap, connector)
        finally:
            connector.stop()


def _read(events: list[Event]) -> Way:
    way = ["ready"]
    for event in events:
        if event.what == "Basic.Deliver":
            way += ["ready", "here"] if way[-1] != "ready" else ["here"]
        elif event.what == "starts":
            way += ["retry", "running"] if way[-1] == "running" else ["running"]
        elif event.what == "Basic.Publish" and event.method.routing_key.endswith(".dead"):
            # the first comes back, since the queue is not there yet
            way += ["parked"] if way[-1] == "running" else []
        elif event.what == "Basic.Ack" and event.to_broker and way[-1] == "running":
            way.append("done")
        elif event.what in ("Basic.Nack", "Basic.Reject") and event.to_broker:
            way.append("ready" if event.method.requeue else "dropped")
    return way


def _settled(callback: Callback, ack: str, **retry: Any) -> Way:
    with _run(callback, ack, **retry) as run:
        run.connector.send_message({"n": 1}, queue=_QUEUE, expiration=None)
        return run.way()


def _return(*_: Any) -> None:
    pass


def _raise(*_: Any) -> None:
    raise ValueError("it does not work")


def _reject(channel: Any, method: Any) -> None:
    channel.basic_reject(method.delivery_tag, requeue=False)


def _requeue_once(channel: Any, method: Any) -> None:
    if method.redelivered:
        channel.basic_ack(method.delivery_tag)
    else:
        channel.basic_nack(method.delivery_tag)


def _cut_once() -> Way:
    """Cut the line while the message is in its callback."""
    runs: list[_Run] = []

    def cut(channel: Any, method: Any) -> None:
        if not method.redelivered:
            runs[0].tap.reset()

    with _run(cut, "on_success") as run:
        runs.append(run)
        run.connector.send_message({"n": 1}, queue=_QUEUE, expiration=None)
        return run.way()


def _stop_before_it_starts() -> Way:
    """Stop while the message waits behind another one, which is in its callback."""
    go_on = threading.Event()

    def block(*_: Any) -> None:
        go_on.wait(_PATIENCE)

    with _run(block, "on_success") as run:
        messages: list[dict[str, Any]] = [{"n": 1}, {"n": 2}]
        run.connector.publish_many(messages, queue=_QUEUE, expiration=60_000)
        both = [*["Basic.Deliver"] * 2, "starts"]
        poll(lambda: sorted(_whats(run)), lambda seen: seen == both)
        stopping = threading.Thread(target=run.connector.stop)
        stopping.start()
        go_on.set()
        stopping.join(_PATIENCE)
        left = {row["name"]: row["messages"] for row in run.broker.list_queues("/")}
        if left[_QUEUE] != 1:
            raise ValueError(f"the message that was not started is not in its queue: {left}")
        return ["ready", "here", "ready"]


def _whats(run: _Run) -> list[str]:
    return [each.what for each in list(run.tap.events) if each.what in ("Basic.Deliver", "starts")]


def _ways() -> list[Way]:
    return [
        _settled(_return, "on_success"),
        _settled(_raise, "on_success"),
        _settled(_raise, "on_success", park=False),
        _settled(_reject, "manual"),
        _settled(_requeue_once, "manual"),
        _cut_once(),
        _stop_before_it_starts(),
    ]
