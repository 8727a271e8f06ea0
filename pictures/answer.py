"""The way of a request and its answer, as it was seen on the wire."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from neon_mq_connector import MQConnector, create_mq_callback
from neon_mq_connector.service.shared_clients import close_shared_clients
from neon_mq_connector.testing import EmbeddedBroker
from neon_mq_connector.testing.polling import poll
from pictures.svg import Drawing
from pictures.wire import Event, Tap

_QUEUE = "greet_input"
_CLIENT, _BROKER, _SERVICE = 80, 410, 740
_STEPS = 6
_REPLY_TO = "amq.rabbitmq.reply-to"


class _Greeter(MQConnector):
    @create_mq_callback()
    def greet(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"text": f"Hello, {body['name']}!"}


def make() -> str:
    """Draw it.

    Raises:
        ValueError: it went otherwise than a picture can show.
    """
    steps = _record()
    height = 96 + 58 * len(steps)
    drawing = Drawing(820, height, "The way of a request and its answer")
    drawing.text(16, 26, "The way of a request and its answer", "title")
    for x, name in ((_CLIENT, "client"), (_BROKER, "broker"), (_SERVICE, "service")):
        drawing.box(x - 55, 42, 110, 28)
        drawing.text(x, 61, name, "bold", "middle")
        drawing.line(x, 70, x, height - 14, "grid")
    for place, (who, event) in enumerate(steps):
        y = 112 + 58 * place
        near, far = (who, _BROKER) if event.to_broker else (_BROKER, who)
        drawing.line(near, y, far - (4 if far > near else -4), y, arrow=True)
        for row, text in enumerate(_labels(event)):
            kind = "code small" if row == 0 else "faint small"
            drawing.text((near + far) / 2, y - 8 + 21 * row, text, kind, "middle")
    return str(drawing)


def _record() -> list[tuple[int, Event]]:
    """Ask a service that runs, and keep what passed: whose it is, and what."""
    with (
        EmbeddedBroker() as broker,
        closing(Tap(broker.port)) as near,
        closing(Tap(broker.port)) as far,
    ):
        service = _Greeter(_config(broker, far, "greeter"), "greeter")
        client = MQConnector(_config(broker, near, "client"), "client")
        with closing(_Ending(service, client)):
            service.register_consumer("greet", "/", _QUEUE, service.greet, ack="on_success")
            service.run(run_sync=False, run_observer=False)
            client.request({"name": "Ada"}, _QUEUE)  # opens what has to be opened
            near.wait_until_quiet()
            far.wait_until_quiet()
            near.events.clear()
            far.events.clear()
            client.request({"name": "Ada"}, _QUEUE)

            def seen() -> list[tuple[int, Event]]:
                found = [(_CLIENT, each) for each in list(near.events)]
                found += [(_SERVICE, each) for each in list(far.events)]
                return sorted(found, key=lambda each: each[1].moment)

            steps = poll(seen, lambda found: len(found) >= _STEPS)
    if len(steps) != _STEPS:
        raise ValueError(f"{_STEPS} steps were expected, not {[each.what for _, each in steps]}")
    return steps


class _Ending:
    def __init__(self, *connectors: MQConnector) -> None:
        self._connectors = connectors

    def close(self) -> None:
        for connector in self._connectors:
            connector.stop()
        close_shared_clients()


def _config(broker: EmbeddedBroker, tap: Tap, service: str) -> dict[str, Any]:
    user = {"user": broker.username, "password": broker.password}
    return {"server": tap.host, "port": tap.port, "users": {service: user}}


def _labels(event: Event) -> tuple[str, str]:
    head = event.what.lower()
    if event.properties is None:
        whose = "its connection that consumes" if event.to_broker else "the broker has the answer"
        return head, whose
    key = event.method.routing_key
    short = f"{_REPLY_TO}.…" if key.startswith(_REPLY_TO) else key
    notes = [f"correlation_id {event.properties.correlation_id}"]
    if key == _QUEUE and event.properties.reply_to:
        own = event.properties.reply_to == _REPLY_TO
        notes.insert(0, f"reply_to {_REPLY_TO}{'' if own else '.…'}")
    return f"{head} to {short}" if event.to_broker else f"{head}", ", ".join(notes)
