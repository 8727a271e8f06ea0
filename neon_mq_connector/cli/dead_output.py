"""Dead letters as `neon-mq dead` prints them: lines for a person, or JSON."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from neon_mq_connector.cli.json_output import to_json
from neon_mq_connector.cli.messages import printable
from neon_mq_connector.cli.terminal import print_json, print_pretty

if TYPE_CHECKING:
    from neon_mq_connector.operations.dead_letter import DeadLetter
    from neon_mq_connector.operations.queues import QueueState


def print_queues(states: Sequence[QueueState], *, as_json: bool) -> None:
    """Print dead-letter queues."""
    if as_json:
        print_json(
            [
                {"queue": each.queue, "messages": each.ready, "consumers": each.consumers}
                for each in states
            ]
        )
        return
    width = max(len("MESSAGES"), *(len(f"{each.ready:,}") for each in states))
    click.secho(f"{'MESSAGES':>{width}}  QUEUE", bold=True)
    for each in states:
        click.echo(f"{each.ready:>{width},}  {printable(each.queue)}")


def as_dict(letter: DeadLetter) -> dict[str, Any]:
    """Describe a dead letter; of a body that is no text its bytes are given."""
    shown = [each.name for each in fields(letter) if each.name not in ("raw", "properties")]
    described = {name: getattr(letter, name) for name in (*shown, "body")}
    described["parked_at"] = letter.parked_at and letter.parked_at.isoformat()
    if letter.body is None:
        described["base64"] = base64.b64encode(letter.raw).decode()
    return described


def print_letter(letter: DeadLetter, *, as_json: bool) -> None:
    """Print a dead letter, in one line if it is JSON."""
    if as_json:
        print_json(as_dict(letter))
        return
    click.secho(printable(letter.error or "the reason is not known"), fg="red", bold=True)
    for name, value in (
        ("id", letter.id),
        ("from", letter.queue),
        ("exchange", letter.exchange),
        ("at", letter.parked_at and f"{letter.parked_at.astimezone():%Y-%m-%d %H:%M:%S}"),
        ("tries", letter.attempts),
        ("replayed", letter.replayed or None),
        ("headers", to_json(dict(letter.headers), pretty=False) if letter.headers else None),
    ):
        if value not in (None, ""):
            click.echo(f"  {click.style(f'{name:<8}', dim=True)}  {printable(str(value))}")
    for line in (letter.traceback or "").splitlines():
        click.echo(f"  {printable(line)}")
    if letter.body is None:
        click.echo(f"base64: {base64.b64encode(letter.raw).decode()}")
    else:
        print_pretty(letter.body)
    click.echo()
