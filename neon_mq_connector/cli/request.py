"""`neon-mq request`: ask a service and print its answer."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import click

from neon_mq_connector.cli.connection import COMMAND, Connection
from neon_mq_connector.cli.exits import CommandError, ExitCode
from neon_mq_connector.cli.json_input import read_object
from neon_mq_connector.cli.options import Seconds, checked_name, connection_options
from neon_mq_connector.cli.terminal import print_value, progress, warn
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.errors import RemoteError


@click.command("request", short_help="Ask a service and print its answer.")
@click.argument("queue", callback=checked_name)
@click.argument("data", metavar="JSON", callback=lambda _ctx, _argument, value: read_object(value))
@click.option(
    "--timeout",
    type=Seconds(min=0, min_open=True, max=86400),
    metavar="SECONDS",
    help="How long to wait for the answer.  [default: request_timeout of the configuration, 30]",
)
@click.option(
    "--stream",
    is_flag=True,
    help="The answer comes in parts, the last with is_final: print each when it comes.",
)
@click.option(
    "--format",
    "wire_format",
    type=click.Choice([each.value for each in WireFormat]),
    help="How to send the request; the answer is read in either.  "
    "[default: wire_format of the configuration, legacy]",
)
@click.option(
    "--wait-for-queue",
    is_flag=True,
    help="If the queue does not exist, make it and wait for a service to come.",
)
@connection_options
def command(
    connection: Connection,
    *,
    queue: str,
    data: dict[str, Any],
    timeout: float | None,
    stream: bool,
    wire_format: str | None,
    wait_for_queue: bool,
) -> None:
    """Ask the service that consumes QUEUE, and print its answer as JSON.

    JSON is an object; @FILE reads it from a file, - from standard input. The answer is pretty on a
    terminal and one line in a pipe. It ends with 1 when no answer comes in time,
    with 7 when the service answers with an error.

    \b
    Examples:
      neon-mq request my_queue '{"text": "hello"}'
      neon-mq request my_queue @question.json --vhost /llm --timeout 120
      echo '{"text": "hello"}' | neon-mq request my_queue - | jq .text
    """
    from neon_mq_connector.client import RequestClient, RequestSpec

    with progress(f"connecting to {connection.where}"):
        status = connection.find_queue(queue)
    if status is None and not wait_for_queue:
        raise CommandError(
            f"there is no queue {queue!r} in virtual host {connection.vhost!r} at "
            f"{connection.where}; start its service, name another --vhost, or give "
            "--wait-for-queue",
            ExitCode.NOT_DELIVERED,
        )
    if status is not None and not status.consumers:
        warn(f"no service consumes queue {queue!r} now; the request waits in it")
    with (
        closing(RequestClient(connection.parameters(), owner=COMMAND)) as client,
        progress(f"waiting for an answer from {queue!r}") as end_progress,
    ):

        def on_part(part: dict[str, Any]) -> None:
            end_progress()
            print_value(part)

        try:
            spec = RequestSpec(
                queue,
                data,
                timeout=timeout or connection.settings.request_timeout,
                wire_format=WireFormat(wire_format or connection.settings.wire_format),
            )
            answer = client.request(spec, on_part=on_part if stream else None)
        except RemoteError as error:
            details = "" if error.details is None else f"\n{json.dumps(error.details, indent=2)}"
            raise CommandError(f"{error}{details}", ExitCode.REMOTE) from error
    if not stream:
        print_value(answer)
