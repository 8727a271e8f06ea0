"""Find out whether a broker is there."""

from __future__ import annotations

import contextlib
import copy
import random
import socket
import time
from collections.abc import Callable, Sequence

import pika

from neon_mq_connector.backoff import OutageBackoff
from neon_mq_connector.errors import BrokerUnreachableError, MQConnectionError
from neon_mq_connector.link.translate import connect_error, servers
from neon_mq_connector.threads.quiet import quiet_pika
from neon_mq_connector.threads.signals import Flag

#: An attempt to connect is given this long, in seconds, however little time is left.
_SHORTEST_ATTEMPT = 0.5
#: After how long it is told for the second time that a broker is waited for, in seconds.
_TELL_AGAIN = 2.0


def is_port_open(address: str, port: int, *, timeout: float = 3.0) -> bool:
    """Whether something listens at a TCP port, found out within a timeout in seconds."""
    try:
        with socket.create_connection((address, int(port)), timeout=timeout):
            return True
    except OSError:
        return False


def open_blocking(parameters: Sequence[pika.connection.Parameters]) -> pika.BlockingConnection:
    """Open a pika connection to one of several servers, tried in random order.

    Raises:
        pika.exceptions.AMQPError: the failure at the last of the servers.
    """
    order = random.sample(list(parameters), len(parameters))
    for each in order[:-1]:
        try:
            return pika.BlockingConnection(each)
        except (pika.exceptions.AMQPError, OSError):
            continue
    return pika.BlockingConnection(order[-1])


@quiet_pika()
def check(parameters: Sequence[pika.connection.Parameters]) -> None:
    """Open a connection to one of several servers, and close it.

    Raises:
        BrokerUnreachableError: no server answers.
        AuthenticationError, VhostAccessError: a server answers and refuses.
    """
    try:
        connection = open_blocking(parameters)
    except Exception as error:
        raise connect_error(error, parameters) from error
    with contextlib.suppress(pika.exceptions.AMQPError):  # the broker has answered
        connection.close()


def wait_until_up(
    parameters: Sequence[pika.ConnectionParameters],
    timeout: float,
    stop: Flag | None = None,
    tell: Callable[[str], object] | None = None,
) -> MQConnectionError | None:
    """Wait until a broker answers, be it with a refusal.

    Args:
        parameters: one entry per server.
        timeout: how long at most, in seconds; it is looked at least once.
        stop: ends the wait when set.
        tell: called with what is waited for: at once, and again at growing intervals.

    Returns:
        None when the broker answered and accepted, its refusal, or the last failure to reach it
        (a `BrokerUnreachableError`).
    """
    began = time.monotonic()
    backoff = OutageBackoff(ceiling=2.0)
    stop = stop or Flag()
    where, tell_at = servers(parameters), _TELL_AGAIN
    if tell is not None:
        tell(f"waiting for the broker at {where}")
    while True:
        left = timeout - (time.monotonic() - began)
        try:
            check([_within(left, each) for each in parameters])
        except BrokerUnreachableError as error:
            elapsed = time.monotonic() - began
            delay = backoff.delay(elapsed)
            if elapsed + delay > timeout or stop.wait(delay):
                return error
            if tell is not None and elapsed >= tell_at:
                tell(f"still waiting for the broker at {where}, for {elapsed:.0f} s: {error}")
                tell_at = 2 * elapsed
        except MQConnectionError as error:
            return error
        else:
            return None


def _within(seconds: float, parameters: pika.connection.Parameters) -> pika.connection.Parameters:
    """Copy parameters with which an attempt to connect takes no longer than some time."""
    seconds = max(_SHORTEST_ATTEMPT, seconds)
    hurried = copy.copy(parameters)
    hurried.socket_timeout = min(seconds, parameters.socket_timeout or seconds)
    hurried.stack_timeout = min(seconds, parameters.stack_timeout or seconds)
    return hurried
