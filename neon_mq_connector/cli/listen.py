"""`neon-mq listen`: print what is published to an exchange, or what comes in a queue."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any

import click
from pika.exchange_type import ExchangeType
from pika.spec import PRECONDITION_FAILED

from neon_mq_connector.cli.connection import Connection
from neon_mq_connector.cli.exits import CommandError, ExitCode
from neon_mq_connector.cli.messages import ReceivedMessage, print_message
from neon_mq_connector.cli.options import checked_name, connection_options
from neon_mq_connector.cli.terminal import note, progress, warn
from neon_mq_connector.cli.waiting import StopRequest
from neon_mq_connector.operations.queues import open_control
from neon_mq_connector.topology import Exchange, Refusal

_NAME = "listen"
_PREFETCH = 50
_POLL_INTERVAL = 0.2

_CURRENT_TYPE = re.compile(r"arg 'type'.*current is '(?P<type>[^']+)'")


@click.command("listen")
@click.option(
    "--exchange", callback=checked_name, metavar="NAME", help="Subscribe to this exchange."
)
@click.option(
    "--queue", callback=checked_name, metavar="NAME", help="Take the messages of this queue."
)
@click.option("--make-queue", is_flag=True, help="If the queue does not exist, make it.")
@click.option(
    "--routing-key",
    "routing_keys",
    multiple=True,
    callback=checked_name,
    metavar="KEY",
    help="Only messages with this routing key, of a direct or topic exchange; may be repeated.  "
    "[default: all of a topic exchange]",
)
@click.option(
    "--type",
    "exchange_type",
    type=click.Choice(["fanout", "direct", "topic", "headers"]),
    default="fanout",
    show_default=True,
    help="The type to declare the exchange with, if it does not exist.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option("--headers", "with_headers", is_flag=True, help="Print the AMQP headers, too.")
@click.option(
    "--count", type=click.IntRange(min=1), metavar="N", help="End after so many messages."
)
@connection_options
def command(
    connection: Connection,
    *,
    exchange: str | None,
    queue: str | None,
    make_queue: bool,
    routing_keys: tuple[str, ...],
    exchange_type: str,
    as_json: bool,
    with_headers: bool,
    count: int | None,
) -> None:
    """Print messages as they come, until Ctrl-C.

    With --exchange every listener gets every message, and nobody else misses one. With --queue the
    messages are TAKEN: each is acknowledged once it is printed, and its service does not get it.
    A queue that does not exist is an error, unless --make-queue is given.

    Each line of --json has body, format, exchange, routing_key, message_id, correlation_id,
    app_id, content_type, headers, redelivered and time (when it came, UTC). Of a body that cannot
    be read there are base64 and error instead of format.

    \b
    Examples:
      neon-mq listen --exchange news
      neon-mq listen --exchange events --routing-key 'user.*' --json | jq .body
      neon-mq listen --queue my_queue.dead --headers --count 1
    """
    if bool(exchange) == bool(queue):
        raise click.UsageError("give either --exchange NAME or --queue NAME")
    if queue and routing_keys:
        raise click.UsageError(
            "--routing-key is for --exchange: a queue's messages come as they are"
        )
    if make_queue and not queue:
        raise click.UsageError(
            "--make-queue is for --queue: an exchange is made where it is missing"
        )
    with progress(f"connecting to {connection.where}"):
        if exchange:
            described, arguments = _exchange(connection, exchange, exchange_type, routing_keys)
        else:
            described, arguments = _queue(connection, queue or "", make=make_queue)
    Listener(connection, described, as_json=as_json, with_headers=with_headers, count=count).run(
        arguments
    )


def _exchange(
    connection: Connection, name: str, wanted: str, keys: tuple[str, ...]
) -> tuple[str, dict[str, Any]]:
    """Return what is listened to, in words and as arguments of `register_consumer`."""
    kind = _exchange_type(connection, name, wanted)
    if kind == ExchangeType.direct.value and not keys:
        raise CommandError(
            f"exchange {name!r} is a direct one, which delivers by routing key: give --routing-key",
            ExitCode.USAGE,
        )
    if kind == ExchangeType.topic.value:
        keys = keys or ("#",)
    arguments = {"queue": "", "exchange": name, "exchange_type": kind, "routing_keys": keys}
    return f"{kind} exchange {name!r}", arguments


def _exchange_type(connection: Connection, name: str, wanted: str) -> str:
    """Declare an exchange, and return the type that it has.

    AMQP tells the type of one that exists only by refusing to declare it with another. For one of a
    plugin's types the wanted one is returned.
    """
    try:
        with open_control(connection.parameters()) as control:
            control.perform_step(
                Exchange(name, wanted).declare(),
                timeout=connection.settings.operation_timeout,
            )
    except Refusal as refusal:
        if refusal.code != PRECONDITION_FAILED:
            raise refusal.__cause__ or refusal from refusal
        # other words: it is of the wanted type and differs elsewhere, in being durable as a rule
        found = _CURRENT_TYPE.search(refusal.text)
        if found and found["type"] in {each.value for each in ExchangeType}:
            return found["type"]
    return wanted


def _queue(connection: Connection, name: str, *, make: bool) -> tuple[str, dict[str, Any]]:
    """Return the queue in words, and as arguments of `register_consumer`."""
    status = connection.find_queue(name)
    if status is None:
        if not make:
            raise CommandError(
                f"there is no queue {name!r} in virtual host {connection.vhost!r} at "
                f"{connection.where}; name another queue or --vhost, or give --make-queue",
                ExitCode.REFUSED,
            )
        note(f"queue {name!r} did not exist in virtual host {connection.vhost!r}; it is made")
    elif status.consumers:
        warn(f"queue {name!r} has {status.consumers} more consumers: messages are shared out")
    warn(f"each message is taken from queue {name!r}: nobody else gets it")
    return f"queue {name!r}", {"queue": name}


class Listener:
    """Consume and print until a signal comes, enough was printed, or the output is closed.

    `_printing` owns the count and the failure; callbacks hold it while they print.
    """

    def __init__(
        self,
        connection: Connection,
        described: str,
        *,
        as_json: bool,
        with_headers: bool,
        count: int | None,
    ) -> None:
        self._described = described
        self._where = f"{described} on {connection.where}, virtual host {connection.vhost!r}"
        self._vhost = connection.vhost
        self._as_json = as_json
        self._with_headers = with_headers
        self._left = count
        self._stop = StopRequest()
        self._printing = threading.Lock()
        self._failure: Exception | None = None
        self._has_consumed = False
        self._announced = False
        self._connector = connection.connector()

    def run(self, arguments: Mapping[str, Any]) -> None:
        """Listen until the end; raises `CommandError` if the broker refuses the consumer."""
        self._connector.register_consumer(
            _NAME,
            self._vhost,
            callback=self._on_message,
            on_error=self._on_error,
            ack="manual",
            prefetch_count=1 if self._left else _PREFETCH,
            **arguments,
        )
        with self._stop:
            try:
                with progress(f"subscribing to {self._described}"):
                    self._connector.run_consumers()
                self._watch()
            finally:
                self._connector.stop()
        if self._failure is not None:
            raise self._failure

    def _watch(self) -> None:
        consumer = self._connector.consumers[_NAME]
        while not self._stop.is_set():
            if consumer.is_consuming:
                self._has_consumed = True
                if not self._announced:
                    self._announced = True
                    note(f"listening to {self._where}; Ctrl-C ends it")
            elif not (self._has_consumed and consumer.is_consumer_alive):
                # it would try again for ever; here is a user who can do something at once
                raise CommandError(f"{self._where}: {consumer.snapshot.reason}", ExitCode.REFUSED)
            self._stop.wait(_POLL_INTERVAL)

    def _on_message(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        with self._printing:
            if self._stop.is_set():
                return  # not acknowledged: it goes back when the channel closes
            message = ReceivedMessage(
                bytes(body), method.exchange, method.routing_key, properties, method.redelivered
            )
            try:
                print_message(message, as_json=self._as_json, with_headers=self._with_headers)
            except Exception as error:
                if not isinstance(error, BrokenPipeError):  # the reader of the pipe has gone
                    self._failure = error
                self._stop.set()
                return
            channel.basic_ack(method.delivery_tag)
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    self._stop.set()

    def _on_error(self, _thread: Any, error: BaseException) -> None:
        if self._has_consumed and not self._stop.is_set():
            self._announced = False  # an outage may be shorter than a look
            warn(f"interrupted, trying again: {error}")
