"""The steps of `neon-mq demo`: a shop answers orders, one fails, and the broker is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from pydantic import BaseModel, Field

from neon_mq_connector.cli.exits import CommandError, ExitCode
from neon_mq_connector.cli.json_output import to_json
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.consumers.registration import Retry, dead_queue_name
from neon_mq_connector.handlers.declared import consumer
from neon_mq_connector.operations import dead_letters
from neon_mq_connector.service.shared_clients import close_shared_clients
from neon_mq_connector.testing.polling import poll
from neon_mq_connector.testing.running import OwnBroker

_QUEUE = "demo_orders"
_TIMEOUT = 30.0

Step = tuple[str, str]


class Order(BaseModel):
    """What the shop takes."""

    item: str
    amount: int = Field(gt=0)


class Price(BaseModel):
    """What it answers."""

    price: float


class Shop(MQConnector):
    """Answer each order with its price."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config, "shop")
        self.prices = {"tea": 3.5}
        self.answers: SimpleQueue[Price] = SimpleQueue()

    @consumer(_QUEUE, retry=Retry(attempts=1))
    def orders(self, order: Order) -> Price:
        """Answer one order."""
        answer = Price(price=self.prices[order.item] * order.amount)
        self.answers.put(answer)
        return answer


_TEA = Order(item="tea", amount=2)
_COFFEE = {"item": "coffee", "amount": 3}


class Story:
    """A service and a client on a broker that runs; used by one thread."""

    def __init__(self, broker: OwnBroker) -> None:
        user = {"user": broker.username, "password": broker.password}
        config = {
            "server": broker.host,
            "port": broker.port,
            "users": {"shop": user, "client": user},
            "reconnect_delay_min": 0.1,
        }
        self._broker = broker
        self._threads = set(threading.enumerate())
        self._shop = Shop(config)
        self._client = MQConnector(config, "client")

    def tell(self) -> Iterator[Step]:
        """Perform the steps; yield each when it is done.

        Raises:
            CommandError: a step did not go as it should.
        """
        yield "broker", f"{type(self._broker).__name__} on {self._broker.host}:{self._broker.port}"
        try:
            yield from self._answer()
            yield from self._fail()
            yield from self._outlive_the_broker()
        finally:
            self._shop.stop()
            self._client.stop()
            close_shared_clients()
        left = poll(self._left, lambda found: not found, _TIMEOUT)
        _check(not left, f"the demo has left behind: {', '.join(left)}")
        yield "stopped", "nothing is left: no thread, no connection"

    def _answer(self) -> Iterator[Step]:
        self._shop.run(daemonize_consumers=True)
        _wait(self._shop.check_health, "the service does not consume")
        yield "service", f"the shop consumes queue {_QUEUE}"
        yield "request", _TEA.model_dump_json()
        yield "answer", self._ask()

    def _ask(self) -> str:
        began = time.monotonic()
        answer = self._client.request(_TEA, Shop.orders, timeout=_TIMEOUT)
        return f"{answer.model_dump_json()} after {(time.monotonic() - began) * 1000:.1f} ms"

    def _fail(self) -> Iterator[Step]:
        dead_queue = dead_queue_name(_QUEUE)

        def is_parked() -> bool:
            rows = self._broker.list_queues("/")
            return any(row["name"] == dead_queue and row.get("messages", 0) for row in rows)

        yield "message", f"{to_json(_COFFEE, pretty=False)}, which the shop does not sell"
        self._client.send_message(_COFFEE, queue=_QUEUE, expiration=None)
        _wait(is_parked, "the message that fails is not parked")
        parameters = [self._client.get_connection_params(self._client.vhost)]
        (letter,) = dead_letters.show(parameters, _QUEUE)
        yield "parked", f"in queue {dead_queue}: {letter.error}"
        self._shop.prices["coffee"] = 4.5
        dead_letters.replay(parameters, _QUEUE)
        try:
            while self._shop.answers.get(timeout=_TIMEOUT) != Price(price=13.5):
                pass
        except Empty:
            _check(False, "the message that was replayed is not handled")
        yield "replayed", 'the shop sells coffee now, and has answered {"price":13.5}'

    def _outlive_the_broker(self) -> Iterator[Step]:
        self._broker.kill()
        _wait(lambda: not self._shop.check_health(), "the service has not noticed the outage")
        yield "killed", "the broker is gone; the service knows, and tries to reach it"
        self._broker.start()
        _wait(self._shop.check_health, "the service is not back")
        yield "back", f"the broker was started again; {self._ask()}"

    def _left(self) -> list[str]:
        threads = [each for each in threading.enumerate() if each not in self._threads]
        return [
            *(f"thread {each.name}" for each in threads if each.name.startswith("mq-")),
            *(f"connection {row['name']}" for row in self._broker.list_connections()),
        ]


def _wait(condition: Callable[[], bool], complaint: str) -> None:
    _check(poll(condition, bool, _TIMEOUT), complaint)


def _check(condition: bool, complaint: str) -> None:
    if not condition:
        raise CommandError(complaint, ExitCode.FAILED)
