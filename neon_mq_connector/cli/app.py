"""The command with its subcommands, and what happens to an error that none of them handles."""

from __future__ import annotations

import difflib
import importlib
import os
import traceback
from typing import Any

import click

from neon_mq_connector.cli.exits import ExitCode, report
from neon_mq_connector.cli.logs import debug_option, shown_logs
from neon_mq_connector.version import __version__

#: Each is a module of this package with a click command named `command`.
COMMANDS = (
    "demo",
    "broker",
    "run",
    "request",
    "send",
    "listen",
    "status",
    "top",
    "dead",
    "doctor",
    "graph",
    "asyncapi",
    "contract",
)


class CommandGroup(click.Group):
    """Import a command when it is asked for, and turn errors into a line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order in which they are needed."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"neon_mq_connector.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; the error of a misspelt one names those that it resembles."""
        known = self.list_commands(ctx)  # that of click knows only what is imported
        if args[0] not in known and (close := difflib.get_close_matches(args[0], known)):
            meant = " or ".join(map(repr, close))
            ctx.fail(f"No such command {args[0]!r}. Did you mean {meant}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run what the command line asks for.

        Raises:
            click.exceptions.Exit: it failed; a line on standard error says why.
        """
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click ends quietly when its reader has gone
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(ExitCode.INTERRUPTED)
        except Exception as error:
            if shown_logs(ctx).debugging:
                traceback.print_exc()
            ctx.exit(report(error, ctx))


def _exit_codes() -> str:
    lines = (f"  {code.value:>3}  {code.meaning}" for code in ExitCode)
    return "\b\nExit codes:\n" + "\n".join(lines)


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
    epilog=_exit_codes(),
)
@click.version_option(__version__, prog_name="neon-mq")
@debug_option
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Talk to services over RabbitMQ from the command line.

    \b
    neon-mq demo                               see a service at work
    neon-mq broker                             run a broker of your own
    neon-mq run module:Class                   run a service
    neon-mq request my_queue '{"text": "hi"}'  ask a service
    neon-mq listen --exchange news             see what is published
    neon-mq status                             see what waits, and what has failed
    neon-mq dead show my_queue                 see why messages failed

    Where the broker is and how to log in there comes from NEON_MQ_URL or the configuration, as for
    every service (NEON_MQ_CONFIG_PATH, ~/.config/neon/mq_config.json, ...), or from --url or
    --config.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    shown_logs(ctx)
