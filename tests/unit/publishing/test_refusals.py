"""Which messages RabbitMQ refuses by which words; each text here is one that it has said."""

from __future__ import annotations

import pika.exceptions as pika_errors
import pytest
from pika.spec import BasicProperties

from neon_mq_connector.errors import (
    ChannelShutError,
    ConnectionLostError,
    MQError,
    PublishRefusedError,
    UnroutableError,
)
from neon_mq_connector.publishing.message import Message
from neon_mq_connector.publishing.refusals import refusal_of

_MESSAGES = {
    "default": Message("", "q", b"", BasicProperties()),
    "fanout": Message("it's", "", b"", BasicProperties()),
    "topic a": Message("topic", "a", b"", BasicProperties()),
    "topic b": Message("topic", "b", b"", BasicProperties()),
    "large": Message("other", "", bytes(1001), BasicProperties()),
    "as z": Message("other", "", b"", BasicProperties(user_id="z")),
}


def closed(code: int, text: str) -> MQError:
    error = ChannelShutError(f"the channel was closed by the broker: {text}")
    error.__cause__ = pika_errors.ChannelClosedByBroker(code, text)
    return error


_SET = "rabbitmqctl set_permissions -p '/v'"
_SET_TOPIC = "rabbitmqctl set_topic_permissions -p '/v' 'u' 'topic'"


@pytest.mark.parametrize(
    "text, refused, hint",
    [
        (
            "ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/v' refused for "
            "user 'u'x'",
            {"default"},
            f"{_SET} 'u'x' .* matches 'amq.default'",
        ),
        (
            "ACCESS_REFUSED - access to exchange 'it's' in vhost '/v' refused for user 'u' by "
            "backend x",
            {"fanout"},
            f"{_SET} 'u' .* matches \"it's\"",
        ),
        (
            "ACCESS_REFUSED - write access to topic 'b' in exchange 'topic' in vhost '/v' refused "
            "for user 'u'",
            {"topic b"},
            f"{_SET_TOPIC} .* matches 'b'",
        ),
        (
            "ACCESS_REFUSED - cannot publish to internal exchange 'topic' in vhost '/v'",
            {"topic a", "topic b"},
            "internal",
        ),
        ("NOT_FOUND - no exchange 'topic' in vhost '/v'", {"topic a", "topic b"}, "NOT_FOUND"),
        (
            "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000",
            {"large"},
            "configured max size 1000",
        ),
        (
            "PRECONDITION_FAILED - user_id property set to 'z' but authenticated user was 'u'",
            {"as z"},
            "authenticated user was 'u'",
        ),
        ("PRECONDITION_FAILED - unknown delivery tag 7", set(), ""),
        ("ACCESS_REFUSED - write access to exchange 'nnn...", set(), ""),
    ],
)
def test_the_messages_that_are_wrong_in_this_way_are_refused_and_no_others(
    text: str, refused: set[str], hint: str
) -> None:
    code = {"ACCESS_REFUSED": 403, "NOT_FOUND": 404}.get(text.split()[0], 406)
    refusal = refusal_of(closed(code, text))
    errors = {name: refusal(message) for name, message in _MESSAGES.items()}
    assert {name for name in errors if errors[name] is not None} == refused
    for name in refused:
        kind = UnroutableError if code == 404 else PublishRefusedError
        with pytest.raises(kind, match=hint) as caught:
            raise errors[name] or AssertionError
        assert not caught.value.may_have_arrived


def test_a_line_that_breaks_refuses_nothing() -> None:
    refusal = refusal_of(ConnectionLostError("exchange 'topic' in vhost '/v'"))
    assert not any(refusal(message) for message in _MESSAGES.values())
