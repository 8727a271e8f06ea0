"""Compatibility contract: sending messages.

Covers `emit_mq_message`, `publish_message`, `send_message` and `sync`: what they take and return,
what they declare, which connections they work on, and that they may be called from any thread.
"""

from __future__ import annotations

import copy
import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pika
import pika.exceptions
import pytest
from pika.exchange_type import ExchangeType

from neon_mq_connector import MQConnector
from tests.contract.configurations import SERVICE
from tests.contract.peer import Peer, encode
from tests.support.polling import eventually

Build = Callable[..., Any]


class Loop:
    """A `SelectConnection` whose loop runs in a thread of its own, as services have them."""

    def __init__(self, parameters: pika.ConnectionParameters) -> None:
        is_open = threading.Event()
        self.connection = pika.SelectConnection(
            parameters,
            on_open_callback=lambda _: is_open.set(),
            on_close_callback=lambda *_: self.connection.ioloop.stop(),
        )
        self._thread = threading.Thread(
            target=self.connection.ioloop.start, name="select-loop", daemon=True
        )
        self._thread.start()
        assert is_open.wait(120.0)

    def close(self) -> None:
        if self._thread.is_alive():
            self.connection.ioloop.add_callback_threadsafe(self.connection.close)
            self._thread.join(120.0)
            self.connection.ioloop.close()


@pytest.fixture
def blocking(connection_params: pika.ConnectionParameters) -> Iterator[pika.BlockingConnection]:
    connection = pika.BlockingConnection(connection_params)
    yield connection
    if connection.is_open:
        connection.close()


@pytest.fixture
def loop(connection_params: pika.ConnectionParameters) -> Iterator[Loop]:
    loop = Loop(connection_params)
    yield loop
    loop.close()


@pytest.fixture(params=["blocking", "select"])
def connection(request: pytest.FixtureRequest) -> Any:
    """Either kind of pika connection that `emit_mq_message` takes."""
    if request.param == "blocking":
        return request.getfixturevalue("blocking")
    return request.getfixturevalue("loop").connection


@pytest.fixture
def emit() -> Any:
    """Emit what does not expire while a test is slow."""
    return functools.partial(MQConnector.emit_mq_message, expiration=600_000)


class TestEmit:
    @pytest.mark.every_broker
    def test_a_message_arrives_in_a_queue_that_was_declared_and_its_id_is_returned(
        self, emit: Any, connection: Any, peer: Peer
    ) -> None:
        message_id = emit(connection, {"n": (1, b"x")}, queue="new_queue")
        message = peer.get("new_queue")
        assert message.body == {"n": (1, b"x"), "message_id": message_id}
        assert message.exchange == ""
        assert isinstance(message_id, str)
        assert message_id

    @pytest.mark.every_broker
    def test_a_queue_that_somebody_else_declared_otherwise_is_used_as_it_is(
        self, emit: Any, connection: Any, peer: Peer
    ) -> None:
        peer.channel.queue_declare("theirs", durable=True, arguments={"x-max-length": 9})
        emit(connection, {"n": 1}, queue="theirs")
        assert peer.get("theirs").body["n"] == 1
        emit(connection, {"n": 2}, queue="theirs")
        assert peer.get("theirs").body["n"] == 2

    @pytest.mark.every_broker
    def test_a_fanout_exchange_is_declared_and_the_queue_bound(
        self, emit: Any, connection: Any, peer: Peer
    ) -> None:
        emit(connection, {"n": 1}, exchange="news", queue="new_queue", exchange_type="fanout")
        message = peer.get("new_queue")
        assert message.body["n"] == 1
        assert message.exchange == "news"
        peer.publish({"n": 2}, exchange="news", queue="any")
        assert peer.get("new_queue").body["n"] == 2

    @pytest.mark.parametrize("kind", ["direct", ExchangeType.topic])
    def test_an_exchange_gets_the_queues_name_as_routing_key(
        self, emit: Any, connection: Any, peer: Peer, kind: Any
    ) -> None:
        name = kind if isinstance(kind, str) else kind.value
        listener = peer.listen("exchange", name, routing_key="the_queue")
        emit(connection, {"n": 1}, exchange="exchange", queue="the_queue", exchange_type=kind)
        message = peer.get(listener)
        assert (message.exchange, message.routing_key) == ("exchange", "the_queue")

    def test_a_message_expires_after_a_second_by_default(self, blocking: Any, peer: Peer) -> None:
        to_others = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": peer.queue()}
        peer.channel.queue_declare("work", durable=True, arguments=to_others)
        MQConnector.emit_mq_message(blocking, {"n": 1}, queue="work")
        expired = peer.get(to_others["x-dead-letter-routing-key"]).properties
        assert 0 < int(expired.headers["x-death"][0]["original-expiration"]) <= 1000

    @pytest.mark.parametrize("method", ["emit_mq_message", "publish_message"])
    def test_a_closed_connection_is_pikas_error(
        self, connection: Any, request: pytest.FixtureRequest, method: str
    ) -> None:
        if isinstance(connection, pika.BlockingConnection):
            connection.close()
        else:
            request.getfixturevalue("loop").close()
        with pytest.raises(pika.exceptions.ConnectionWrongStateError):
            getattr(MQConnector, method)(connection, {"n": 1}, exchange="x")


