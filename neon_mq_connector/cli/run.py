"""`neon-mq run`: a service in the foreground, in this process or in several that are supervised."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from neon_mq_connector import metrics
from neon_mq_connector.cli.exits import CommandError, ExitCode
from neon_mq_connector.cli.logs import debug_option, shown_logs
from neon_mq_connector.cli.service_class import Service, load_service, make_service
from neon_mq_connector.connector import MQConnector, accepted
from neon_mq_connector.errors import MQError
from neon_mq_connector.health.server import HealthServer
from neon_mq_connector.health.status import status_of

if TYPE_CHECKING:
    from neon_mq_connector.config.settings import MQSettings

LOG = logging.getLogger("neon_mq_connector.cli")

_LOOPBACK = "127.0.0.1"
#: What a worker may need beside the time for its callbacks, in seconds.
_GRACE = 10.0


@click.command("run", short_help="Run a service until Ctrl-C or SIGTERM.")
@click.argument("where", metavar="MODULE:CLASS")
@click.option("--name", metavar="NAME", help="The name of the service, its entry under users.")
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="How many processes run it; one that dies is started anew.",
)
@click.option("--reload", is_flag=True, help="Start it anew when a .py file below here changes.")
@click.option(
    "--health-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Serve /live, /ready, /inflight, /metrics and a page.  [default: the setting health_port]",
)
@click.option(
    "--health-host",
    metavar="HOST",
    help="The address to serve them on.  [default: the setting health_host, 127.0.0.1]",
)
@click.option("--worker", type=int, hidden=True, help="The number of this supervised process.")
@click.option("--health-fd", type=int, hidden=True, help="A socket that listens, inherited.")
@debug_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    where: str,
    name: str | None,
    workers: int,
    reload: bool,
    health_port: int | None,
    health_host: str | None,
    worker: int | None,
    health_fd: int | None,
) -> None:
    """Run the service that a class defines, with its configuration, log and signals.

    The class derives from MQConnector or AsyncMQConnector; a module that defines one such class
    will do. It is constructed with no arguments, or with config=None and a service_name. On SIGTERM
    or Ctrl-C running callbacks may finish; a second one ends it at once.

    \b
    Examples:
      neon-mq run greeter:Greeter
      neon-mq run greeter --reload
      neon-mq run greeter:Greeter --workers 4 --health-port 8080
    """
    shown_logs(ctx).show_service("" if worker is None else f"worker {worker} ")
    if worker is None and (workers > 1 or reload):
        ctx.exit(_supervise(ctx, where, name, workers, reload, health_port, health_host))
    if worker is not None:
        _end_with_the_supervisor()
    kind = load_service(where)
    try:
        _run(make_service(kind, name), health_fd, health_host, health_port)
    except (CommandError, MQError):
        raise
    except Exception:  # of the service's own code: it says nothing about the command line
        LOG.exception("%s has failed", where)
        ctx.exit(ExitCode.INTERNAL)


def _run(
    service: Service, health_fd: int | None, health_host: str | None, health_port: int | None
) -> None:
    if health_fd is not None:
        metrics.enable()
        sock = socket.socket(fileno=health_fd)
        service._mq_core.endpoint = HealthServer(lambda: (status_of(service),), sock=sock)
    else:  # it is closed when the service stops
        service._mq_core.endpoint = _serve_health(
            service.serve_health, service.settings, health_host, health_port
        )
    if not isinstance(service, MQConnector):
        asyncio.run(service.run_forever())
        return
    # a callback that does not end must not keep the process alive
    service.run_forever(**accepted(service.run, daemonize_consumers=True))


def _supervise(
    ctx: click.Context,
    where: str,
    name: str | None,
    count: int,
    reload: bool,
    health_port: int | None,
    health_host: str | None,
) -> int:
    """Run the same command in other processes; return the exit code for all of them."""
    from neon_mq_connector.cli.supervisor import Supervisor
    from neon_mq_connector.cli.worker import Worker, statuses_of

    settings = MQConnector(None, name or where).settings
    command = [sys.executable, "-m", "neon_mq_connector.cli", "run", where]
    if name:
        command += ["--name", name]
    if shown_logs(ctx).debugging:
        command += ["--debug"]
    with ExitStack() as stack:
        workers = [
            Worker(number, command, stack.enter_context(socket.create_server((_LOOPBACK, 0))))
            for number in range(1, count + 1)
        ]
        server = _serve_health(
            functools.partial(HealthServer, lambda: statuses_of(workers)),
            settings,
            health_host,
            health_port,
        )
        if server is not None:
            stack.callback(server.close)
        return Supervisor(workers, reload=reload, stop_timeout=settings.stop_timeout + _GRACE).run()


def _serve_health(
    serve: Callable[[str, int], HealthServer],
    settings: MQSettings,
    host: str | None,
    port: int | None,
) -> HealthServer | None:
    """Serve the status at the address of the options, or else of the settings, if there is one."""
    port = settings.health_port if port is None else port
    if port is None:
        return None
    try:
        server = serve(host or settings.health_host, port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CommandError(
            f"--health-port: port {port} cannot be listened on: {reason}", ExitCode.USAGE
        ) from error
    LOG.info("the state is at %s", server.url)
    return server


def _end_with_the_supervisor() -> None:
    """Stop the service when the supervisor has ended in any way, which closes a pipe from it."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="neon-mq-supervised", daemon=True).start()
