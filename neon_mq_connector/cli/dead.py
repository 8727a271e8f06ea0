"""`neon-mq dead`: list, show, replay and discard messages that failed."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict

import click

from neon_mq_connector.cli.connection import Connection
from neon_mq_connector.cli.dead_output import print_letter, print_queues
from neon_mq_connector.cli.exits import CommandError, ExitCode
from neon_mq_connector.cli.messages import printable
from neon_mq_connector.cli.options import checked_name, connection_options, management_option
from neon_mq_connector.cli.terminal import note, print_json, progress, warn
from neon_mq_connector.cli.waiting import StopRequest

_QUEUE = click.argument("queue", callback=checked_name)
_ID = click.option("--id", "message_id", metavar="ID", help="Only the message with this id.")
_COUNT = click.option(
    "--count", type=click.IntRange(min=1), metavar="N", help="So many messages at most."
)


@click.group(
    "dead",
    short_help="List, show, replay or discard messages that failed.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def command() -> None:
    """See which messages failed and why, and send them once more.

    A message that fails is parked in a dead-letter queue, as a rule QUEUE.dead. QUEUE is either
    name; the queues of a broker's own dead-letter exchanges are known by their names, too.

    \b
    Examples:
      neon-mq dead list
      neon-mq dead show my_queue
      neon-mq dead replay my_queue --count 1
      neon-mq dead discard my_queue --id 4711 --yes
    """


@command.command("list", short_help="List the dead-letter queues.")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...", callback=checked_name)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@management_option
@connection_options
def list_command(
    connection: Connection, *, queues: tuple[str, ...], as_json: bool, management: str | None
) -> None:
    """List dead-letter queues and how many messages are in them.

    Without QUEUE all that end with .dead are listed, for which RabbitMQ's management plugin is
    needed.

    \b
    Examples:
      neon-mq dead list
      neon-mq dead list my_queue other_queue.dead --json
    """
    from neon_mq_connector.operations.dead_letters import dead_queues

    with progress(f"connecting to {connection.where}"):
        states = dead_queues(
            connection.parameters(),
            queues,
            management=management or connection.settings.management_url,
            timeout=connection.settings.operation_timeout,
        )
    if not states and not as_json:
        note(f"there are no dead-letter queues in virtual host {connection.vhost!r}")
    else:
        print_queues(states, as_json=as_json)


@command.command("show", short_help="Show why messages failed; they stay where they are.")
@_QUEUE
@_ID
@_COUNT
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@connection_options
def show_command(
    connection: Connection,
    *,
    queue: str,
    message_id: str | None,
    count: int | None,
    as_json: bool,
) -> None:
    """Show dead letters: what failed, when, how often it was tried, and the body.

    They stay in the queue in their order.

    \b
    Examples:
      neon-mq dead show my_queue
      neon-mq dead show my_queue --count 1 --json | jq -r .traceback
    """
    from neon_mq_connector.operations.dead_letters import show

    letters = show(
        connection.parameters(),
        queue,
        id=message_id,
        count=count,
        timeout=connection.settings.operation_timeout,
    )
    shown = False
    with closing(letters):
        for letter in letters:
            print_letter(letter, as_json=as_json)
            shown = True
    if not shown:
        _check_found(queue, message_id)
        note(f"there are no dead letters of queue {queue!r}")


@command.command("replay", short_help="Send dead letters to where they came from.")
@_QUEUE
@_ID
@_COUNT
@click.option(
    "--to",
    callback=checked_name,
    metavar="QUEUE",
    help="Send them to this queue.  [default: each to the queue it came from]",
)
@click.option(
    "--publish",
    is_flag=True,
    help="Publish each to its exchange again: every queue that is bound there gets it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one line of JSON.")
@connection_options
def replay_command(
    connection: Connection,
    *,
    queue: str,
    message_id: str | None,
    count: int | None,
    to: str | None,
    publish: bool,
    as_json: bool,
) -> None:
    """Send dead letters once more, and take each out once the broker has confirmed it.

    Those that are there at the start are sent; one that fails again is parked again. Each is named
    on standard error before it is sent: if the command is killed, the last one that is named may
    be in both queues, and no other. What cannot be sent stays; the command then ends with 5.

    \b
    Examples:
      neon-mq dead replay my_queue
      neon-mq dead replay my_queue --id 4711
      neon-mq dead replay my_service.news.dead --publish
    """
    from neon_mq_connector.operations.dead_letters import replay

    if to is not None and publish:
        raise click.UsageError("--to and --publish say where to send: give one of them")

    with StopRequest() as stop:
        done = replay(
            connection.parameters(),
            queue,
            id=message_id,
            count=count,
            to=to,
            publish=publish,
            on_letter=lambda letter: note(f"replaying {printable(letter.id)}"),
            stopped=stop.is_set,
            timeout=connection.settings.operation_timeout,
            publish_timeout=connection.settings.publish_timeout,
        )
    if as_json:
        print_json(asdict(done))
    else:
        click.echo(f"replayed: {done.replayed}")
        by_reason: dict[str, list[str]] = {}
        for each in done.left:
            by_reason.setdefault(each.reason, []).append(each.id)
        for reason, ids in by_reason.items():
            warn(f"{_some(ids)}: {reason}")
    if done.left:
        raise CommandError(
            f"messages that stay in {done.queue!r}: {len(done.left)}; give --to QUEUE to send them "
            "elsewhere",
            ExitCode.NOT_DELIVERED,
        )
    if not done.replayed:
        _check_found(queue, message_id)
    _end_if(stop)


@command.command("discard", short_help="Delete dead letters for good.")
@_QUEUE
@_ID
@click.option("--all", "everything", is_flag=True, help="All that are there at the start.")
@click.option("--yes", is_flag=True, help="Do it; without it nothing is deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one line of JSON.")
@connection_options
def discard_command(
    connection: Connection,
    *,
    queue: str,
    message_id: str | None,
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete dead letters for good.

    \b
    Examples:
      neon-mq dead discard my_queue --id 4711 --yes
      neon-mq dead discard my_queue --all --yes
    """
    from neon_mq_connector.operations.dead_letters import discard

    if (message_id is None) != everything:
        raise click.UsageError("give either --id ID or --all")
    if not yes:
        raise click.UsageError("this deletes messages for good: add --yes")
    with StopRequest() as stop:
        discarded = discard(
            connection.parameters(),
            queue,
            id=message_id,
            stopped=stop.is_set,
            timeout=connection.settings.operation_timeout,
        )
    if as_json:
        print_json({"discarded": discarded})
    else:
        click.echo(f"discarded: {discarded}")
    if not discarded:
        _check_found(queue, message_id)
    _end_if(stop)


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - 1} more stay" if len(ids) > 1 else " stays"
    return f"message {printable(ids[0])}{more}"


def _check_found(queue: str, message_id: str | None) -> None:
    if message_id is not None:
        raise CommandError(
            f"no dead letter of queue {queue!r} has the id {message_id!r}", ExitCode.FAILED
        )


def _end_if(stop: StopRequest) -> None:
    if stop.is_set():
        click.get_current_context().exit(ExitCode.INTERRUPTED)
