"""Which messages RabbitMQ refuses by which words; each text here is one that it has said."""

from __future__ import annotations

import pika.exceptions as pika_errors
import pytest
from pika.spec import BasicProperties

from neon_mq_connector.errors import (
    ChannelShutError,
    ConnectionLostError,
    MQError,
    PublishError,
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


@pytest.mark.parametrize(
    "code, text, refused, kind, hint",
    [
        (
            403,
            "ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/v' refused for "
            "user 'u'x'",
            {"default"},
            PublishRefusedError,
            "rabbitmqctl set_permissions -p '/v' 'u'x' .* matches 'amq.default'",
        ),
        (
            403,
            "ACCESS_REFUSED - access to exchange 'it's' in vhost '/v' refused for user 'u' by "
            "backend x",
            {"fanout"},
            PublishRefusedError,
            "rabbitmqctl set_permissions -p '/v' 'u' .* matches \"it's\"",
        ),
        (
            403,
            "ACCESS_REFUSED - write access to topic 'b' in exchange 'topic' in vhost '/v' refused "
            "for user 'u'",
            {"topic b"},
            PublishRefusedError,
            "rabbitmqctl set_topic_permissions -p '/v' 'u' 'topic' .* matches 'b'",
        ),
        (
            403,
            "ACCESS_REFUSED - cannot publish to internal exchange 'topic' in vhost '/v'",
            {"topic a", "topic b"},
            PublishRefusedError,
            "internal",
        ),
        (
            404,
            "NOT_FOUND - no exchange 'topic' in vhost '/v'",
            {"topic a", "topic b"},
            UnroutableError,
            "NOT_FOUND",
        ),
        (
            406,
            "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000",
            {"large"},
            PublishRefusedError,
            "configured max size 1000",
        ),
        (
            406,
            "PRECONDITION_FAILED - user_id property set to 'z' but authenticated user was 'u'",
            {"as z"},
            PublishRefusedError,
            "authenticated user was 'u'",
        ),
        (406, "PRECONDITION_FAILED - unknown delivery tag 7", set(), PublishError, ""),
        (403, "ACCESS_REFUSED - write access to exchange 'nnn...", set(), PublishError, ""),
    ],
)
def test_the_messages_that_are_wrong_in_this_way_are_refused_and_no_others(
    code: int, text: str, refused: set[str], kind: type[PublishError], hint: str
) -> None:
    refusal = refusal_of(closed(code, text))
    errors = {name: refusal(message) for name, message in _MESSAGES.items()}
    assert {name for name in errors if errors[name] is not None} == refused
    for name in refused:
        with pytest.raises(kind, match=hint) as caught:
            raise errors[name] or AssertionError
        assert not caught.value.may_have_arrived


def test_a_line_that_breaks_refuses_nothing() -> None:
    refusal = refusal_of(ConnectionLostError("exchange 'topic' in vhost '/v'"))
    assert not any(refusal(message) for message in _MESSAGES.values())
