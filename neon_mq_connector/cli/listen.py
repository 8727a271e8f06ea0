"""`neon-mq listen`: print what is published to an exchange, or what comes in a queue."""

from __future__ import annotations

import enum
import re
import threading
from collections.abc import Callable
from typing import Any

import click
import pika.exceptions as pika_errors

from neon_mq_connector.cli.connection import Connection
from neon_mq_connector.cli.exits import ExitCode
from neon_mq_connector.cli.failures import CommandError
from neon_mq_connector.cli.messages import ReceivedMessage, print_message
from neon_mq_connector.cli.options import checked_name, connection_options
from neon_mq_connector.cli.terminal import note, progress, warn
from neon_mq_connector.cli.waiting import StopRequest
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.control.control import Control
from neon_mq_connector.topology import PRECONDITION_FAILED

_NAME = "listen"
_PREFETCH = 50
_LOOK_EVERY = 0.2

_CURRENT_TYPE = re.compile(r"arg 'type'.*current is '(?P<type>[^']+)'")


class ExchangeKind(enum.Enum):
    """How an exchange decides which queues get a message."""

    FANOUT = "fanout"
    DIRECT = "direct"
    TOPIC = "topic"
    HEADERS = "headers"


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
    type=click.Choice([each.value for each in ExchangeKind]),
    default=ExchangeKind.FANOUT.value,
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
        connection.check()
        source = (
            _exchange_of(connection, exchange, ExchangeKind(exchange_type), routing_keys)
            if exchange
            else _queue_of(connection, queue or "", make=make_queue)
        )

    def show(message: ReceivedMessage) -> None:
        print_message(message, as_json=as_json, with_headers=with_headers)

    Listener(connection, source, show, count=count).run()


class _Source(dict[str, Any]):
    """Arguments of `register_consumer`, with words for what is listened to."""

    def __init__(self, described: str, **arguments: Any) -> None:
        super().__init__(arguments)
        self.described = described


def _exchange_of(
    connection: Connection, name: str, wanted: ExchangeKind, keys: tuple[str, ...]
) -> _Source:
    with connection.control() as control:
        kind = _find_exchange(control, name, wanted, timeout=connection.settings.operation_timeout)
    if kind is ExchangeKind.DIRECT and not keys:
        raise CommandError(
            f"exchange {name!r} is a direct one, which delivers by routing key: give --routing-key",
            ExitCode.USAGE,
        )
    if kind is ExchangeKind.TOPIC:
        keys = keys or ("#",)
    return _Source(
        f"{kind.value} exchange {name!r}",
        queue="",
        exchange=name,
        exchange_type=kind.value,
        routing_keys=keys,
    )


def _queue_of(connection: Connection, name: str, *, make: bool) -> _Source:
    with connection.control() as control:
        status = connection.find_queue(control, name)
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
    return _Source(f"queue {name!r}", queue=name)


class Listener:
    """Consume and print until a signal comes, enough was printed, or nobody reads any more.

    `_printing` owns the count; callbacks hold it while they print.
    """

    def __init__(
        self,
        connection: Connection,
        source: _Source,
        show: Callable[[ReceivedMessage], object],
        *,
        count: int | None,
    ) -> None:
        self._connection = connection
        self._source = source
        self._show = show
        self._left = count
        self._stop = StopRequest()
        self._printing = threading.Lock()
        self._failure: Exception | None = None
        self._attached = False
        self._announced = False
        self._connector = connection.connector(MQConnector)

    def run(self) -> None:
        """Listen; returns in good order.

        Raises:
            CommandError: the broker would not let us consume.
        """
        self._connector.register_consumer(
            _NAME,
            self._connection.vhost,
            callback=self._on_message,
            on_error=self._on_error,
            ack="manual",
            prefetch_count=1 if self._left else _PREFETCH,
            **self._source,
        )
        with self._stop:
            try:
                with progress(f"subscribing to {self._source.described}"):
                    self._connector.run_consumers()
                self._must_consume()
                self._watch()
            finally:
                self._connector.stop()
        if self._failure is not None:
            raise self._failure

    def _must_consume(self) -> None:
        # the library would try again for ever; here somebody looks on who can do something
        consumer = self._connector.consumers[_NAME]
        if not consumer.is_consuming and not self._stop.is_set:
            self._stop.set()
            raise CommandError(
                f"{self._source.described}: {consumer.snapshot.reason}", ExitCode.REFUSED
            )
        self._attached = True

    def _watch(self) -> None:
        consumer = self._connector.consumers[_NAME]
        where = f"{self._source.described} on {self._connection.where}{self._shown_vhost()}"
        while not self._stop.is_set:
            consuming = consumer.is_consuming
            if consuming and not self._announced:
                self._announced = True
                note(f"listening to {where}; Ctrl-C ends it")
            elif not consuming and not consumer.is_consumer_alive:
                raise CommandError(f"{where}: {consumer.snapshot.reason}", ExitCode.REFUSED)
            self._stop.wait(_LOOK_EVERY)

    def _shown_vhost(self) -> str:
        return f", virtual host {self._connection.vhost!r}"

    def _on_message(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        with self._printing:
            if self._stop.is_set:
                return  # not acknowledged: it goes back when the channel closes
            message = ReceivedMessage(
                bytes(body), method.exchange, method.routing_key, properties, method.redelivered
            )
            try:
                self._show(message)
            except BrokenPipeError:
                self._stop.set()
                return
            except Exception as error:
                self._failure = error
                self._stop.set()
                return
            channel.basic_ack(method.delivery_tag)
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    self._stop.set()

    def _on_error(self, _thread: Any, error: BaseException) -> None:
        if self._attached and not self._stop.is_set:
            self._announced = False  # an outage may be shorter than a look
            warn(f"interrupted, trying again: {error}")


def _find_exchange(
    control: Control, name: str, wanted: ExchangeKind, *, timeout: float
) -> ExchangeKind:
    """Look an exchange up; one that does not exist is declared.

    AMQP tells its type only by refusing to declare it with another.

    Args:
        control: where to ask.
        name: of the exchange.
        wanted: the type to declare it with.
        timeout: seconds.

    Returns:
        The type that it has. For one of a plugin's types, the wanted one.

    Raises:
        pika.exceptions.ChannelClosedByBroker: the broker refused, e.g. for lack of permission.
        MQConnectionError: there is no connection.
    """
    try:
        control.call(
            f"declaring exchange {name!r}",
            lambda channel: channel.exchange_declare(name, exchange_type=wanted.value),
            timeout=timeout,
        )
    except pika_errors.ChannelClosedByBroker as refusal:
        if refusal.reply_code != PRECONDITION_FAILED:
            raise
        found = _CURRENT_TYPE.search(refusal.reply_text)
        kinds = {kind.value: kind for kind in ExchangeKind}
        # other words: it is of the wanted type and differs elsewhere, in being durable as a rule
        return kinds.get(found["type"], wanted) if found else wanted
    return wanted
