"""The screen of `neon-mq top`, beside a service with queues that are well and that are not."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import threading
from typing import Any

from neon_mq_connector import MQConnector
from neon_mq_connector.testing import PrivateBroker
from pictures.terminal import terminal, write

_ROWS, _COLUMNS = 12, 72
_LOOKS = ("--interval", "4", "--count", "4")  # RabbitMQ gathers rates every few seconds
_FRAME = "\x1b[H"
_REVERSED = re.compile(r"\x1b\[7m.*")
_CODES = re.compile(r"\x1b\[[?\d;]*[A-Za-z]")
_WORD = re.compile(r"\S+(?: \S+)*")


class _Shop(MQConnector):
    """Takes orders at once, reports slowly, and no invoices at all."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config, "shop")
        self.done = threading.Event()
        self.register_consumer("orders", "/", "shop_orders", lambda *_: None)
        self.register_consumer("reports", "/", "shop_reports", self.report, prefetch_count=2)
        self.register_consumer("invoices", "/", "shop_invoices", self.invoice)

    def report(self, *_: Any) -> None:
        self.done.wait(1)

    def invoice(self, *_: Any) -> None:
        raise LookupError("no customer 7")

    def feed(self) -> None:
        for number in range(40):
            self.send_message({"number": number}, queue="shop_reports", expiration=600_000)
        for queue in ("shop_invoices", "shop_mails"):
            for number in range(3):
                self.send_message({"number": number}, queue=queue, expiration=600_000)
        while not self.done.wait(0.01):
            self.send_message({"order": 1}, queue="shop_orders")


def make() -> str:
    """Run a service on a node of its own, and draw the last screen of the command."""
    with PrivateBroker() as broker:
        user = {"user": broker.username, "password": broker.password}
        shop = _Shop({"server": broker.host, "port": broker.port, "users": {"shop": user}})
        shop.run(run_sync=False)
        feeding = threading.Thread(target=shop.feed, name="feed")
        feeding.start()
        try:
            lines = _screen("--url", broker.url(), "--management", broker.management_url)
        finally:
            shop.done.set()
            feeding.join()
            shop.stop()
    drawing = terminal("neon-mq top, beside a service that runs", len(lines) + 1, _COLUMNS)
    write(drawing, 0, [(0, "$ neon-mq top", "code bold")])
    for place, line in enumerate(lines, start=1):
        kind = "code bold" if _REVERSED.search(line) else "code faint" if place == 1 else "code"
        words = _WORD.finditer(_CODES.sub("", line))
        write(drawing, place, [(each.start(), each[0], kind) for each in words])
    return str(drawing)


def _screen(*options: str) -> list[str]:
    """Return the lines of the last screen that the command has drawn on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "neon_mq_connector.cli", "top", *options, *_LOOKS],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "COLUMNS": str(_COLUMNS), "LINES": str(_ROWS), "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # Linux tells so that the command has ended
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    if process.wait():
        raise ValueError(f"neon-mq top has failed: {shown.decode()}")
    frame = shown.decode().split(_FRAME)[-1].partition("\x1b[J")[0]
    return [line.rstrip() for line in frame.split("\r\n")]
