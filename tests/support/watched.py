"""Services to look at: one that is well, and one of whose queues each has another trouble."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pika

from neon_mq_connector import MQConnector, metrics
from neon_mq_connector.health.server import HealthServer
from neon_mq_connector.testing import EmbeddedBroker
from tests.support.configurations import config_of
from tests.support.polling import eventually

_HELD = 120.0
_PAUSE = 0.005


class Shop(MQConnector):
    """Handles orders at once; renders reports until it is stopped."""

    def __init__(self, broker: EmbeddedBroker, **settings: Any) -> None:
        super().__init__(config_of(broker, "shop", **settings), "shop")
        self._done = threading.Event()
        self.register_consumer("orders", "/", "orders", lambda *_: None)
        self.register_consumer("reports", "/", "reports", self.render_report, concurrency=2)

    def feed(self) -> None:
        """Send orders until the service is stopped."""
        while not self._done.wait(_PAUSE):
            self.send_message({"order": 1}, vhost="/", queue="orders")

    def render_report(self, *_: Any) -> None:
        """Take until the service is stopped."""
        self._done.wait(_HELD)

    def end(self) -> None:
        """Let reports and orders end."""
        self._done.set()


class BrokenShop(Shop):
    """Has an error in what handles invoices, too, and a queue that another connection owns."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        super().__init__(broker, max_tries=1)
        self.register_consumer("invoices", "/", "invoices", self.send_invoice, ack="on_success")
        self.register_consumer("audit", "/", "audit <b>log</b>", lambda *_: None)

    def send_invoice(self, *_: Any) -> None:
        """Fail."""
        raise LookupError("no customer 7")


@contextmanager
def _running(shop: Shop) -> Iterator[HealthServer]:
    metrics.callback_seconds = None  # those of another service
    feeding = threading.Thread(target=shop.feed, name="orders")
    shop.run(run_sync=False)
    server = shop.serve_health()
    try:
        feeding.start()
        yield server
    finally:
        shop.end()
        feeding.join()
        shop.stop()
        server.close()
        metrics.callback_seconds = metrics.request_seconds = None


@contextmanager
def healthy(broker: EmbeddedBroker) -> Iterator[HealthServer]:
    """Run the one that is well."""
    shop = Shop(broker)
    with _running(shop) as server:
        shop.send_message({"report": 1}, vhost="/", queue="reports")
        eventually(lambda: shop.health().consumers["reports"].running)
        yield server


@contextmanager
def broken(broker: EmbeddedBroker) -> Iterator[HealthServer]:
    """Run the one in trouble."""
    owner = pika.BlockingConnection(pika.URLParameters(broker.url()))
    owner.channel().queue_declare("audit <b>log</b>", exclusive=True)
    shop = BrokenShop(broker)
    with closing(owner), _running(shop) as server:
        for number in range(4):
            shop.send_message({"report": number}, vhost="/", queue="reports", expiration=None)
        shop.send_message({"invoice": 7}, vhost="/", queue="invoices")
        eventually(lambda: shop.health().consumers["invoices"].parked)
        eventually(lambda: "exclusive" in str(shop.health().reasons))
        yield server
