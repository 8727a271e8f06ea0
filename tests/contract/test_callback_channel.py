"""Compatibility contract: the channel that a callback gets works as a channel of pika does.

Services acknowledge, publish, declare, bind, get and close on it, from the callback and, through
the connection's `add_callback_threadsafe`, from other threads. Each test does one such thing inside
a callback and looks at the broker from outside.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pika
import pika.exceptions
import pytest
from pika.exchange_type import ExchangeType

from tests.contract.peer import Peer, decode, encode
from tests.contract.recorders import Inbox, Outcome
from tests.support.polling import eventually

Build = Callable[..., Any]
Work = Callable[[Any, Any, Any, bytes], Any]


@pytest.fixture
def consume(connect: Build, run: Build, peer: Peer, engine: dict[str, Any]) -> Callable[..., Any]:
    """Run a connector whose callback on the queue `input` does the given work."""

    def start(work: Any, *, auto_ack: bool = True, on_error: Any = None) -> Any:
        connector = connect()
        connector.register_consumer(
            "one", connector.vhost, "input", work, on_error, auto_ack=auto_ack, **engine
        )
        run(connector)
        peer.wait_for_consumer("input")
        return connector

    return start


@pytest.fixture
def in_callback(consume: Callable[..., Any], peer: Peer) -> Callable[..., Any]:
    """Do some work in a callback and return its result, or raise what it raised."""

    def do(work: Work, message: dict[str, Any] | None = None, **properties: Any) -> Any:
        outcome = Outcome(work)
        consume(outcome)
        peer.publish(message or {"n": 1}, queue="input", **properties)
        return outcome.result()

    return do


class TestDelivery:
    def test_the_arguments_are_pikas(self, in_callback: Callable[..., Any]) -> None:
        def work(channel: Any, method: Any, properties: Any, body: bytes) -> Any:
            return method, properties, body

        method, properties, body = in_callback(
            work,
            {"n": 1},
            correlation_id="c",
            reply_to="r",
            headers={"h": 1},
            content_type="t",
            message_id="m",
        )
        assert isinstance(method, pika.spec.Basic.Deliver)
        assert isinstance(properties, pika.BasicProperties)
        assert isinstance(body, bytes)
        assert decode(body) == {"n": 1}
        assert method.routing_key == "input"
        assert method.exchange == ""
        assert method.delivery_tag > 0
        assert method.redelivered is False
        assert method.consumer_tag
        assert properties.correlation_id == "c"
        assert properties.reply_to == "r"
        assert properties.headers["h"] == 1
        assert properties.content_type == "t"
        assert properties.message_id == "m"

    @pytest.mark.every_engine
    def test_the_callback_runs_in_the_consumers_thread(
        self, consume: Callable[..., Any], peer: Peer
    ) -> None:
        inbox = Inbox()
        connector = consume(inbox)
        peer.publish({"n": 1}, queue="input")
        inbox.wait()
        assert inbox.threads == [connector.consumers["one"]]


class TestSettling:
    def settled(
        self, consume: Callable[..., Any], peer: Peer, settle: Any, times: int = 1
    ) -> tuple[Inbox, Any]:
        inbox = Inbox(settle)
        connector = consume(inbox, auto_ack=False)
        peer.publish({"n": 1}, queue="input")
        inbox.wait(times)
        return inbox, connector

    @pytest.mark.parametrize(
        "settle",
        [
            lambda channel, method, *_: channel.basic_ack(method.delivery_tag),
            lambda channel, method, *_: channel.basic_ack(delivery_tag=method.delivery_tag),
            lambda channel, method, *_: channel.basic_ack(method.delivery_tag, multiple=True),
            lambda channel, method, *_: channel.basic_nack(method.delivery_tag, requeue=False),
            lambda channel, method, *_: channel.basic_nack(
                delivery_tag=method.delivery_tag, multiple=False, requeue=False
            ),
            lambda channel, method, *_: channel.basic_reject(method.delivery_tag, requeue=False),
            lambda channel, method, *_: channel.basic_reject(method.delivery_tag, False),
        ],
        ids=["ack", "ack by keyword", "ack all", "nack", "nack by keyword", "reject", "reject 2"],
    )
    def test_a_message_is_gone_after(
        self, consume: Callable[..., Any], peer: Peer, settle: Any
    ) -> None:
        _, connector = self.settled(consume, peer, settle)
        connector.stop()
        assert peer.depth("input") == 0

    @pytest.mark.parametrize("verb", ["basic_nack", "basic_reject"])
    def test_a_message_comes_back_after(
        self, consume: Callable[..., Any], peer: Peer, verb: str
    ) -> None:
        def settle(channel: Any, method: Any, *_: Any) -> None:
            if method.redelivered:
                channel.basic_ack(method.delivery_tag)
            else:
                getattr(channel, verb)(method.delivery_tag)

        inbox, connector = self.settled(consume, peer, settle, times=2)
        assert [method.redelivered for _, method, _, _ in inbox.deliveries] == [False, True]
        connector.stop()
        assert peer.depth("input") == 0

    def test_other_threads_may_acknowledge_through_the_connection(
        self, consume: Callable[..., Any], peer: Peer
    ) -> None:
        done = threading.Event()

        def work(channel: Any, method: Any, *_: Any) -> None:
            def later() -> None:
                channel.basic_ack(method.delivery_tag)
                done.set()

            threading.Thread(
                target=channel.connection.add_callback_threadsafe, args=(later,), daemon=True
            ).start()

        connector = consume(Inbox(work), auto_ack=False)
        peer.publish({"n": 1}, queue="input")
        assert done.wait(30.0)
        connector.stop()
        assert peer.depth("input") == 0

    def test_acknowledging_what_is_acknowledged_on_receipt_does_no_harm(
        self, consume: Callable[..., Any], peer: Peer
    ) -> None:
        inbox = Inbox(lambda channel, method, *_: channel.basic_ack(method.delivery_tag))
        connector = consume(inbox)
        for number in range(3):
            peer.publish({"n": number}, queue="input")
        inbox.wait(3)
        peer.publish({"n": 3}, queue="input")  # the broker has answered to the acks by then
        inbox.wait(4)
        assert connector.check_health()
        assert connector.consumers["one"].consumer.recoveries == 0


class TestPublishing:
    def test_to_a_queue_with_properties_as_text_and_to_an_exchange(
        self, in_callback: Callable[..., Any], peer: Peer
    ) -> None:
        queue, listener = peer.queue(), peer.listen("news")
        properties = pika.BasicProperties(
            correlation_id="c", headers={"h": 1}, expiration="60000", content_type="own/type"
        )

        def work(channel: Any, *_: Any) -> None:
            channel.basic_publish("", queue, encode({"a": 1}), properties)
            channel.basic_publish("", queue, encode({"a": 2}).decode())
            channel.basic_publish("news", "", encode({"a": 3}))

        in_callback(work)
        seen = peer.get(queue).properties
        assert (seen.correlation_id, seen.headers["h"]) == ("c", 1)
        assert seen.content_type == "own/type"
        assert 0 < int(seen.expiration) <= 60000
        assert peer.get(queue).body == {"a": 2}
        assert peer.get(listener).body == {"a": 3}

    @pytest.mark.every_broker
    @pytest.mark.every_engine
    def test_the_usual_answer(self, in_callback: Callable[..., Any], peer: Peer) -> None:
        """Declare the reply queue that the request names, publish to it, acknowledge."""

        def answer(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
            request = decode(body)
            channel.queue_declare(queue=request["routing_key"])
            channel.basic_publish(
                exchange="",
                routing_key=request["routing_key"],
                body=encode({"answer": request["n"] + 1}),
                properties=pika.BasicProperties(expiration="1000"),
            )
            channel.basic_ack(delivery_tag=method.delivery_tag)

        queue = peer.queue("reply")
        in_callback(answer, {"n": 1, "routing_key": queue})
        assert peer.get(queue).body == {"answer": 2}


class TestDeclaring:
    @pytest.mark.every_broker
    def test_a_queue(self, in_callback: Callable[..., Any], peer: Peer) -> None:
        declared = in_callback(lambda channel, *_: channel.queue_declare("made"))
        assert declared.method.queue == "made"
        assert declared.method.message_count == 0
        assert declared.method.consumer_count == 0
        assert peer.exists("made")

    def test_a_queue_with_all_properties_and_one_without_a_name(
        self, in_callback: Callable[..., Any], peer: Peer
    ) -> None:
        def work(channel: Any, *_: Any) -> str:
            channel.queue_declare(
                queue="made",
                passive=False,
                durable=True,
                exclusive=False,
                auto_delete=False,
                arguments={"x-max-length": 1},
            )
            return str(channel.queue_declare("", exclusive=True).method.queue)

        assert in_callback(work).startswith("amq.gen")
        peer.publish({"n": 1}, queue="made")
        peer.publish({"n": 2}, queue="made")
        eventually(lambda: peer.depth("made") == 1)

    def test_a_queue_is_counted_purged_and_deleted(
        self, in_callback: Callable[..., Any], peer: Peer
    ) -> None:
        queue = peer.queue()
        peer.publish({"n": 1}, queue=queue)
        eventually(lambda: peer.depth(queue) == 1)
        counts: list[int] = []

        def work(channel: Any, *_arguments: Any) -> None:
            for _ in range(2):
                counts.append(channel.queue_declare(queue, passive=True).method.message_count)
                channel.queue_purge(queue)
            channel.queue_delete(queue=queue, if_empty=True)

        in_callback(work)
        assert counts == [1, 0]
        assert not peer.exists(queue)

    def test_a_queue_that_is_not_empty_is_kept_if_asked_to(
        self, in_callback: Callable[..., Any], peer: Peer
    ) -> None:
        queue = peer.queue()
        peer.publish({"n": 1}, queue=queue)
        eventually(lambda: peer.depth(queue) == 1)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker):
            in_callback(lambda channel, *_: channel.queue_delete(queue=queue, if_empty=True))
        assert peer.exists(queue)

    @pytest.mark.parametrize("kind", [ExchangeType.topic, "topic"])
    def test_an_exchange_and_a_binding_come_and_go(
        self, in_callback: Callable[..., Any], peer: Peer, kind: Any
    ) -> None:
        queue = peer.queue()

        def work(channel: Any, *_: Any) -> None:
            channel.exchange_declare(exchange="made", exchange_type=kind)
            channel.queue_bind(queue=queue, exchange="made", routing_key="a.*")
            channel.confirm_delivery()  # or what is unbound next might be unbound first
            channel.basic_publish("made", "b.1", encode({"n": "no"}))
            channel.basic_publish("made", "a.1", encode({"n": "yes"}))
            channel.queue_unbind(queue=queue, exchange="made", routing_key="a.*")
            channel.basic_publish("made", "a.1", encode({"n": "not any more"}))
            channel.exchange_delete(exchange="made")

        in_callback(work)
        assert peer.get(queue).body == {"n": "yes"}
        assert peer.depth(queue) == 0
        with pytest.raises(pika.exceptions.ChannelClosedByBroker):
            peer.channel.exchange_declare("made", passive=True)


class TestGetting:
    def test_an_empty_queue_gives_three_nones(
        self, in_callback: Callable[..., Any], peer: Peer
    ) -> None:
        queue = peer.queue()
        assert in_callback(lambda channel, *_: channel.basic_get(queue)) == (None, None, None)

    @pytest.mark.parametrize("automatic", [True, False])
    def test_a_message_can_be_fetched(
        self, in_callback: Callable[..., Any], peer: Peer, automatic: bool
    ) -> None:
        queue = peer.queue()
        peer.publish({"n": 1}, queue=queue, correlation_id="c")
        eventually(lambda: peer.depth(queue) == 1)

        def work(channel: Any, *_: Any) -> Any:
            method, properties, body = channel.basic_get(queue=queue, auto_ack=automatic)
            if not automatic:
                channel.basic_ack(method.delivery_tag)
            return method, properties, body

        method, properties, body = in_callback(work)
        assert decode(body) == {"n": 1}
        assert properties.correlation_id == "c"
        assert method.routing_key == queue
        assert method.message_count == 0
        assert peer.depth(queue) == 0


class TestConnection:
    def test_a_further_channel_can_be_opened_on_it(
        self, in_callback: Callable[..., Any], peer: Peer
    ) -> None:
        queue = peer.queue()

        def work(channel: Any, *_: Any) -> None:
            second = channel.connection.channel()
            second.basic_publish("", queue, encode({"a": 1}))
            second.close()

        in_callback(work)
        assert peer.get(queue).body == {"a": 1}
