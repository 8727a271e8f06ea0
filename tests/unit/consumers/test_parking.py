"""Where messages go that cannot be handled."""

from __future__ import annotations

import logging

import pika.exceptions as pika_errors
import pytest
from pika.spec import BasicProperties

from neon_mq_connector.consumers.parked_form import FailedMessage
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
from neon_mq_connector.errors import (
    ChannelShutError,
    MQError,
    PublishLostError,
    PublishRejectedError,
    PublishTimeoutError,
    UnroutableError,
)
from neon_mq_connector.link import Delivery
from neon_mq_connector.topology import Refusal
from tests.unit.fakes import FakeConnections, as_connections, make_delivery

PARKING = Parking("q", "q.dead")


def boom(text: str = "boom") -> Exception:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def park(
    connections: FakeConnections,
    delivery: Delivery | None = None,
    error: BaseException | None = None,
    attempts: int = 1,
) -> None:
    failed = FailedMessage.of(delivery or make_delivery(1), error or boom(), attempts)
    PARKING.park(as_connections(connections), failed, timeout=5.0)


def test_a_parked_message_says_what_happened_and_where_it_came_from() -> None:
    connections = FakeConnections()
    properties = BasicProperties(message_id="m", expiration="1000", headers={"mine": 1})
    delivery = make_delivery(1, b"bytes", properties, exchange="x", routing_key="k")
    park(connections, delivery, attempts=3)
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


def test_a_message_that_was_parked_before_tells_of_the_last_failure() -> None:
    connections = FakeConnections()
    properties = BasicProperties(headers={PARKED_ERROR: "old", PARKED_ATTEMPTS: 9})
    park(connections, make_delivery(1, b"", properties), boom("new"))
    headers = connections.publisher.messages[0].properties.headers
    assert headers[PARKED_ERROR] == "ValueError: new"
    assert headers[PARKED_ATTEMPTS] == 1


def refused_declare() -> MQError:
    error = UnroutableError("the broker refused to declare it", may_have_arrived=False)
    error.__cause__ = Refusal(403, "ACCESS_REFUSED")
    return error


@pytest.mark.parametrize(
    "refusal",
    [
        refused_declare(),
        PublishTimeoutError("late", may_have_arrived=True),
    ],
    ids=repr,
)
def test_what_is_not_confirmed_is_not_parked(refusal: MQError) -> None:
    connections = FakeConnections()
    connections.publisher.refusal = refusal
    with pytest.raises(ParkingError, match=r"queue 'q'.*'q\.dead'") as caught:
        park(connections)
    assert caught.value.__cause__ is refusal
    assert connections.publisher.attempts == 1, "in another form it would be refused, too"


def closed_by_broker() -> MQError:
    error = PublishLostError("the channel is closed", may_have_arrived=True)
    error.__cause__ = ChannelShutError("closed")
    error.__cause__.__cause__ = pika_errors.ChannelClosedByBroker(406, "PRECONDITION_FAILED")
    return error


@pytest.mark.parametrize(
    "refusal",
    [
        ValueError("it does not fit into a frame"),
        RecursionError(),
        closed_by_broker(),
        PublishRejectedError("no", may_have_arrived=False),
        UnroutableError("the queue was deleted just now", may_have_arrived=False),
    ],
    ids=repr,
)
def test_what_is_refused_for_its_headers_is_parked_without_them(refusal: Exception) -> None:
    connections = FakeConnections()
    connections.publisher.refusals = [refusal, refusal]
    properties = BasicProperties(headers={"mine": 1}, message_id="m")
    park(connections, make_delivery(1, b"body", properties))
    (message,) = connections.publisher.messages
    assert message.body == b"body"
    assert message.properties.message_id == "m"
    assert "mine" not in message.properties.headers
    assert message.properties.headers[PARKED_ERROR] == "ValueError: boom"


def test_pikas_own_refusal_is_told_as_parking_error(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = FakeConnections()

    def refuse(*_: object, **__: object) -> None:
        raise pika_errors.ChannelClosedByBroker(404, "NOT_FOUND")

    monkeypatch.setattr(connections.publisher, "publish", refuse)
    with pytest.raises(ParkingError):
        park(connections)


def test_the_log_names_queue_message_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    properties = BasicProperties(message_id="the-id")
    with caplog.at_level(logging.WARNING, logger="neon_mq_connector"):
        park(FakeConnections(), make_delivery(1, b"secret", properties), attempts=2)
    assert all(word in caplog.text for word in ("'q'", "'q.dead'", "the-id", "ValueError: boom"))
    assert "secret" not in caplog.text
