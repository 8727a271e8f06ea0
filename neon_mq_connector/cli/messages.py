"""A message as `neon-mq listen` shows it: one JSON object, or a few lines for a person."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import click

from neon_mq_connector.cli.json_output import to_json
from neon_mq_connector.cli.terminal import print_json, print_pretty
from neon_mq_connector.codec import decode_body
from neon_mq_connector.errors import DecodeError

#: The AMQP properties that are shown.
_SHOWN = ("message_id", "correlation_id", "app_id", "content_type", "headers")


@dataclass(frozen=True)
class ReceivedMessage:
    """A message as it was delivered.

    Attributes:
        raw: the bytes of its body.
        exchange: where it was published; empty for the default exchange.
        routing_key: its routing key, or the name of the queue.
        properties: its AMQP properties.
        redelivered: whether it was delivered before.
        time: when it came here.
    """

    raw: bytes
    exchange: str
    routing_key: str
    properties: Any
    redelivered: bool
    time: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def as_dict(self) -> dict[str, Any]:
        """Describe it; of a body that cannot be read the bytes and the reason are given."""
        properties = self.properties
        about = {
            "exchange": self.exchange,
            "routing_key": self.routing_key,
            **{name: getattr(properties, name) for name in _SHOWN},
            "redelivered": self.redelivered,
            "time": self.time.isoformat(timespec="milliseconds"),
        }
        try:
            body, wire_format = decode_body(self.raw, properties.content_type)
        except DecodeError as error:
            raw = base64.b64encode(self.raw).decode()
            return {"body": None, "base64": raw, "error": str(error), **about}
        about["message_id"] = about["message_id"] or body.get("message_id")
        return {"body": body, "format": wire_format.value, **about}


def printable(text: str) -> str:
    """Replace characters that a terminal might obey instead of showing them."""
    return "".join(each if each.isprintable() else "?" for each in text)


def print_message(message: ReceivedMessage, *, as_json: bool, with_headers: bool = False) -> None:
    """Print a message, in one line if it is JSON, which has the headers in any case."""
    described = message.as_dict()
    if as_json:
        print_json(described)
        return
    origin = f"exchange {message.exchange}" if message.exchange else "queue"
    time = message.time.astimezone()
    parts = [
        click.style(f"{time:%H:%M:%S}.{time.microsecond // 1000:03}", dim=True),
        click.style(printable(f"{origin} {message.routing_key}").rstrip(), bold=True),
        *(
            printable(f"{name} {described[name]}")
            for name in ("message_id", "app_id")
            if described[name]
        ),
        *(["redelivered"] if message.redelivered else []),
    ]
    click.echo("  ".join(parts))
    if with_headers:
        for name, value in (message.properties.headers or {}).items():
            click.echo(f"  {printable(str(name))}: {to_json(value, pretty=False)}")
    if described["body"] is None:
        click.echo(f"  not readable: {described['error']}\n  base64: {described['base64']}")
    else:
        print_pretty(described["body"])
