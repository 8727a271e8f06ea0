"""The threads and connections of a service, as they are in one that runs."""

from __future__ import annotations

import threading
from typing import Any

from neon_mq_connector import MQConnector, create_mq_callback
from neon_mq_connector.service.shared_clients import close_shared_clients
from neon_mq_connector.testing import EmbeddedBroker
from neon_mq_connector.testing.polling import poll
from pictures.svg import Drawing

#: What each thread does, by the start of its name, in the order in which they are shown; and the
#: connection that is its own.
_THREADS: tuple[tuple[str, str, str], ...] = (
    ("greet", "a consumer: runs its callbacks", ""),
    ("work", "a consumer, concurrency=2: its workers run callbacks", ""),
    ("slow", "a consumer whose callback is a coroutine", ""),
    ("news", "a subscriber", ""),
    ("mq-asyncio:", "the loop of all coroutines", ""),
    ("mq-io:", "reads and settles, sends heartbeats", "consuming"),
    ("mq-io-answers:", "the same, for queues that answer much", "answering"),
    ("mq-publisher:", "sends messages, reads their confirms", "publishing"),
    ("mq-requests:", "sends requests, reads their answers", "requests"),
    ("mq-control:", "declares, binds, deletes, counts", "control"),
    ("mq-replies:", "tells futures of answers", ""),
    ("mq-futures:", "tells futures of confirms", ""),
    ("mq-watch:", "looks whether consumers are alive", ""),
    ("mq-sync:", "publishes the presence of the service", ""),
    ("mq-observe_consumers:", "the observer of earlier releases", ""),
)
_ROW, _TOP = 25, 84


class _Service(MQConnector):
    @create_mq_callback()
    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"text": f"Hello, {body.get('name')}!"}

    @create_mq_callback()
    async def answer_later(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"text": f"Hello, {body.get('name')}!"}

    @create_mq_callback()
    def on_news(self, body: dict[str, Any]) -> None:
        """Read them."""


def make() -> str:
    """Draw them.

    Raises:
        ValueError: a thread runs of which nothing is said here, or one does not that is.
    """
    names, connections = _look()
    rows = [_row(each, names, connections) for each in _THREADS]
    if unknown := [name for name in names if not any(name.startswith(t[0]) for t in _THREADS)]:
        raise ValueError(f"nothing is said of the threads {unknown}")
    height = _TOP + _ROW * len(rows) + 24
    drawing = Drawing(820, height, "The threads and connections of a service")
    drawing.text(16, 26, "The threads and connections of a service", "title")
    drawing.box(14, 42, 600, height - 56)
    drawing.text(28, 64, "process", "bold")
    drawing.box(716, 42, 90, height - 56)
    drawing.column(761, height / 2, ("RabbitMQ",), "bold")
    for place, (name, what, connection) in enumerate(rows):
        y = _TOP + _ROW * place + 12
        drawing.text(28, y, name, "code small")
        drawing.text(250, y, what, "faint")
        if connection:
            drawing.line(600, y - 4, 716, y - 4, "curve ours")
            drawing.text(665, y - 9, connection, "small", "middle")
    return str(drawing)


def _row(
    each: tuple[str, str, str], names: list[str], connections: list[str]
) -> tuple[str, str, str]:
    prefix, what, connection = each
    found = [name for name in names if name.startswith(prefix)]
    if not found:
        raise ValueError(f"no thread {prefix!r} runs, of {names}")
    if not connection:
        return _together(found), what, ""
    count = connections.count(connection)
    if count != len(found):
        raise ValueError(f"{len(found)} threads {prefix!r} have {count} connections {connection!r}")
    return _together(found), what, connection if count == 1 else f"{connection} ×{count}"


def _together(found: list[str]) -> str:
    if len(set(found)) == 1:
        return found[0] if len(found) == 1 else f"{found[0]} ×{len(found)}"
    first, *others = sorted(found)
    return f"{first}, {others[0]} … {others[-1][-1]}"


def _look() -> tuple[list[str], list[str]]:
    """Run a service that uses everything; list its threads, and its connections at the broker."""
    with EmbeddedBroker() as broker:
        before = set(threading.enumerate())
        user = {"user": broker.username, "password": broker.password}
        config = {"server": broker.host, "port": broker.port, "users": {"greeter": user}}
        service = _Service(config, "greeter")
        register = service.register_consumer
        register("greet", "/", "greet_input", service.answer, ack="on_success")
        register("work", "/", "work_input", service.answer, concurrency=2)
        register("slow", "/", "slow_input", service.answer_later)
        service.register_subscriber("news", "/", service.on_news, exchange="news")
        service.run()
        try:
            service.submit_message({"n": 1}, queue="work_input").result(10)

            def answers_much() -> bool:
                asked = [service.submit_request({"n": 1}, "greet_input") for _ in range(200)]
                return all(each.result(10) for each in asked) and any(
                    name.startswith("mq-io-answers:") for name in _names(before)
                )

            poll(answers_much, bool)
            connections = [
                str(each["user_provided_name"]).removeprefix("greeter ")
                for each in broker.list_connections()
            ]
            return _names(before), connections
        finally:
            service.stop()
            close_shared_clients()


def _names(before: set[threading.Thread]) -> list[str]:
    return [each.name for each in threading.enumerate() if each not in before]
