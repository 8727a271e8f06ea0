"""Where messages go that cannot be handled."""

from __future__ import annotations

import logging

import pika.exceptions as pika_errors
import pytest
from pika.spec import BasicProperties

from neon_mq_connector.consumers.parking import Parking, ParkingError
from neon_mq_connector.envelope import (
    PARKED_ATTEMPTS,
    PARKED_ERROR,
    PARKED_EXCHANGE,
    PARKED_EXPIRATION,
    PARKED_QUEUE,
    PARKED_ROUTING_KEY,
    PARKED_TRACEBACK,
)
from neon_mq_connector.errors import MQError, PublishTimeoutError, TopologyError, UnroutableError
from tests.unit.fakes import FakeConnections, as_connections, make_delivery

PARKING = Parking("q", "q.dead")


def boom(text: str = "boom") -> Exception:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_a_parked_message_says_what_happened_and_where_it_came_from() -> None:
    connections = FakeConnections()
    properties = BasicProperties(message_id="m", expiration="1000", headers={"mine": 1})
    delivery = make_delivery(1, b"bytes", properties, exchange="x", routing_key="k")
    PARKING.park(as_connections(connections), delivery, boom(), 3)
    (message,) = connections.publisher.messages
    assert (message.exchange, message.routing_key, message.body) == ("", "q.dead", b"bytes")
    assert message.mandatory
    headers = message.properties.headers
    assert headers[PARKED_ERROR] == "ValueError: boom"
    assert "raise ValueError" in headers[PARKED_TRACEBACK]
    assert headers[PARKED_QUEUE] == "q"
    assert headers[PARKED_EXCHANGE] == "x"
    assert headers[PARKED_ROUTING_KEY] == "k"
    assert headers[PARKED_ATTEMPTS] == 3
    assert headers[PARKED_EXPIRATION] == "1000"
    assert headers["mine"] == 1
    assert message.properties.expiration is None


def test_a_huge_error_fits_into_the_headers() -> None:
    connections = FakeConnections()
    PARKING.park(as_connections(connections), make_delivery(1), boom("ä" * 1_000_000), 1)
    headers = connections.publisher.messages[0].properties.headers
    assert sum(len(str(value).encode()) for value in headers.values()) < 32_768


def test_a_message_that_was_parked_before_tells_of_the_last_failure() -> None:
    connections = FakeConnections()
    properties = BasicProperties(headers={PARKED_ERROR: "old", PARKED_ATTEMPTS: 9})
    PARKING.park(as_connections(connections), make_delivery(1, b"", properties), boom("new"), 1)
    headers = connections.publisher.messages[0].properties.headers
    assert headers[PARKED_ERROR] == "ValueError: new"
    assert headers[PARKED_ATTEMPTS] == 1


@pytest.mark.parametrize(
    "refusal",
    [
        UnroutableError("there is no such queue", may_have_arrived=False),
        PublishTimeoutError("late", may_have_arrived=True),
    ],
    ids=repr,
)
def test_what_is_not_confirmed_is_not_parked(refusal: MQError) -> None:
    connections = FakeConnections()
    connections.publisher.refusal = refusal
    with pytest.raises(ParkingError, match=r"queue 'q'.*'q\.dead'") as caught:
        PARKING.park(as_connections(connections), make_delivery(1), boom(), 1)
    assert caught.value.__cause__ is refusal


def test_a_dead_queue_that_may_not_be_declared_is_used_if_it_is_there() -> None:
    connections = FakeConnections()
    connections.control.refusal = TopologyError("403")
    PARKING.park(as_connections(connections), make_delivery(1), boom(), 1)
    assert len(connections.publisher.messages) == 1


def test_pikas_own_refusal_is_told_as_parking_error(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = FakeConnections()

    def refuse(*_: object, **__: object) -> None:
        raise pika_errors.ChannelClosedByBroker(404, "NOT_FOUND")

    monkeypatch.setattr(connections.publisher, "publish", refuse)
    with pytest.raises(ParkingError):
        PARKING.park(as_connections(connections), make_delivery(1), boom(), 1)


def test_an_error_that_cannot_be_printed_is_parked_all_the_same() -> None:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    connections = FakeConnections()
    PARKING.park(as_connections(connections), make_delivery(1), UnprintableError(), 1)
    assert len(connections.publisher.messages) == 1


def test_the_log_names_queue_message_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    properties = BasicProperties(message_id="the-id")
    with caplog.at_level(logging.WARNING, logger="neon_mq_connector"):
        PARKING.park(
            as_connections(FakeConnections()), make_delivery(1, b"secret", properties), boom(), 2
        )
    assert all(word in caplog.text for word in ("'q'", "'q.dead'", "the-id", "ValueError: boom"))
    assert "secret" not in caplog.text
