"""One run: start everybody, break things, wait for quiet, count."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import ExitStack
from typing import Any

import pika

from neon_mq_connector import MQConnector
from neon_mq_connector.client import RequestClient
from neon_mq_connector.testing import PrivateBroker
from tests.soak.actors import (
    DELETED,
    NEWS,
    SERVICES,
    SUBSCRIBERS,
    Producer,
    Watch,
    make_service,
    make_subscriber,
    make_uncounted,
)
from tests.soak.asking import ASKED, Asker, make_asked
from tests.soak.books import Books, number_of
from tests.soak.faults import Saboteur, plan
from tests.soak.report import Report
from tests.soak.vitals import Vitals, measure, name_threads, queue_names, settle
from tests.support.accounting import take_all
from tests.support.polling import eventually
from tests.support.proxy import FaultProxy

VHOST = "/soak"
PRODUCERS = 4

#: Seconds: of work before the first fault, in which a consumer must have come back after the last,
#: that a consumer that lives may be without a message, and for what is left to be handled.
UNDISTURBED = 5.0
RECOVERY = 15.0
SILENCE = 3.0
DRAIN = 60.0
#: What the resident memory may grow by, after the first minute; a short run is still warming up.
GROWTH = 0.10
GROWTH_OF_A_SHORT_RUN = 0.25
SHORT = 180.0
_MOST_TOLD = 5


class Soak:
    """A run.

    Args:
        seconds: how long, counting and clearing up not included.
        seed: of the faults.
        rate: messages a second of each producer.
        verbose: tell of each fault.
    """

    def __init__(self, seconds: float, seed: int, rate: float, *, verbose: bool) -> None:
        self.report = Report(seed, seconds)
        self._seconds = seconds
        self._rate = rate
        self._verbose = verbose
        self._faults = plan(seed, UNDISTURBED, seconds - RECOVERY)
        self._watch = Watch()
        # room for four times what the pace allows: each place gets every so-manieth message
        capacity = int(seconds * rate * PRODUCERS) + 1_000
        self._queues = {each.queue: Books(each.queue, capacity) for each in SERVICES}
        self._news = {name: Books(name, capacity) for name in SUBSCRIBERS}
        self._services: list[MQConnector] = []
        self._producers: list[Producer] = []
        self._asker: Asker | None = None
        self._client: RequestClient | None = None

    def run(self) -> Report:
        """Do it all; ends everything that it started."""
        with ExitStack() as stack:
            broker = stack.enter_context(PrivateBroker())
            broker.create_vhost(VHOST)
            _declare_as_an_operator(broker)
            proxy = stack.enter_context(FaultProxy(broker.port))
            before = measure(broker, VHOST)
            self.report.vitals["before"] = before
            stack.callback(self._stop_everybody)
            self._start(broker, proxy)
            self._start_asking(broker, proxy)
            self._break_things(broker, proxy)
            self._check_memory()
            self._see_who_is_silent()
            self._drain(broker)
            self._stop_everybody()
            self._check_what_is_left(broker, before)
            self._count(broker)
        return self.report

    # -- everybody -----------------------------------------------------------------------------

    def _start(self, broker: PrivateBroker, proxy: FaultProxy) -> None:
        def connector(name: str) -> MQConnector:
            credentials = {"user": broker.username, "password": broker.password}
            made = MQConnector(
                {
                    "server": proxy.host,
                    "port": proxy.port,
                    "users": {name: credentials},
                    "heartbeat": 3,
                    "connect_timeout": 3,
                    "publish_timeout": 10,
                },
                name,
            )
            made.vhost = VHOST
            self._services.append(made)
            return made

        for each in SERVICES:
            make_service(connector(each.queue), each, self._queues[each.queue], self._watch)
        make_uncounted(self._services[0], self._watch)
        for name in SUBSCRIBERS:
            make_subscriber(connector(name), name, self._news[name], self._watch)
        make_asked(connector(ASKED), self._watch)
        for service in self._services:
            service.run(run_sync=False, mq_timeout=20)
        numbers = threading.Lock()
        for number in range(PRODUCERS):
            sender = connector(f"producer-{number}")
            producer = Producer(number, sender, self._queues, self._news, self._rate, numbers)
            self._producers.append(producer)
            producer.start()

    def _start_asking(self, broker: PrivateBroker, proxy: FaultProxy) -> None:
        credentials = pika.PlainCredentials(broker.username, broker.password)
        parameters = pika.ConnectionParameters(
            proxy.host,
            proxy.port,
            VHOST,
            credentials,
            heartbeat=3,
            stack_timeout=3,
        )
        client = RequestClient([parameters], owner="asker")
        self._client = client
        self._asker = Asker(client)
        self._asker.start()

    def _stop_asking(self) -> None:
        asker, self._asker = self._asker, None
        if asker is None:
            return
        asker.stop()
        asker.join(60)
        if asker.is_alive():
            self._complain("asker: a request does not end")
        self.report.requests = dict(asker.counts)
        for each in asker.complaints[:_MOST_TOLD]:
            self._complain(each)
        if not asker.counts["answered"]:
            self._complain("no request was answered")

    def _stop_everybody(self) -> None:
        self._stop_asking()
        if self._client is not None:
            self._client.close()
            self._client = None
        for producer in self._producers:
            producer.stop()
        for producer in self._producers:
            producer.join(30)
            for name, count in producer.unexpected.items():
                before = self.report.unexpected.get(name, 0)
                self.report.unexpected[name] = before + count
        self._producers.clear()
        for service in self._services:
            service.stop()
        self._services.clear()

    # -- faults --------------------------------------------------------------------------------

    def _break_things(self, broker: PrivateBroker, proxy: FaultProxy) -> None:
        began = time.monotonic()
        saboteur = Saboteur(broker, proxy, VHOST)
        self.report.faults = saboteur.counts
        early = min(60.0, self._seconds / 2)
        for fault in self._faults:
            self._wait(began, fault.at, early, broker)
            self._say(f"{time.monotonic() - began:6.1f} s  {fault.kind}")
            saboteur.commit(fault)
        proxy.heal()
        self._last_fault = time.monotonic()
        self._wait(began, time.monotonic() - began + RECOVERY / 2, early, broker)
        if self._asker is not None:
            self._asker.calm.set()
        self._wait(began, time.monotonic() - began + RECOVERY / 2, early, broker)
        self.report.vitals["end"] = measure(broker, VHOST)

    def _wait(self, began: float, until: float, early: float, broker: PrivateBroker) -> None:
        """Wait, and measure what is to be compared with the end, when it is time for that."""
        while (now := time.monotonic() - began) < until:
            if now >= early and "early" not in self.report.vitals:
                self.report.vitals["early"] = measure(broker, VHOST)
            elif now >= UNDISTURBED - 1 and "undisturbed" not in self.report.vitals:
                self.report.vitals["undisturbed"] = measure(broker, VHOST)
            time.sleep(min(0.25, max(0.0, until - now)))

    # -- promises ------------------------------------------------------------------------------

    def _check_memory(self) -> None:
        vitals = self.report.vitals
        early, end = vitals["early"].resident_mb, vitals["end"].resident_mb
        allowed = GROWTH if self._seconds >= SHORT else GROWTH_OF_A_SHORT_RUN
        if end > early * (1 + allowed):
            self._complain(f"resident memory grew from {early} MB to {end} MB")

    def _see_who_is_silent(self) -> None:
        now = time.monotonic()
        for name in (*self._queues, *self._news, DELETED, ASKED):
            silent = now - self._watch.last.get(name, 0.0)
            if silent > SILENCE:
                self.report.silent[name] = round(silent, 1)
                self._complain(
                    f"consumer of {name!r} has been silent for {silent:.1f} s, "
                    f"{now - self._last_fault:.0f} s after the last fault"
                )
        for service in self._services:
            asked = service.consumers.get(ASKED)
            session = None if asked is None else asked.consumer.session
            if session is not None and not session.takes_answers:
                self._complain(f"the consumer of {ASKED!r} has not moved for its answers")
            if service.consumers and not service.check_health():
                states = {n: str(t.snapshot) for n, t in service.consumers.items()}
                self._complain(f"{service.service_name} is not healthy: {states}")

    def _drain(self, broker: PrivateBroker) -> None:
        """Wait until everything that was sent is handled, while the consumers go on."""
        self._stop_asking()
        for producer in self._producers:
            producer.stop()
        for producer in self._producers:
            producer.join(30)
            if producer.is_alive():
                self._complain(f"{producer.name}: a send does not return")

        def left() -> int:
            rows = broker.list_queues(VHOST)
            return sum(row.get("messages", 0) for row in rows if not row["name"].endswith(".dead"))

        try:
            eventually(lambda: left() == 0, timeout=DRAIN, interval=0.5)
        except AssertionError:
            self._complain(f"{left()} messages are not handled {DRAIN:.0f} s after the last send")
        # with nothing to do everybody is to be as in the beginning
        first = self.report.vitals["undisturbed"]
        now = settle(broker, VHOST, lambda v: not v.more_than(first), 15)
        self.report.vitals["idle"] = now
        for more in now.more_than(first):
            self._complain(f"more than before the faults: {more} ({name_threads()})")

    def _check_what_is_left(self, broker: PrivateBroker, before: Vitals) -> None:
        def good(vitals: Vitals) -> bool:
            return not [each for each in vitals.more_than(before) if "queues" not in each]

        now = settle(broker, VHOST, good, 15)
        self.report.vitals["after"] = now
        for more in now.more_than(before):
            if "queues" not in more:
                self._complain(f"left behind: {more} ({name_threads()})")
        ours = {*self._queues, DELETED, ASKED}
        strange = [
            name
            for name in queue_names(broker, VHOST)
            if name not in ours and not name.endswith(".dead")
        ]
        if strange:
            self._complain(f"queues left behind: {', '.join(strange)}")

    def _count(self, broker: PrivateBroker) -> None:
        for place, books in {**self._queues, **self._news}.items():
            dead = [f"{place}.dead", f"{place}.{NEWS}.dead"]
            totals = books.totals(
                parked=[n for queue in dead for n in _numbers_in(broker, queue)],
                ready=_numbers_in(broker, place),
            )
            self.report.totals.append(totals)
            if totals.lost:
                self._complain(f"{totals.lost} messages are lost: {totals.examples}")
            if totals.false_alarms:
                self._complain(f"{totals.false_alarms} arrived after all: {totals.examples}")
            if totals.handled == 0:
                self._complain(f"nothing was handled in {place!r}")
        if self.report.unexpected:
            self._complain("a send raised what is no PublishError")

    def _complain(self, what: str) -> None:
        self._say(f"BROKEN: {what}")
        self.report.complaints.append(what)

    def _say(self, what: str) -> None:
        if self._verbose:
            print(what, file=sys.stderr, flush=True)


def _declare_as_an_operator(broker: PrivateBroker) -> None:
    """Make the exchange durable: with it, what is bound to it survives a restart of the broker."""
    broker.management.call(
        "PUT", "exchanges", VHOST, NEWS, body={"type": "fanout", "durable": True}
    )


def _numbers_in(broker: PrivateBroker, queue: str) -> list[int]:
    connection = pika.BlockingConnection(pika.URLParameters(broker.url(VHOST)))
    try:
        taken: list[tuple[Any, bytes]] = list(take_all(connection.channel(), queue))
    finally:
        if connection.is_open:
            connection.close()
    return [number_of(properties.message_id) for properties, _ in taken]
