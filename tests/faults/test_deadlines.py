"""A call has one time for all of its steps, and says what it waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.client import RequestClient
from neon_mq_connector.errors import PublishTimeoutError, RequestTimeoutError
from neon_mq_connector.testing import PrivateBroker
from tests.faults.peer import Peer
from tests.support.polling import eventually
from tests.support.proxy import FaultProxy

PATIENCE = 60
Alarm = Callable[[], AbstractContextManager[None]]
MakeService = Callable[..., MQConnector]

SENDS: dict[str, Callable[[Any], Any]] = {
    "to a queue": lambda it: it.send_message({"a": 1}, queue="q"),
    "to an exchange": lambda it: it.send_message({"a": 1}, exchange="e", queue="q"),
    "to a fanout": lambda it: it.send_message({"a": 1}, exchange="f", exchange_type="fanout"),
    "by a connection of the moment": lambda it: it.send_message(
        {"a": 1}, connection_props={"heartbeat": 0}, queue="q"
    ),
    "by a connection of the moment to an exchange": lambda it: it.send_message(
        {"a": 1}, connection_props={"heartbeat": 0}, exchange="e", queue="q"
    ),
}


@pytest.mark.own_broker
@pytest.mark.parametrize("way", list(SENDS))
def test_a_send_ends_during_an_alarm_and_says_that_it_was_late(
    way: str, make_service: MakeService, alarm: Alarm, peer: Peer
) -> None:
    service = make_service(publish_timeout=1)
    peer.declare("q")
    with alarm(), ThreadPoolExecutor(1) as pool:
        call = pool.submit(SENDS[way], service)
        # it has ended before the alarm has
        assert isinstance(call.exception(PATIENCE), PublishTimeoutError)


@pytest.mark.own_broker
@pytest.mark.parametrize("owner", ["itself", "another"])
def test_a_message_on_the_callers_connection_ends_during_an_alarm(
    owner: str, make_service: MakeService, alarm: Alarm, peer: Peer
) -> None:
    service = make_service(publish_timeout=1, heartbeat=0)
    peer.declare("q")

    def connect() -> Any:
        return service.create_mq_connection(service.vhost)

    with alarm(), ThreadPoolExecutor(1) as pool:
        connection = connect() if owner == "another" else pool.submit(connect).result(PATIENCE)
        call = pool.submit(MQConnector.emit_mq_message, connection, {"a": 1}, queue="q")
        assert isinstance(call.exception(PATIENCE), PublishTimeoutError)
    if owner == "another":
        connection.close()


def test_many_threads_with_reply_queues_end_together_and_leave_none_behind(
    make_service: MakeService, proxy: FaultProxy, peer: Peer, broker: PrivateBroker
) -> None:
    service = make_service(heartbeat=0)
    client = RequestClient(service._all_parameters(service.vhost), owner="asker")
    try:
        peer.declare("q")
        with pytest.raises(RequestTimeoutError):
            client.request("q", {"n": 0}, timeout=0.5, reply_queue="first")
        proxy.blackhole(new=True)
        over: list[int] = []
        began = threading.Barrier(13)

        def ask(number: int) -> None:
            began.wait(PATIENCE)
            with pytest.raises(RequestTimeoutError, match="not sent"):
                client.request("q", {"n": number}, timeout=3.0, reply_queue=f"answers-{number}")
            over.append(number)

        def wait_for_longer() -> int:
            began.wait(PATIENCE)
            with pytest.raises(RequestTimeoutError):
                client.request("q", {"n": -1}, timeout=8.0, reply_queue="patient")
            return len(over)

        with ThreadPoolExecutor(13) as pool:
            patient = pool.submit(wait_for_longer)
            impatient = [pool.submit(ask, number) for number in range(12)]
            # one after another, the last of twelve would have ended after many times its own time
            assert patient.result(PATIENCE) == 12
            for each in impatient:
                each.result(PATIENCE)
        proxy.heal()

        def names() -> list[str]:
            return [str(queue["name"]) for queue in broker.list_queues(service.vhost)]

        def asked_again() -> bool:
            try:
                client.request("q", {"n": 1}, timeout=0.5, reply_queue="last")
            except Exception as error:
                return "no answer" in str(error)
            return True

        eventually(asked_again, timeout=PATIENCE, what="a request is sent again")
        eventually(
            lambda: not [name for name in names() if "answers" in name or name == "patient"],
            timeout=PATIENCE,
            what="no reply queue is left behind",
        )
    finally:
        client.close()
