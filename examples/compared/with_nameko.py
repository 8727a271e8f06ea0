"""The three tasks with nameko; its services run on eventlet."""

from __future__ import annotations

import os

import eventlet

eventlet.monkey_patch()

from kombu import Connection, Exchange, Queue  # noqa: E402
from nameko.containers import ServiceContainer  # noqa: E402
from nameko.events import BROADCAST, event_handler  # noqa: E402
from nameko.exceptions import RemoteError  # noqa: E402
from nameko.messaging import consume  # noqa: E402
from nameko.rpc import rpc  # noqa: E402
from nameko.standalone.events import event_dispatcher  # noqa: E402
from nameko.standalone.rpc import ClusterRpcProxy  # noqa: E402
from pydantic import BaseModel  # noqa: E402

PRICES = {"tea": 3.5}
CONFIG = {"AMQP_URI": os.environ["NEON_MQ_URL"]}
DEAD = Queue("compared_jobs.dead", Exchange("compared_dead", "fanout"))
JOBS = Queue(
    "compared_jobs",
    queue_arguments={
        "x-queue-type": "quorum",
        "x-delivery-limit": 2,
        "x-dead-letter-exchange": "compared_dead",
    },
)


class Item(BaseModel):
    """What a request asks for."""

    name: str
    count: int


class Shop:
    """Answer and work."""

    name = "compared"
    tries = 0

    @rpc
    def price(self, request: dict) -> float:
        """Answer; an exception is raised at the client again, as a RemoteError."""
        item = Item.model_validate(request)
        return PRICES[item.name] * item.count

    @consume(JOBS, requeue_on_error=True)
    def work(self, job: dict) -> None:
        """Work. The broker counts the tries, repeats at once, and dead-letters at its limit."""
        Shop.tries += job["number"] == 1
        if job["number"] == 2 or Shop.tries < 3:
            raise ConnectionError("not yet")
        print(f"job 1 done after {Shop.tries} tries", flush=True)


def reader_of(reader: str) -> type:
    """Make the service of a reader."""

    class Reader:
        name = reader

        @event_handler("compared", "news", handler_type=BROADCAST, reliable_delivery=False)
        def on_news(self, headline: str) -> None:
            print(f"{reader} reads: {headline}", flush=True)

    return Reader


def main() -> None:
    """Start the services, and be their client."""
    classes = [Shop, reader_of("alice"), reader_of("bob")]
    containers = [ServiceContainer(each, config=CONFIG) for each in classes]
    with Connection(CONFIG["AMQP_URI"]) as connection:
        dead = DEAD(connection.default_channel)
        dead.declare()
        for container in containers:
            container.start()
        with ClusterRpcProxy(CONFIG, timeout=10) as cluster:
            print("price", cluster.compared.price({"name": "tea", "count": 2}))
            try:
                cluster.compared.price({"name": "coffee", "count": 1})
            except RemoteError as error:
                print("error", error)
        producer = connection.Producer()
        for number in (1, 2):
            producer.publish({"number": number}, serializer="json", routing_key="compared_jobs")
        event_dispatcher(CONFIG)("compared", "news", "open")
        while (message := dead.get(no_ack=True)) is None:
            eventlet.sleep(0.05)
        print(f"job {message.payload['number']} is dead", flush=True)
        eventlet.sleep(0.2)
    for container in containers:
        container.stop()


if __name__ == "__main__":
    main()
