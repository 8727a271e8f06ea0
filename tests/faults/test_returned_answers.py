"""Decorated callbacks whose answers the broker does not confirm, for a while or at all."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from neon_mq_connector import MQConnector, create_mq_callback
from neon_mq_connector.client import RequestClient
from neon_mq_connector.testing.proxy import FaultProxy
from tests.faults.conftest import run
from tests.faults.peer import Peer
from tests.support.polling import eventually, never

QUEUE = "squares"
MANY = 30

Alarm = Callable[[], contextlib.AbstractContextManager[None]]


class Squares(MQConnector):
    """A decorated callback that waits until it may go on, as a function and as a coroutine.

    Attributes:
        may_go: set when callbacks may go on.
        handled: the numbers that were asked for, each time that they were.
        errors: what was told to ``on_error``.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.may_go = threading.Event()
        self.handled: list[int] = []
        self.errors: list[BaseException] = []

    @create_mq_callback()
    def square(self, body: dict[str, Any]) -> dict[str, Any]:
        assert self.may_go.wait(60.0)
        self.handled.append(body["n"])
        return {"square": body["n"] ** 2}

    @create_mq_callback()
    async def square_async(self, body: dict[str, Any]) -> dict[str, Any]:
        while not self.may_go.is_set():
            await asyncio.sleep(0.01)
        self.handled.append(body["n"])
        return {"square": body["n"] ** 2}

    def on_error(self, _thread: Any, error: BaseException) -> None:
        self.errors.append(error)


@pytest.fixture
def serve(
    make_service: Callable[..., MQConnector], engine: dict[str, Any]
) -> Callable[[str], Squares]:
    """Run a service that acknowledges in a given mode."""

    def start(ack: str) -> Squares:
        squares = make_service(Squares, stop_timeout=3)
        assert isinstance(squares, Squares)
        squares.register_consumer(
            "squares",
            squares.vhost,
            QUEUE,
            squares.square if engine else squares.square_async,
            squares.on_error,
            ack=ack,
            durable=True,
            **engine,
        )
        run(squares)
        return squares

    return start


@pytest.mark.own_broker
def test_callbacks_go_on_while_their_answers_wait_for_the_broker(
    serve: Callable[[str], Squares],
    client: RequestClient,
    peer: Peer,
    alarm: Alarm,
) -> None:
    squares = serve("on_success")
    futures = [client.submit(QUEUE, {"n": n}, timeout=60.0) for n in range(MANY)]
    eventually(lambda: peer.counts(QUEUE)[0] == 0, what="the requests are there")
    with alarm():
        squares.may_go.set()
        eventually(lambda: len(squares.handled) == MANY, what="all callbacks have run")
        never(lambda: sum(peer.counts(QUEUE)) != MANY, what="a request is acked too early")
    assert [future.result(30.0)["square"] for future in futures] == [n**2 for n in range(MANY)]
    peer.wait_until_settled(QUEUE)
    assert sorted(squares.handled) == list(range(MANY))
    assert squares.errors == []


@pytest.mark.own_broker
@pytest.mark.one_engine
def test_an_answer_whose_confirm_is_lost_is_sent_again(
    serve: Callable[[str], Squares],
    client: RequestClient,
    peer: Peer,
    proxy: FaultProxy,
    alarm: Alarm,
) -> None:
    squares = serve("on_receipt")
    futures = [client.submit(QUEUE, {"n": n}, timeout=60.0) for n in range(MANY)]
    eventually(lambda: peer.counts(QUEUE)[0] == 0, what="the requests are there")
    with alarm():
        squares.may_go.set()
        eventually(lambda: len(squares.handled) == MANY, what="all callbacks have run")
        assert not any(future.done() for future in futures)
        proxy.reset()
    assert [future.result(30.0)["square"] for future in futures] == [n**2 for n in range(MANY)]
    assert sorted(squares.handled) == list(range(MANY))
