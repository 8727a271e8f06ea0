"""The demo as a person sees it: a few lines and tables, in 80 columns."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from neon_mq_connector.cli.demo_stage import Exchanged, Left, Published, median_ms
from neon_mq_connector.cli.demo_view import BrokerView
from neon_mq_connector.cli.json_output import to_json

_ROWS = 10
_LABEL = 11
_TEXT = 60
_NAME = 24
#: What every message has, and what would only fill the table.
_ENVELOPE = ("message_id", "context", "routing_key")


class DemoPage:
    """Draw one part of the demo after the other.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, label: str, text: str) -> None:
        """Show a fact with its name in front."""
        row = Text(f"  {label:<{_LABEL}}", style="bold")
        row.append(text, style="not bold")
        self._console.print(row, soft_wrap=True)

    def _heading(self, text: str) -> None:
        self._console.print(f"\n  {text}", style="bold underline", soft_wrap=True)

    def requests(self, exchanged: list[Exchanged]) -> None:
        """Show requests, answers and times."""
        table = _table()
        table.add_column("n", justify="right")
        table.add_column("request", style="cyan")
        table.add_column("answer", style="green")
        table.add_column("ms", justify="right")
        for number, each in enumerate(exchanged[:_ROWS], start=1):
            table.add_row(
                str(number), Text(_short(each.request)), Text(_short(each.answer)), f"{each.ms:.2f}"
            )
        self._heading("Requests and answers")
        self._console.print(Padding(table, (0, 0, 0, 1)))
        if len(exchanged) > _ROWS:
            self._console.print(f"  ... and {len(exchanged) - _ROWS:,} more", style="dim")
        times = sorted(each.ms for each in exchanged)
        right = sum(each.is_right for each in exchanged)
        spread = f" (from {times[0]:.2f} to {times[-1]:.2f})" if len(times) > 1 else ""
        self._console.print(
            f"\n  {right} of {len(exchanged)} answered right; "
            f"median [bold]{median_ms(exchanged):.2f} ms[/bold]{spread}",
            soft_wrap=True,
        )

    def published(self, published: Published) -> None:
        """Show what a subscriber received."""
        self._heading("Published and received")
        self.line("exchange", f"{published.exchange} (fanout)")
        self.line("published", _short(published.sent))
        self.line("received", f"{_short(published.received)} after {published.ms:.2f} ms")

    def broker(self, view: BrokerView) -> None:
        """Show what the broker says."""
        known = view.management is not None
        table = _table()
        table.add_column("queue", style="cyan", no_wrap=True)
        if known:
            table.add_column("kind", no_wrap=True)
        for name in ("consumers", *(["delivered"] if known else []), "waiting"):
            table.add_column(name, justify="right", no_wrap=True)
        for queue in view.queues:
            described = [str(queue.kind)] if known else []
            delivered = [str(queue.delivered)] if known else []
            counts = str(queue.consumers), *delivered, str(queue.messages)
            table.add_row(Text(_cut(queue.name, _NAME)), *described, *counts)
        self._heading("What the broker says of its queues")
        self._console.print(Padding(table, (0, 0, 0, 1)))
        if not known:
            self._console.print("  connections: ask with --management URL", style="dim")
            return
        table = _table()
        table.add_column("connection", style="cyan", no_wrap=True)
        table.add_column("user", no_wrap=True)
        table.add_column("channels", justify="right", no_wrap=True)
        for row in view.connections:
            table.add_row(Text(row.name), Text(row.user), str(row.channels))
        self._heading("What the broker says of its connections")
        self._console.print(Padding(table, (0, 0, 0, 1)))

    def left(self, left: Left, *, with_connections: bool) -> None:
        """Show what remains when all is stopped."""
        self._console.print()
        if not left:
            kinds = (
                "no queue, no connection, no thread" if with_connections else "no queue, no thread"
            )
            self.line("stopped", f"nothing is left: {kinds}")
            return
        for kind in ("queues", "connections", "threads"):
            names = getattr(left, kind)
            if names:
                self.line("LEFT", f"{kind}: {', '.join(names)}")


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=True, padding=(0, 1))


def _short(message: dict[str, object]) -> str:
    shown = {key: value for key, value in message.items() if key not in _ENVELOPE}
    text = to_json(shown, pretty=False)
    return _cut(text, _TEXT)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
