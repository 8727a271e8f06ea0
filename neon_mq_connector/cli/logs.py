"""The log on standard error: warnings of the library, or with `--debug` everything."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import click

_LOGS = "neon_mq_connector.cli.logs"
_LONG = "%(asctime)s %(threadName)s %(name)s %(levelname)s: %(message)s"

Function = TypeVar("Function", bound=Callable[..., Any])


class ShownLogs:
    """Show warnings of the library on standard error, until the context is left.

    What the library and pika log of connections is left out: commands report that themselves.
    """

    def __init__(self) -> None:
        self.debugging = False
        self._handler = _ToStandardError()
        self._loggers = [logging.getLogger(name) for name in ("neon_mq_connector", "pika")]
        self._before: list[tuple[int, bool]] = []

    def __enter__(self) -> ShownLogs:
        self._before = [(logger.level, logger.propagate) for logger in self._loggers]
        ours, pikas = self._loggers
        for logger in self._loggers:
            logger.propagate = False
            logger.addHandler(self._handler)
        ours.setLevel(logging.WARNING)
        pikas.setLevel(logging.CRITICAL + 1)
        self._handler.setFormatter(_AsNotes())
        self._handler.addFilter(self._is_shown)
        return self

    def show_nothing(self) -> None:
        """Show no warnings and errors, unless everything is shown."""
        if not self.debugging:
            self._loggers[0].setLevel(logging.CRITICAL + 1)

    def show_everything(self) -> None:
        """Show what the library does, and what pika tells of its connections."""
        self.debugging = True
        ours, pikas = self._loggers
        ours.setLevel(logging.DEBUG)
        pikas.setLevel(logging.INFO)
        self._handler.setFormatter(logging.Formatter(_LONG))

    def show_service(self, label: str) -> None:
        """Show the log of a service, the library's and its own, from INFO on.

        What callbacks log has the fields of their message, for a formatter of the service's own.

        Args:
            label: what each line begins with, after the time.
        """
        from neon_mq_connector.consumers.delivery_channel import MessageFields

        ours, _ = self._loggers
        for logger in self._loggers:
            logger.removeHandler(self._handler)
            logger.propagate = True
        ours.setLevel(logging.NOTSET)
        text = _LONG if self.debugging else "%(asctime)s %(levelname)s %(name)s: %(message)s"
        level = logging.DEBUG if self.debugging else logging.INFO
        handler = logging.StreamHandler()
        handler.addFilter(MessageFields())
        logging.basicConfig(
            level=level, format=text.replace(" ", f" {label}", 1), handlers=[handler]
        )

    def _is_shown(self, record: logging.LogRecord) -> bool:
        return self.debugging or not record.name.startswith("neon_mq_connector.link")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for logger, (level, propagate) in zip(self._loggers, self._before, strict=True):
            logger.removeHandler(self._handler)
            logger.setLevel(level)
            logger.propagate = propagate


class _AsNotes(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.capitalize()}: {record.getMessage()}"


class _ToStandardError(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # looked up for each record: a spinner, or a test, may have put something in its place
        try:
            click.echo(self.format(record), err=True)
        except Exception:
            self.handleError(record)


def shown_logs(ctx: click.Context) -> ShownLogs:
    """Return the logs of this call of the command; they are shown from the first call on."""
    logs = ctx.meta.get(_LOGS)
    if not isinstance(logs, ShownLogs):
        logs = ctx.meta[_LOGS] = ctx.find_root().with_resource(ShownLogs())
    return logs


def _debug(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        shown_logs(ctx).show_everything()


def debug_option(function: Function) -> Function:
    """Add `--debug`, which may stand before or after the name of the command."""
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_debug,
        help="Show the log, and the tracebacks of errors.",
    )(function)
