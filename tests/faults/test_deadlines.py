"""A call has one time for all of its steps, and says what it waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.errors import PublishTimeoutError, RequestTimeoutError
from neon_mq_connector.service.configured import server_parameters
from neon_mq_connector.testing import PrivateBroker
from neon_mq_connector.testing.proxy import FaultProxy
from tests.faults.peer import Peer
from tests.support.polling import eventually

PATIENCE = 120
Alarm = Callable[[], AbstractContextManager[None]]
MakeService = Callable[..., MQConnector]

SENDS: list[Callable[[Any], Any]] = [
    lambda it: it.send_message({"a": 1}, queue="q"),
    lambda it: it.send_message({"a": 1}, exchange="e", queue="q"),
    lambda it: it.send_message({"a": 1}, exchange="f", exchange_type="fanout"),
    # by a connection of the moment
    lambda it: it.send_message({"a": 1}, connection_props={"heartbeat": 0}, queue="q"),
    lambda it: it.send_message(
        {"a": 1}, connection_props={"heartbeat": 0}, exchange="e", queue="q"
    ),
]


@pytest.mark.own_broker
def test_a_send_ends_during_an_alarm_and_says_that_it_was_late(
    make_service: MakeService, alarm: Alarm, peer: Peer
) -> None:
    services = [make_service(publish_timeout=1, heartbeat=0) for _ in SENDS]
    peer.declare("q")

    def connect() -> Any:
        return services[0].create_mq_connection(services[0].vhost)

    with alarm(), ThreadPoolExecutor(1) as owner, ThreadPoolExecutor(len(SENDS)) as others:
        calls = [others.submit(send, it) for send, it in zip(SENDS, services, strict=True)]
        # on a connection of the caller's, in the thread that owns it and in another
        for mine, pool in ((owner.submit(connect).result(PATIENCE), owner), (connect(), others)):
            calls.append(pool.submit(MQConnector.emit_mq_message, mine, {"a": 1}, queue="q"))
        # all have ended before the alarm has
        errors = [call.exception(PATIENCE) for call in calls]
    assert [type(error) for error in errors] == [PublishTimeoutError] * len(calls)
    if mine.is_open:
        mine.close()


def test_many_threads_with_reply_queues_end_together_and_leave_none_behind(
    make_service: MakeService, proxy: FaultProxy, peer: Peer, broker: PrivateBroker
) -> None:
    service = make_service(heartbeat=0)
    client = RequestClient(server_parameters(service, service.vhost), owner="asker")
    try:
        peer.declare("q")
        with pytest.raises(RequestTimeoutError):
            client.request(RequestSpec("q", {"n": 0}, timeout=0.5), reply_queue="first")
        proxy.blackhole(new=True)
        over: list[int] = []
        began = threading.Barrier(13)

        def ask(number: int) -> None:
            began.wait(PATIENCE)
            with pytest.raises(RequestTimeoutError, match="not sent"):
                client.request(
                    RequestSpec("q", {"n": number}, timeout=1.0), reply_queue=f"answers-{number}"
                )
            over.append(number)

        def wait_for_longer() -> int:
            began.wait(PATIENCE)
            with pytest.raises(RequestTimeoutError):
                client.request(RequestSpec("q", {"n": -1}, timeout=5.0), reply_queue="patient")
            return len(over)

        with ThreadPoolExecutor(13) as pool:
            patient = pool.submit(wait_for_longer)
            impatient = [pool.submit(ask, number) for number in range(12)]
            # one after another, the last of twelve would have ended after many times its own time
            for each in impatient:
                each.result(PATIENCE)
            assert patient.result(PATIENCE) == 12
        proxy.restore()

        def names() -> list[str]:
            return [str(queue["name"]) for queue in broker.list_queues(service.vhost)]

        def asked_again() -> bool:
            try:
                client.request(RequestSpec("q", {"n": 1}, timeout=0.5), reply_queue="last")
            except Exception as error:
                return "no answer" in str(error)
            return True

        eventually(asked_again, what="a request is sent again")
        eventually(
            lambda: not [name for name in names() if "answers" in name or name == "patient"],
            what="no reply queue is left behind",
        )
    finally:
        client.close()
