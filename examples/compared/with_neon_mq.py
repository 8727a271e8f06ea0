"""The three tasks with this library."""

from __future__ import annotations

import logging
from collections import Counter
from queue import Queue

from pydantic import BaseModel

from neon_mq_connector import (
    ExponentialBackoff,
    MQConnector,
    RemoteError,
    RequestRefusedError,
    Retry,
    consumer,
    subscriber,
)

PRICES = {"tea": 3.5}


class Item(BaseModel):
    """What a request asks for."""

    name: str
    count: int


class Price(BaseModel):
    """The answer."""

    price: float


class Job(BaseModel):
    """What a worker does."""

    number: int


class News(BaseModel):
    """What subscribers read."""

    headline: str


class Shop(MQConnector):
    """Answer and work; what fails for the last time is parked in `<queue>.dead`."""

    def __init__(self) -> None:
        super().__init__(None, "shop")
        self.tries: Counter[int] = Counter()

    @consumer("compared_price")
    def price(self, item: Item) -> Price:
        """Answer; an exception is raised at the client again, as a RemoteError."""
        if item.name not in PRICES:
            raise RequestRefusedError(f"no {item.name}")
        return Price(price=PRICES[item.name] * item.count)

    @consumer("compared_jobs", retry=Retry(attempts=3, backoff=ExponentialBackoff(first=0.1)))
    def work(self, job: Job) -> None:
        """Work. A try that fails is repeated here, later each time."""
        self.tries[job.number] += 1
        if job.number == 2 or self.tries[job.number] < 3:
            raise ConnectionError("not yet")
        print(f"job {job.number} done after {self.tries[job.number]} tries", flush=True)


class Reader(MQConnector):
    """Read news."""

    @subscriber("compared_news")
    def on_news(self, news: News) -> None:
        """Read one."""
        print(f"{self.service_name} reads: {news.headline}", flush=True)


class Undertaker(MQConnector):
    """See what was parked."""

    def __init__(self) -> None:
        super().__init__(None, "undertaker")
        self.dead: Queue[int] = Queue()

    @consumer("compared_jobs.dead")
    def on_dead(self, job: Job) -> None:
        """Take one."""
        self.dead.put(job.number)


def main() -> None:
    """Start the services, and be their client."""
    logging.getLogger("neon_mq_connector").setLevel(logging.CRITICAL)
    undertaker = Undertaker()
    services = [Shop(), Reader(None, "alice"), Reader(None, "bob"), undertaker]
    for service in services:
        service.run()
    client = MQConnector(None, "client")
    print("price", client.request(Item(name="tea", count=2), Shop.price).price)
    try:
        client.request(Item(name="coffee", count=1), Shop.price)
    except RemoteError as error:
        print("error", error)
    for number in (1, 2):
        client.send_message({"number": number}, queue="compared_jobs", expiration=60_000)
    client.send_message({"headline": "open"}, exchange="compared_news", exchange_type="fanout")
    print(f"job {undertaker.dead.get(timeout=10)} is dead", flush=True)
    for connector in (client, *services):
        connector.stop()


if __name__ == "__main__":
    main()
