"""pika's exceptions as ours."""

from __future__ import annotations

import socket
from ssl import SSLError

import pika
import pika.exceptions as pika_errors
import pytest
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorPhaseErrorBase,
    AMQPConnectorSocketConnectError,
)

from neon_mq_connector.errors import (
    BrokerUnreachableError,
    ChannelShutError,
    ConnectionLostError,
    MQConnectionError,
    VhostAccessError,
)
from neon_mq_connector.link.translate import connect_error, loss_error, refused_for_good


def translated(error: BaseException) -> MQConnectionError:
    credentials = pika.PlainCredentials("me", "secret")
    return connect_error(error, [pika.ConnectionParameters("host", 5672, "/neon", credentials)])


@pytest.mark.parametrize(
    "said, is_for_good",
    [
        ("access to vhost '/neon' refused: connection limit (5) is reached", False),
        ("vhost /unlimited not found", True),
        ("vhost /rate_limit not found", True),
    ],
)
def test_a_broker_that_is_full_is_tried_again_and_a_virtual_host_may_have_any_name(
    said: str, is_for_good: bool
) -> None:
    refusal = translated(pika_errors.ConnectionClosedByBroker(530, f"NOT_ALLOWED - {said}"))
    assert refused_for_good(refusal) is isinstance(refusal, VhostAccessError) is is_for_good


@pytest.mark.parametrize(
    "error, said",
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "not known"),
        (pika_errors.IncompatibleProtocolError("HTTP"), "AMQP 0-9-1"),
        (
            # as pika wraps it, in quotes
            pika_errors.IncompatibleProtocolError(
                repr(f"lost: {SSLError(1, '[SSL: X] it is not valid for it. (_ssl.c:7)')!r}")
            ),
            "no broker answers at host:5672: [SSL: X] it is not valid for it.",
        ),
        (pika_errors.AMQPConnectionError(), "AMQPConnectionError"),
        (
            AMQPConnectionWorkflowFailed(
                [AMQPConnectorSocketConnectError(ConnectionRefusedError(111, "Connection refused"))]
            ),
            "Connection refused",
        ),
        (AMQPConnectorPhaseErrorBase(OSError("no route"), "socket"), "no route"),
    ],
    ids=repr,
)
def test_a_broker_out_of_reach_is_said_with_the_innermost_cause(
    error: BaseException, said: str
) -> None:
    result = translated(error)
    assert isinstance(result, BrokerUnreachableError)
    assert "host:5672" in str(result)
    assert said in str(result)
    assert not refused_for_good(result)


@pytest.mark.parametrize(
    "error, kind, said",
    [
        (pika_errors.ChannelClosedByBroker(404, "NOT_FOUND"), ChannelShutError, "NOT_FOUND"),
        (pika_errors.ChannelClosedByClient(0, "bye"), ChannelShutError, "bye"),
        (pika_errors.ConnectionClosedByBroker(320, "FORCED"), ConnectionLostError, "FORCED"),
        (pika_errors.AMQPHeartbeatTimeout("no heartbeat"), ConnectionLostError, "no heartbeat"),
        (ConnectionResetError(), ConnectionLostError, "ConnectionResetError"),
    ],
    ids=repr,
)
def test_a_loss_tells_channel_and_connection_apart(
    error: BaseException, kind: type[Exception], said: str
) -> None:
    result = loss_error(error, what="mq-io:/neon")
    assert type(result) is kind
    assert "mq-io:/neon" in str(result)
    assert said in str(result)