class TestWhatIsSent:
    @pytest.mark.parametrize("method", ["emit_mq_message", "publish_message", "send_message"])
    @pytest.mark.parametrize("request_data", [None, [1], "text", 5, ("a", 1), {"a"}, {}], ids=str)
    def test_what_is_no_mapping_or_empty_is_an_error(
        self, connect: Build, blocking: Any, method: str, request_data: Any
    ) -> None:
        where = () if method == "send_message" else (blocking,)
        error = ValueError if request_data == {} else TypeError
        with pytest.raises(error):
            getattr(connect(), method)(*where, request_data, exchange="x")

    @pytest.mark.parametrize(
        "given, message_id",
        [
            ({"message_id": "own"}, "own"),
            ({"message_id": ""}, ""),
            ({"context": {"mq": {"message_id": "from the context"}}}, "from the context"),
            (
                {"message_id": None, "context": {"mq": {"message_id": "from the context"}}},
                "from the context",
            ),
            ({"message_id": "own", "context": {"mq": {"message_id": "context"}}}, "own"),
            (OrderedDict(deep=[{}], message_id="own"), "own"),
            ({}, None),
            ({"message_id": None}, None),
            ({"context": {}}, None),
        ],
        ids=str,
    )
    def test_the_message_id_is_its_own_or_new_and_the_input_is_left_as_it_was(
        self, emit: Any, blocking: Any, peer: Peer, given: Any, message_id: str | None
    ) -> None:
        queue = peer.queue()
        given["n"] = 1
        before = copy.deepcopy(given)
        ids = [emit(blocking, given, queue=queue) for _ in range(2)]
        assert given == before
        assert ids == [message_id] * 2 if message_id is not None else len(set(ids)) == 2
        for each in ids:
            assert peer.get(queue).body == {**given, "message_id": each}


class TestThreads:
    def test_other_threads_may_use_a_connection(
        self, emit: Any, connection: Any, peer: Peer
    ) -> None:
        queue = peer.queue()

        def work(number: int) -> str:
            return str(emit(connection, {"n": number}, queue=queue))

        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(work, range(80)))
        assert len(set(ids)) == 80
        assert sorted(peer.get(queue).body["n"] for _ in range(80)) == list(range(80))
        assert connection.is_open

    @pytest.mark.parametrize("which", ["the channel's", "the consumer's"])
    @pytest.mark.every_broker
    def test_a_callback_may_emit_on_its_consumers_connection(
        self, connect: Build, run: Build, emit: Any, peer: Peer, which: str
    ) -> None:
        """The usual way in which services answer."""

        def work(channel: Any, _method: Any, _properties: Any, _body: bytes) -> None:
            consumer = connector.consumers["one"]
            connection = channel.connection if which == "the channel's" else consumer.connection
            for number in range(3):
                emit(connection, {"answer": number}, queue="reply")

        connector = connect()
        connector.register_consumer("one", connector.vhost, "input", work)
        run(connector)
        peer.wait_for_consumer("input")
        peer.publish({"n": 1}, queue="input")
        assert [peer.get("reply").body["answer"] for _ in range(3)] == [0, 1, 2]
        eventually(lambda: connector.consumers["one"].is_consuming)


