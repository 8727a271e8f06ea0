"""`neon-mq top`: the queues, live."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from neon_mq_connector.cli.connection import Connection
from neon_mq_connector.cli.options import (
    Seconds,
    checked_name,
    connection_options,
    management_option,
)
from neon_mq_connector.cli.queue_table import (
    COLUMNS,
    QUEUE,
    Column,
    sorted_states,
    table,
    without_parked,
)
from neon_mq_connector.cli.terminal import is_terminal, progress
from neon_mq_connector.cli.waiting import StopRequest
from neon_mq_connector.errors import MQError

if TYPE_CHECKING:
    from neon_mq_connector.operations.queues import QueueReader, QueueState

_BY_KEY = {column.key: column for column in (QUEUE, *COLUMNS)}
_KEYS = f"q quits, {' '.join(_BY_KEY)} sort"
_ALTERNATE_SCREEN, _MAIN_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_REVERSE, _PLAIN = "\x1b[7m", "\x1b[0m"
#: A signal is noticed within so many seconds.
_POLL_INTERVAL = 0.2


@click.command("top", short_help="Show the queues live.")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...", callback=checked_name)
@click.option(
    "--interval",
    type=Seconds(min=0.2, max=3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    metavar="N",
    help="End after so many looks.  [default: 1 in a pipe]",
)
@click.option(
    "--sort",
    type=click.Choice([column.field for column in (QUEUE, *COLUMNS)]),
    default=COLUMNS[1].field,
    show_default=True,
    help="What to sort by at first.",
)
@management_option
@connection_options
def command(
    connection: Connection,
    *,
    queues: tuple[str, ...],
    interval: float,
    count: int | None,
    sort: str,
    management: str | None,
) -> None:
    """Show the queues live, until q or Ctrl-C.

    Keys sort: n by name, c consumers, r ready, u unacked, p parked, i messages in and o out per
    second. RabbitMQ gathers consumers and rates every few seconds. In a pipe it prints the queues
    once, or --count times.

    \b
    Examples:
      neon-mq top
      neon-mq top my_queue --interval 5 --vhost /llm
      neon-mq top --count 3 | cat
    """
    column = next(each for each in (QUEUE, *COLUMNS) if each.field == sort)
    with StopRequest() as stop, connection.queue_reader(management) as reader:
        with progress(f"connecting to {connection.where}"):
            states = _states(reader, queues)
        if is_terminal() and sys.stdin.isatty():
            where = f"{connection.where} {connection.vhost}"
            with _screen():
                _Top(where, reader, queues, column, stop).run(states, interval, count)
            return
        for number in range(count or 1):
            if number:
                if stop.wait(interval):
                    return
                states = _states(reader, queues)
                click.echo()
            click.echo("\n".join(table(sorted_states(states, column))))


@dataclass
class _Top:
    """The screen; used by one thread."""

    where: str
    reader: QueueReader
    queues: tuple[str, ...]
    column: Column
    stop: StopRequest
    error: str = ""

    def run(self, states: list[QueueState], interval: float, count: int | None) -> None:
        """Show queues until a key or a signal ends it; an outage is shown and waited out."""
        looks = 1
        while True:
            self._draw(states)
            if not self._wait(interval, states) or looks == count:
                return
            try:
                states, self.error = _states(self.reader, self.queues), ""
            except MQError as error:
                self.error = str(error)
            looks += 1

    def _wait(self, interval: float, states: list[QueueState]) -> bool:
        """Wait, and handle keys; return whether to go on."""
        until = time.monotonic() + interval
        while not self.stop.is_set():
            left = until - time.monotonic()
            if left <= 0:
                return True
            if not select.select([sys.stdin], [], [], min(left, _POLL_INTERVAL))[0]:
                continue
            keys = os.read(sys.stdin.fileno(), 32).decode(errors="replace").lower()
            if not keys or "q" in keys:
                return False
            self.column = next((_BY_KEY[key] for key in keys if key in _BY_KEY), self.column)
            self._draw(states)
        return False

    def _draw(self, states: list[QueueState]) -> None:
        size = shutil.get_terminal_size()
        heading, *lines = table(sorted_states(states, self.column), size.columns)
        title = f"{time.strftime('%H:%M:%S')}  {self.where}  {self.error or _KEYS}"
        heading = heading.replace(self.column.title, f"{_PLAIN}{self.column.title}{_REVERSE}", 1)
        shown = [title[: size.columns], f"{_REVERSE}{heading}{_PLAIN}", *lines]
        text = f"{_END_OF_LINE}\r\n".join(shown[: size.lines])
        sys.stdout.write(f"{_HOME}{text}{_END_OF_LINE}{_END_OF_SCREEN}")
        sys.stdout.flush()


def _states(reader: QueueReader, queues: tuple[str, ...]) -> list[QueueState]:
    states = reader.states(queues)
    return states if queues else without_parked(states)


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """Use the alternate screen of the terminal, without echo and line buffering."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        sys.stdout.write(_ALTERNATE_SCREEN)
        yield
    finally:
        sys.stdout.write(_MAIN_SCREEN)
        sys.stdout.flush()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
