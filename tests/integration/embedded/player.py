"""Plays operations of AMQP on a broker and notes everything that it answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    NackError,
    UnroutableError,
)

QUEUES = ("q0", "q1", "q2")
EXCHANGES = ("x0", "x1", "x2")
#: The connection that each channel belongs to: two have one in common.
_CONNECTION_OF = (0, 0, 1)
CHANNELS = len(_CONNECTION_OF)

#: Operations that a channel of pika performs as they are, and whose answer says nothing.
_PLAIN = {
    "declare_exchange": "exchange_declare",
    "delete_exchange": "exchange_delete",
    "bind": "queue_bind",
    "unbind": "queue_unbind",
    "bind_exchange": "exchange_bind",
    "unbind_exchange": "exchange_unbind",
    "qos": "basic_qos",
    "confirm": "confirm_delivery",
}

#: What is to be done: one of those or of the methods of `Player`, a channel's number, arguments.
Operation = tuple[str, int, dict[str, Any]]


class Player:
    """Some channels on one broker, and what has come out of them.

    Args:
        url: of a virtual host of its own.
    """

    def __init__(self, url: str) -> None:
        self._parameters = pika.URLParameters(url)
        self._connections: dict[int, pika.BlockingConnection] = {}
        self._channels: dict[int, BlockingChannel] = {}
        self._held: dict[int, list[int]] = {}
        self._observer: BlockingChannel | None = None
        self.log: list[Any] = []

    # --- one program

    def play(self, operation: Operation) -> None:
        """Perform an operation and note the outcome."""
        name, number, arguments = operation
        outcome: Any
        try:
            if name in _PLAIN:
                outcome = None
                getattr(self._channel(number), _PLAIN[name])(**arguments)
            else:
                outcome = getattr(self, name)(self._channel(number), number, **arguments)
        except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
            outcome = (error.reply_code, error.reply_text)
            self._forget(number)
        except UnroutableError as error:
            returned = [(str(each.body), each.method.reply_text) for each in error.messages]
            outcome = ("unroutable", returned)
        except NackError:
            outcome = "nacked"
        except (AMQPError, AMQPConnectionError) as error:
            outcome = type(error).__name__
            self._forget(number)
        self.log.append((name, number, outcome))

    def observe(self) -> list[Any]:
        """Return what has come so far, and the state of all queues."""
        for connection in self._connections.values():
            if connection.is_open:
                with contextlib.suppress(AMQPError):
                    connection.process_data_events(time_limit=0)
        # the order of what comes from different queues is nobody's promise
        by_channel = [
            [each for each in self.log if each[1] == number] for number in range(CHANNELS)
        ]
        return [*by_channel, self._queues()]

    def clean_up(self) -> None:
        """Close everything and delete what there is."""
        for connection in self._connections.values():
            if connection.is_open:
                with contextlib.suppress(AMQPError):
                    connection.close()
        self._connections.clear()
        self._channels.clear()
        self._held.clear()
        self.log.clear()
        for name in QUEUES:
            self._observing(lambda channel, name=name: channel.queue_delete(name))  # type: ignore[misc]
        for name in EXCHANGES:
            self._observing(lambda channel, name=name: channel.exchange_delete(name))  # type: ignore[misc]

    def close(self) -> None:
        """End for good."""
        self.clean_up()
        if self._observer is not None:
            self._observer.connection.close()

    # --- operations

    def declare_queue(self, channel: BlockingChannel, _: int, **arguments: Any) -> Any:
        answer = channel.queue_declare(**arguments).method
        return answer.queue, answer.message_count, answer.consumer_count

    def delete_queue(self, channel: BlockingChannel, _: int, **arguments: Any) -> Any:
        return channel.queue_delete(**arguments).method.message_count

    def purge(self, channel: BlockingChannel, _: int, **arguments: Any) -> Any:
        return channel.queue_purge(**arguments).method.message_count

    def publish(
        self, channel: BlockingChannel, _: int, properties: dict[str, Any], **arguments: Any
    ) -> Any:
        channel.basic_publish(properties=pika.BasicProperties(**properties), **arguments)
        self._round_trip(channel)

    def consume(self, channel: BlockingChannel, number: int, tag: str, **arguments: Any) -> Any:
        def take(_: Any, method: Any, properties: Any, body: bytes) -> None:
            if not arguments["auto_ack"]:
                self._held.setdefault(number, []).append(method.delivery_tag)
            self.log.append(("delivered", number, tag, *self._delivery(method, properties, body)))

        channel.basic_consume(on_message_callback=take, consumer_tag=f"{tag}-{number}", **arguments)
        self._round_trip(channel)

    def cancel(self, channel: BlockingChannel, number: int, tag: str) -> Any:
        channel.basic_cancel(f"{tag}-{number}")

    def get(self, channel: BlockingChannel, number: int, **arguments: Any) -> Any:
        method, properties, body = channel.basic_get(**arguments)
        if method is None:
            return "empty"
        if not arguments["auto_ack"]:
            self._held.setdefault(number, []).append(method.delivery_tag)
        return (*self._delivery(method, properties, body), method.message_count)

    def settle(
        self, channel: BlockingChannel, number: int, which: int, how: str, **arguments: Any
    ) -> Any:
        held = self._held.setdefault(number, [])
        if not held and which:
            return None
        tag = held[which % len(held)] if held else 99
        getattr(channel, f"basic_{how}")(tag, **arguments)
        settled = [each for each in held if each <= tag] if arguments.get("multiple") else [tag]
        self._held[number] = [each for each in held if each not in settled]
        self._round_trip(channel)
        return "settled"

    def consume_answers(self, channel: BlockingChannel, number: int, **arguments: Any) -> Any:
        def take(_: Any, method: Any, properties: Any, body: bytes) -> None:
            self.log.append(("answer", number, method.delivery_tag, method.exchange, body))

        channel.basic_consume("amq.rabbitmq.reply-to", take, consumer_tag="answers", **arguments)

    def ask(self, channel: BlockingChannel, number: int) -> Any:
        """Send a request to a queue of its own, read where the answer is to go, and answer."""
        queue = channel.queue_declare("", exclusive=True).method.queue
        question = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to")
        channel.basic_publish("", queue, b"question", question)
        _, properties, _ = channel.basic_get(queue, auto_ack=True)
        address = properties.reply_to if properties is not None else None
        assert address is not None
        channel.basic_publish("", address, b"answer", mandatory=True)
        self._round_trip(channel)
        return address.startswith("amq.rabbitmq.reply-to.")

    def recover(self, channel: BlockingChannel, number: int) -> Any:
        self._held.pop(number, None)
        channel.basic_recover(requeue=True)

    def transact(self, channel: BlockingChannel, _: int, step: str) -> Any:
        getattr(channel, f"tx_{step}")()

    def close_channel(self, channel: BlockingChannel, number: int) -> Any:
        channel.close()
        self._forget(number)

    def close_connection(self, channel: BlockingChannel, number: int) -> Any:
        channel.connection.close()
        self._forget(number)

    # --- inside

    def _channel(self, number: int) -> BlockingChannel:
        channel = self._channels.get(number)
        if channel is None or not channel.is_open:
            which = _CONNECTION_OF[number]
            connection = self._connections.get(which)
            if connection is None or not connection.is_open:
                connection = self._connections[which] = pika.BlockingConnection(self._parameters)
            self._held.pop(number, None)
            channel = self._channels[number] = connection.channel()

            def returned(_: Any, method: Any, properties: Any, body: bytes) -> None:
                told = (method.reply_code, method.reply_text, method.exchange)
                key = method.routing_key[:22]
                self.log.append(("returned", number, *told, key, _properties(properties), body))

            channel.add_on_return_callback(returned)
            channel.add_on_cancel_callback(
                lambda frame: self.log.append(("cancelled", number, frame.method.consumer_tag))
            )
        return channel

    def _forget(self, number: int) -> None:
        self._channels.pop(number, None)
        self._held.pop(number, None)

    def _round_trip(self, channel: BlockingChannel) -> None:
        """Wait until the broker has handled what was sent without an answer."""
        channel.exchange_declare("amq.direct", passive=True)

    def _queues(self) -> list[Any]:
        return [
            self._observing(
                lambda channel, name=name: str(channel.queue_declare(name, passive=True).method)  # type: ignore[misc]
            )
            for name in QUEUES
        ]

    def _observing(self, action: Callable[[BlockingChannel], Any]) -> Any:
        if self._observer is None or not self._observer.is_open:
            connection = None if self._observer is None else self._observer.connection
            if connection is None or not connection.is_open:
                connection = pika.BlockingConnection(self._parameters)
            self._observer = connection.channel()
        try:
            return action(self._observer)
        except ChannelClosedByBroker as error:
            return error.reply_code, error.reply_text

    def _delivery(self, method: Any, properties: Any, body: bytes | None) -> tuple[Any, ...]:
        return (
            method.delivery_tag,
            method.redelivered,
            method.exchange,
            method.routing_key,
            _properties(properties),
            body,
        )


def _properties(properties: pika.BasicProperties) -> dict[str, Any]:
    """Return properties without what differs by nature: the times of deaths."""
    found = {key: value for key, value in vars(properties).items() if value is not None}
    headers = dict(found.get("headers") or {})
    if isinstance(headers.get("x-death"), list):
        headers["x-death"] = [
            {key: value for key, value in death.items() if key != "time"}
            for death in headers["x-death"]
        ]
    if headers:
        found["headers"] = headers
    return found
