"""One run: start everybody, break things, wait for quiet, count."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pika

from neon_mq_connector import MQConnector
from neon_mq_connector.client import RequestClient
from neon_mq_connector.testing import PrivateBroker
from neon_mq_connector.testing.proxy import FaultProxy
from tests.soak.actors import Actor, Hooks, HostileHeaders, Large, Subscriber
from tests.soak.asking import ASKED, Asked, Asker
from tests.soak.books import Books
from tests.soak.faults import GRACE, MEND, Fault, Saboteur, faults, ready_in, take_parked
from tests.soak.producers import Producer
from tests.soak.report import Report
from tests.soak.vitals import Vitals, measure, name_threads, queue_names, settle
from tests.soak.watch import Watch
from tests.support.configurations import config_of
from tests.support.polling import eventually

VHOST = "/soak"
PRODUCERS = 4

#: Seconds: of work before the first fault, of calm after the last, and for what is left then.
UNDISTURBED = 5.0
LAST_CALM = GRACE + 10.0
DRAIN = 60.0
#: How often a message may be tried at most: lost lines have it tried anew.
MOST_TRIES = 60
#: What the resident memory may grow by in the second half: until then what is kept for use again
#: is still being filled. A short run has no such half.
GROWTH = 0.10
FEWEST_CALMS = 3
_MOST_TOLD = 5

_QUORUM = {"x-queue-type": "quorum"}
#: The longest name that a queue can have: 255 bytes.
_LONG_NAME = "soak.long." + "ü" * 122 + "y"


def _make_cast() -> list[Actor]:
    """Return the actors, each new."""
    # callbacks of `slow` seconds are slow by this, and have messages wait behind them
    slow = {"slow_callback_after": 1.0}
    little = {"inbox_max_bytes": 500_000, **slow}
    return [
        Actor("soak.plain"),
        Actor("soak.failing", fails=True, concurrency=4),
        Actor("soak.quorum", "manual", arguments=_QUORUM),
        Actor("soak.receipt", "on_receipt"),
        Actor(_LONG_NAME, fails=True),
        Subscriber("soak.news"),
        Actor("soak.slow-receipt", "on_receipt", slow=3.0, settings=slow),
        Large("soak.large", slow=3.0, settings=little),
        Large("soak.large-quorum", slow=3.0, settings=little, arguments=_QUORUM),
        Actor("soak.slow", slow=6.0, settings=slow),
        Subscriber("soak.slow-news", slow=4.0, settings=slow),
        HostileHeaders("soak.headers"),
        HostileHeaders("soak.headers-receipt", "on_receipt"),
        Hooks("soak.hooks"),
        Hooks("soak.hooks-workers", concurrency=4),
        Asked(ASKED, "manual"),
    ]


class Soak:
    """A run.

    Args:
        seconds: how long, counting and clearing up not included.
        seed: of the faults, and of what runs the callbacks of whom.
        rate: messages a second of each producer.
    """

    def __init__(self, seconds: float, seed: int, rate: float) -> None:
        self.report = Report(seed, seconds, verbose=True)
        self._seconds = seconds
        self._rate = rate
        self._broker = PrivateBroker()
        self._proxy: FaultProxy
        self._actors = _make_cast()
        for each in self._actors:
            # room for more than the pace allows: each gets one message in as many as there are
            each.books = Books(str(each), 1_000 + int(seconds * rate))
        self._asked = [each for each in self._actors if isinstance(each, Asked)]
        self._kept: set[str] = set()  # queues that may outlive their services
        self._services: list[MQConnector] = []
        self._producers: list[Producer] = []
        self._asker: Asker | None = None
        self._client: RequestClient | None = None

    def run(self) -> Report:
        """Do it all; ends everything that it started."""
        with ExitStack() as stack:
            broker = stack.enter_context(self._broker)
            broker.create_vhost(VHOST)
            self._proxy = stack.enter_context(FaultProxy(broker.port))
            saboteur = Saboteur(broker, self._proxy, VHOST, self._actors)
            before = self._measure("before")
            stack.callback(self._stop_everybody)
            self._start()
            watch = Watch(broker, VHOST, self._actors, saboteur, self.report.complain)
            stack.callback(watch.stop)
            watch.start()
            self._break_things(saboteur)
            self._check_memory()
            self._drain()
            watch.stop()
            self.report.wellbeing = watch.seen
            self._stop_everybody()
            self._check_what_is_left(before)
            self._count()
        return self.report

    # -- everybody -----------------------------------------------------------------------------

    def _start(self) -> None:
        for number, actor in enumerate(self._actors):
            actor.prepare(self._broker, VHOST)
            engine = actor.engines[(self.report.seed + number) % len(actor.engines)]
            self.report.engines[str(actor)] = engine
            actor.start(self._connector(str(actor), actor.settings), engine)
            self._kept.update(actor.dead_queues)
            if not isinstance(actor, Subscriber):
                self._kept.update(actor.queues)
        counted = [each for each in self._actors if each not in self._asked]
        for number in range(PRODUCERS):
            producer = Producer(
                number,
                self._connector(f"producer-{number}", {}),
                pika.URLParameters(self._broker.url(VHOST)),
                counted,
                self._rate,
            )
            self._producers.append(producer)
            producer.start()
        credentials = pika.PlainCredentials(self._broker.username, self._broker.password)
        where = pika.ConnectionParameters(
            self._proxy.host, self._proxy.port, VHOST, credentials, heartbeat=3, stack_timeout=3
        )
        self._client = RequestClient([where], owner="asker")
        self._asker = Asker(self._client)
        self._asker.start()

    def _connector(self, name: str, settings: dict[str, object]) -> MQConnector:
        timing = {"heartbeat": 3, "connect_timeout": 3, "publish_timeout": 10, "stop_timeout": 10}
        timing = {**timing, "operation_timeout": 15, "request_timeout": 30}
        config = {**config_of(self._broker, name), "port": self._proxy.port, **timing, **settings}
        made = MQConnector(config, name)
        made.vhost = VHOST
        self._services.append(made)
        return made

    def _stop_sending(self) -> None:
        asker, self._asker = self._asker, None
        if asker is not None:
            asker.stop()
            asker.join(60)
            if asker.is_alive():
                self.report.complain("asker: a request does not end")
            moved = sum(actor.has_moved for actor in self._asked)
            self.report.requests = {**asker.counts, "consumers have moved": moved}
            for each in asker.complaints[:_MOST_TOLD]:
                self.report.complain(each)
            if not asker.counts["answered"]:
                self.report.complain("no request was answered")
        producers, self._producers = self._producers, []
        for producer in producers:
            producer.stop()
        for producer in producers:
            producer.join(30)
            if producer.is_alive():
                self.report.complain(f"{producer.name}: a send does not return")
            for name, count in producer.unexpected.items():
                self.report.unexpected[name] = self.report.unexpected.get(name, 0) + count

    def _stop_everybody(self) -> None:
        self._stop_sending()
        if self._client is not None:
            self._client.close()
            self._client = None
        while self._services:
            self._services.pop().stop()

    # -- faults --------------------------------------------------------------------------------

    def _break_things(self, saboteur: Saboteur) -> None:
        began = time.monotonic()
        last = began + self._seconds - LAST_CALM
        self.report.faults = saboteur.counts
        self._wait(began + UNDISTURBED)
        self._measure("undisturbed")
        for fault in faults(self.report.seed):
            if time.monotonic() + fault.pause > last:
                break
            self._wait(time.monotonic() + fault.pause)
            self.report.say(f"{time.monotonic() - began:6.1f} s  {fault.kind}")
            saboteur.commit(fault)
            if fault.kind == MEND:
                self._measure(f"calm {saboteur.counts[MEND]}")
        saboteur.commit(Fault(0.0, MEND, 0.0, 0.0))
        self._measure("last calm")
        self._wait(time.monotonic() + GRACE)
        if self._asker is not None:
            self._asker.calm.set()
        self._wait(time.monotonic() + LAST_CALM - GRACE)
        self._measure("end")

    @staticmethod
    def _wait(until: float) -> None:
        time.sleep(max(0.0, until - time.monotonic()))

    # -- promises ------------------------------------------------------------------------------

    def _check_memory(self) -> None:
        calms = [v for name, v in self.report.vitals.items() if "calm" in name]
        if len(calms) < FEWEST_CALMS:
            return
        middle = calms[len(calms) // 2].resident_mb
        end = self.report.vitals["end"].resident_mb
        if end > middle * (1 + GROWTH):
            self.report.complain(f"resident memory grew from {middle} MB to {end} MB")

    def _drain(self) -> None:
        """Wait until everything that was sent is handled, while the consumers go on."""
        self._stop_sending()

        def left() -> dict[str, int]:
            rows = self._broker.list_queues(VHOST)
            counts = {row["name"]: row.get("messages", 0) for row in rows}
            ours = (queue for actor in self._actors for queue in actor.queues)
            return {queue: counts[queue] for queue in ours if counts.get(queue)}

        try:
            eventually(lambda: not left(), timeout=DRAIN, interval=0.5)
        except AssertionError:
            for queue, count in left().items():
                self.report.complain(
                    f"{count} messages of {queue[:40]} are not handled {DRAIN:.0f} s after the "
                    "last send"
                )
        # with nothing to do everybody is to be as in the beginning
        first = self.report.vitals["undisturbed"]
        now = settle(self._vitals, lambda v: not v.more_than(first), 15)
        self.report.vitals["idle"] = now
        for more in now.more_than(first):
            self.report.complain(f"more than before faults: {more} ({self._what_there_is()})")

    def _check_what_is_left(self, before: Vitals) -> None:
        now = settle(self._vitals, lambda v: not v.more_than(before), 15)
        self.report.vitals["after"] = now
        for more in now.more_than(before):
            self.report.complain(f"left behind: {more} ({self._what_there_is()})")

    def _what_there_is(self) -> str:
        strange = sorted(queue_names(self._broker, VHOST) - self._kept)
        return f"queues {strange}, threads {name_threads()}"

    def _count(self) -> None:
        for actor in self._actors:
            if actor in self._asked:
                continue
            take_parked(self._broker, VHOST, actor)
            totals = actor.books.totals(ready_in(self._broker, VHOST, actor))
            self.report.totals.append(totals)
            counts = totals.counts
            for what in ("lost", "arrived"):
                if counts[what]:
                    self.report.complain(f"{actor}: {counts[what]} have {what}: {totals.examples}")
            if counts["tries"] > MOST_TRIES:
                self.report.complain(f"{actor}: a message was tried {counts['tries']} times")
            if counts["handled"] == 0:
                self.report.complain(f"{actor}: nothing was handled")
        if self.report.unexpected:
            self.report.complain("a send raised what is no PublishError")

    def _vitals(self) -> Vitals:
        return measure(self._broker, VHOST, self._kept)

    def _measure(self, moment: str) -> Vitals:
        self.report.vitals[moment] = vitals = self._vitals()
        return vitals
