"""`neon-mq send`: put a message into a queue or publish it to an exchange."""

from __future__ import annotations

from typing import Any

import click

from neon_mq_connector.cli.connection import COMMAND, Connection
from neon_mq_connector.cli.json_input import read_object
from neon_mq_connector.cli.options import Seconds, checked_name, connection_options
from neon_mq_connector.cli.terminal import note, progress
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.connections import Connections
from neon_mq_connector.control.probe import check
from neon_mq_connector.publishing.encoded_message import encode_message
from neon_mq_connector.publishing.message import Destination
from neon_mq_connector.topology import check_name

_CLOSE_TIMEOUT = 3.0
_FANOUT = "fanout"
#: Seconds; a broker takes no message that expires later (2**32 ms).
_LONGEST_EXPIRY = 4_294_967


@click.command("send", short_help="Send a message, confirmed by the broker.")
@click.argument("arguments", metavar="[QUEUE] JSON", nargs=-1, required=True)
@click.option("--exchange", callback=checked_name, metavar="NAME", help="Publish to this exchange.")
@click.option(
    "--type",
    "exchange_type",
    type=click.Choice([_FANOUT, "direct", "topic"]),
    default=_FANOUT,
    show_default=True,
    help="The type to declare the exchange with, if it does not exist.",
)
@click.option(
    "--expires",
    type=Seconds(min=0.001, max=_LONGEST_EXPIRY),
    metavar="SECONDS",
    help="The broker drops the message when nobody took it for so long.  [default: never]",
)
@click.option(
    "--format",
    "wire_format",
    type=click.Choice([each.value for each in WireFormat]),
    help="How to write the message.  [default: wire_format of the configuration, legacy]",
)
@connection_options
def command(
    connection: Connection,
    *,
    arguments: tuple[str, ...],
    exchange: str | None,
    exchange_type: str,
    expires: float | None,
    wire_format: str | None,
) -> None:
    """Send a message to QUEUE, wait until the broker has it, and print its message id.

    A queue that does not exist is made. With --exchange the message goes to everybody who listens
    there; for a direct or topic exchange, QUEUE is the routing key.

    \b
    Examples:
      neon-mq send my_queue '{"text": "hello"}'
      neon-mq send --exchange news @bulletin.json
      neon-mq send --exchange events --type topic user.created '{"name": "Ada"}'
    """
    key, data = _split(arguments, exchange, exchange_type)
    encoded = encode_message(
        data,
        wire_format=WireFormat(wire_format or connection.settings.wire_format),
        expiration=None if expires is None else expires * 1000,
        app_id=COMMAND,
    )
    is_new = False
    with progress(f"sending to {connection.where}"):
        if exchange:
            check(connection.parameters())
        else:
            is_new = connection.find_queue(key) is None
        connections = Connections(connection.parameters(), owner=COMMAND)
        try:
            destination = Destination(exchange or "", key, exchange_type)
            message = destination.message(encoded)
            if exchange and key:
                # the queue is not declared: it would exist though nothing consumes it
                message = message._replace(declare=lambda _: destination.declare_exchange())
            connections.publisher.publish(message, timeout=connection.settings.publish_timeout)
        finally:
            connections.close(_CLOSE_TIMEOUT)
    if is_new:
        note(f"queue {key!r} did not exist in virtual host {connection.vhost!r}; it was made")
    click.echo(encoded.message_id)


def _split(
    arguments: tuple[str, ...], exchange: str | None, exchange_type: str
) -> tuple[str, dict[str, Any]]:
    """Return the routing key and the message; the key is empty for a fanout exchange."""
    *keys, text = arguments
    data = read_object(text)
    if exchange and exchange_type == _FANOUT:
        if keys:
            raise click.UsageError(
                "a fanout exchange knows no QUEUE: leave it out, or give --type direct or topic"
            )
        return "", data
    if len(keys) != 1:
        kind = f"a {exchange_type} exchange needs a routing key" if exchange else "name one QUEUE"
        raise click.UsageError(f"{kind}, then one JSON object")
    try:
        check_name("routing key" if exchange else "queue", keys[0])
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    return keys[0], data