class TestPublish:
    def test_everybody_who_listens_gets_it(self, connection: Any, peer: Peer) -> None:
        listeners = [peer.listen("news"), peer.listen("news")]
        message_id = MQConnector.publish_message(connection, {"n": 1}, "news", 600_000)
        for listener in listeners:
            message = peer.get(listener)
            assert message.body == {"n": 1, "message_id": message_id}
            assert message.exchange == "news"
            assert 0 < int(message.properties.expiration) <= 600_000


class TestSend:
    @pytest.mark.parametrize("how", ["its own vhost", "a vhost that is named", "properties"])
    def test_to_a_queue(self, connect: Build, peer: Peer, vhost: str, how: str) -> None:
        queue = peer.queue()
        connector = connect(own_vhost="/elsewhere" if "named" in how else vhost)
        where = (vhost,) if "named" in how else ()
        props = {"connection_props": {"heartbeat": 30}} if how == "properties" else {}
        message_id = connector.send_message({"n": (1, b"x")}, *where, queue=queue, **props)
        assert peer.get(queue).raw == encode({"n": (1, b"x"), "message_id": message_id})

    @pytest.mark.parametrize("kind", ["direct", ExchangeType.topic])
    def test_through_an_exchange(self, connect: Build, peer: Peer, kind: Any) -> None:
        name = kind if isinstance(kind, str) else kind.value
        listener = peer.listen("exchange", name, routing_key="key")
        connect().send_message({"n": 1}, exchange="exchange", queue="key", exchange_type=kind)
        assert peer.get(listener).body["n"] == 1


class TestConnectionsHandedOut:
    def test_a_connection_is_an_ordinary_one_of_pika(
        self, connect: Build, vhost: str, emit: Any, peer: Peer
    ) -> None:
        queue, connector = peer.queue(), connect()
        with connector.create_mq_connection(vhost) as connection:
            assert isinstance(connection, pika.BlockingConnection)
            assert connection.is_open
            connection.channel().basic_publish("", queue, b"{}")
            assert peer.get(queue).body == {}
            emit(connection, {"n": 1}, queue=queue)
        assert connection.is_closed
        assert peer.get(queue).body["n"] == 1


class TestSync:
    @pytest.fixture
    def connect(self, connect: Build) -> Build:
        """Build connectors that publish what does not expire while a test is slow."""

        def build(**options: Any) -> Any:
            connector = connect(**options)
            connector.publish_message = functools.partial(
                connector.publish_message, expiration=600_000
            )
            return connector

        return build

    def test_others_see_the_services_id_and_the_time(self, connect: Build, peer: Peer) -> None:
        listener = peer.listen(f"{SERVICE}_sync")
        connector = connect()
        before = int(time.time())
        assert connector.sync() is None
        body = peer.get(listener).body
        assert body["service_id"] == connector.service_id
        assert before <= body["time"] <= time.time()

    def test_the_exchange_and_the_vhost_may_be_given(
        self, connect: Build, peer: Peer, vhost: str
    ) -> None:
        listener = peer.listen("other_exchange")
        connector = connect(own_vhost="/elsewhere")
        connector.sync(vhost=vhost, exchange="other_exchange")
        assert peer.get(listener).body["service_id"] == connector.service_id

    def test_it_publishes_once_by_the_method_that_a_service_may_have_replaced(
        self, connect: Build, vhost: str
    ) -> None:
        connector = connect()
        calls: list[Any] = []

        def publish_message(
            connection: Any, request_data: Any, exchange: str = "", expiration: int = 1000
        ) -> str:
            calls.append((connection.is_open, request_data, exchange))
            return "id"

        connector.publish_message = publish_message
        connector.sync()
        connector.sync(vhost, "other_exchange", None, {"said": "this"})
        said = calls[0][1]
        assert calls == [
            (True, {"service_id": connector.service_id, "time": said["time"]}, f"{SERVICE}_sync"),
            (True, {"said": "this"}, "other_exchange"),
        ]
