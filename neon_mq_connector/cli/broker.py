"""`neon-mq broker`: a private RabbitMQ, or the embedded broker, in the foreground."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neon_mq_connector.cli.exits import CommandError, ExitCode
from neon_mq_connector.cli.json_output import to_json
from neon_mq_connector.cli.logs import debug_option
from neon_mq_connector.cli.options import named
from neon_mq_connector.cli.terminal import note, print_json, progress
from neon_mq_connector.cli.waiting import StopRequest
from neon_mq_connector.config.sources import CLIENT_ENTRY, DEFAULT_ENTRY

if TYPE_CHECKING:
    from neon_mq_connector.testing.running import OwnBroker

_PORT = click.IntRange(1, 65535)
_POLL_INTERVAL = 0.2
#: What is written where no other file is named, in the current folder.
CONFIG_FILE = "mq_config.json"


@click.command("broker")
@click.option(
    "--embedded",
    is_flag=True,
    help="Run the embedded broker: no RabbitMQ is needed, and nothing is kept.",
)
@click.option("--port", type=_PORT, metavar="PORT", help="For AMQP.  [default: a free one]")
@click.option(
    "--management-port",
    type=_PORT,
    metavar="PORT",
    help="For the management page.  [default: a free one]",
)
@click.option(
    "--user",
    "username",
    default="neon",
    show_default=True,
    callback=named,
    metavar="NAME",
    help="Who may log in.",
)
@click.option("--password", metavar="TEXT", help="Of that user.  [default: made up]")
@click.option(
    "--vhost",
    "vhosts",
    multiple=True,
    callback=named,
    metavar="NAME",
    help="Make this virtual host too; may be repeated.",
)
@click.option(
    "--refuse-transient",
    is_flag=True,
    help="Refuse queues that are neither durable nor exclusive, as RabbitMQ 4.3 does.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep its data here.  [default: a temporary folder, removed at the end]",
)
@click.option(
    "--write-config",
    is_flag=False,
    flag_value=CONFIG_FILE,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="[FILE]",
    help=f"Write a configuration for all services and clients; it is removed at the end.  "
    f"[without FILE: {CONFIG_FILE}]",
)
@click.option("--force", is_flag=True, help="Overwrite that file if it exists.")
@click.option(
    "--service",
    "services",
    multiple=True,
    callback=named,
    metavar="NAME",
    help="Give a service an entry of its own in that file, for earlier releases, which know no "
    "default; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print where it is as one line of JSON.")
@debug_option
def command(
    *,
    embedded: bool,
    management_port: int | None,
    vhosts: tuple[str, ...],
    directory: Path | None,
    write_config: Path | None,
    force: bool,
    services: tuple[str, ...],
    as_json: bool,
    **common: Any,
) -> None:
    """Run a RabbitMQ of your own until Ctrl-C.

    It uses the installed RabbitMQ's programs and touches no other broker: own ports on the loopback
    interface, own data, own user. When the command ends, in whatever way, the node does too. With
    --embedded the broker is a small one in this process, for tests and demonstrations.

    \b
    Examples:
      neon-mq broker
      neon-mq broker --embedded --port 5672 --vhost /llm
      neon-mq broker --directory ./broker-data
      neon-mq broker --embedded --write-config
    """
    if (services or force) and write_config is None:
        raise click.UsageError("--service NAME and --force go with --write-config")
    if embedded and (directory is not None or management_port is not None):
        raise click.UsageError("--directory and --management-port go without --embedded")
    if directory is not None:
        _check_directory(directory)
    from neon_mq_connector.testing import EmbeddedBroker, PrivateBroker

    broker: OwnBroker
    if embedded:
        broker, kind = EmbeddedBroker(**common), "embedded broker"
    else:
        broker = PrivateBroker(**common, directory=directory, management_port=management_port)
        kind = "private broker"
    with StopRequest() as stop, _config_file(write_config, force), closing(broker):
        with progress(f"starting the {kind}"):
            broker.start()
            for vhost in vhosts:
                broker.create_vhost(vhost)
        if write_config is not None:
            _write_config(write_config, broker, services)
        _print_where(broker, vhosts, write_config, as_json=as_json)
        while not stop.wait(_POLL_INTERVAL):
            if not broker.running:
                raise CommandError(
                    f"the {kind} has ended by itself; with --directory its log stays there",
                    ExitCode.NO_BROKER,
                )
        with progress(f"stopping the {kind}"):
            broker.close()
    note(f"the {kind} is gone")


def _check_directory(path: Path) -> None:
    """Make the folder now: what the node says of one that it cannot write fills a screen."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable("--directory", path, f"cannot be made: {_reason(error)}") from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise _unusable("--directory", path, "cannot be written: no permission")


@contextmanager
def _config_file(path: Path | None, force: bool) -> Iterator[None]:
    """Make a file that only this user may read, before the node is there; remove it at the end."""
    if path is None:
        yield
        return
    try:
        if force:
            path.unlink(missing_ok=True)
        path.touch(0o600, exist_ok=False)
    except FileExistsError as error:
        problem = "exists already: remove it, name another, or add --force"
        raise _unusable("--write-config", path, problem) from error
    except OSError as error:
        problem = f"cannot be written: {_reason(error)}"
        raise _unusable("--write-config", path, problem) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _write_config(path: Path, broker: OwnBroker, services: tuple[str, ...]) -> None:
    user = {"user": broker.username, "password": broker.password}
    users = dict.fromkeys((*services, CLIENT_ENTRY, DEFAULT_ENTRY), user)
    settings: dict[str, Any] = {"server": broker.host, "port": broker.port, "users": users}
    if broker.address.management_port:
        settings["management_url"] = broker.management_url
    path.write_text(to_json({"MQ": settings}, pretty=True) + "\n")


def _unusable(option: str, path: Path, problem: str) -> CommandError:
    return CommandError(f"{option}: {path} {problem}", ExitCode.USAGE)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _print_where(
    broker: OwnBroker, vhosts: tuple[str, ...], config_file: Path | None, *, as_json: bool
) -> None:
    urls = {vhost: broker.url(vhost) for vhost in ("/", *vhosts)}
    has_page = broker.address.management_port != 0
    if as_json:
        where = {
            "url": urls["/"],
            "urls": urls,
            "host": broker.host,
            "port": broker.port,
            "user": broker.username,
            "password": broker.password,
            "management_url": broker.management_url if has_page else None,
            "refuses_transient": broker.refuse_transient,
            "pid": getattr(broker, "pid", os.getpid()),
        }
        print_json(where)
        return
    lines = [
        *(("URL" if vhost == "/" else f"URL of {vhost}", url) for vhost, url in urls.items()),
        ("user", broker.username),
        ("password", broker.password),
    ]
    if has_page:
        lines.append(("management", f"{broker.management_url}  (a page for the browser)"))
    if broker.refuse_transient:
        lines.append(("transient", "queues that are neither durable nor exclusive are refused"))
    width = max(len(label) for label, _ in lines)
    for label, value in lines:
        click.echo(f"{click.style(f'{label:<{width}}', bold=True)}  {value}")
    variable = f"NEON_MQ_URL='{urls[vhosts[0] if vhosts else '/']}'"
    if config_file is not None:
        variable = f"NEON_MQ_CONFIG_PATH='{config_file.resolve()}'"
    note(
        "\nIn another terminal:\n"
        f"  export {variable}\n"
        "  neon-mq listen --exchange news\n"
        "\nCtrl-C ends it."
    )
