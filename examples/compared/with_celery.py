"""The three tasks with Celery; a worker process beside the client."""

from __future__ import annotations

import os
import subprocess
import sys

import celery
from celery.exceptions import Reject
from kombu import Connection, Exchange, Queue
from kombu.common import Broadcast
from pydantic import BaseModel

PRICES = {"tea": 3.5}
URL = os.environ["NEON_MQ_URL"]
DEAD = Queue("compared_jobs.dead", Exchange("compared_dead", "fanout"))
READERS = ("alice", "bob")

app = celery.Celery("compared", broker=URL, backend="rpc://")
app.conf.task_queues = (
    Queue("compared"),
    Queue("compared_jobs", queue_arguments={"x-dead-letter-exchange": "compared_dead"}),
    Broadcast("compared_news", queue=f"compared_{os.environ.get('READER', '')}"),
)
app.conf.task_default_queue = "compared"
app.conf.worker_redirect_stdouts = False
app.conf.broker_connection_retry_on_startup = True


class Item(BaseModel):
    """What a request asks for."""

    name: str
    count: int


@app.task(name="price", pydantic=True)
def price(item: Item) -> float:
    """Answer; an exception is raised at the client again."""
    return PRICES[item.name] * item.count


@app.task(name="work", bind=True, acks_late=True, max_retries=2)
def work(self: celery.Task, number: int) -> None:
    """Work. A retry is a new message, which a worker holds until its time has come."""
    tries = self.request.retries + 1
    if number == 1 and tries == 3:
        print(f"job 1 done after {tries} tries", flush=True)
    elif tries < 3:
        raise self.retry(countdown=0.1)
    else:
        raise Reject("tried three times", requeue=False)


@app.task(name="news")
def news(headline: str) -> None:
    """Read news."""
    print(f"{os.environ['READER']} reads: {headline}", flush=True)


def start_worker(reader: str) -> subprocess.Popen[bytes]:
    """Start a worker; each is a reader."""
    arguments = ["-A", "with_celery", "worker", "--pool=solo", f"--hostname={reader}@compared"]
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "--quiet", *arguments, "--loglevel=CRITICAL"],
        cwd=os.path.dirname(os.path.abspath(__file__)),
        env={**os.environ, "READER": reader},
    )


def main() -> None:
    """Start the workers, and be their client."""
    with Connection(URL) as connection:
        dead = DEAD(connection.default_channel)
        dead.declare()
        workers = [start_worker(reader) for reader in READERS]
        try:
            print("price", price.delay({"name": "tea", "count": 2}).get(timeout=30))
            try:
                price.delay({"name": "coffee", "count": 1}).get(timeout=30)
            except KeyError as error:
                print("error", repr(error))
            while len(app.control.ping(timeout=0.5)) < len(READERS):
                pass
            news.apply_async(("open",), queue="compared_news")
            for number in (1, 2):
                work.apply_async((number,), queue="compared_jobs")
            while (message := dead.get(no_ack=True)) is None:
                pass
            print(f"job {message.payload[0][0]} is dead", flush=True)
        finally:
            for worker in workers:
                worker.terminate()
                worker.wait(30)


if __name__ == "__main__":
    main()
