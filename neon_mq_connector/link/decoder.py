"""Deliveries, from the bytes that the parser cut out to the objects that a callback gets.

Done by the thread that consumes, not by the one that reads. The objects are pika's and equal to
what pika would have made. What is malformed ends in `FrameError`, as in `properties`.
"""

from __future__ import annotations

import functools
import struct
from typing import NamedTuple

from pika.spec import Basic, BasicProperties

from neon_mq_connector.errors import FrameError
from neon_mq_connector.link.parser import RawDelivery
from neon_mq_connector.link.properties import MALFORMED, decode_properties


class Delivery(NamedTuple):
    """A message as it came: the three arguments that follow the channel in a callback."""

    method: Basic.Deliver
    properties: BasicProperties
    body: bytes


_tag = struct.Struct(">Q").unpack_from
_tag_and_bits = struct.Struct(">QB").unpack_from

_new_method = Basic.Deliver.__new__
_new_delivery = tuple.__new__


def decode_delivery(raw: RawDelivery) -> Delivery:
    """Return the objects of a delivery."""
    method, header, body = raw
    return _new_delivery(Delivery, (decode_method(method), decode_properties(header), body))


def delivery_tag(method: bytes) -> int:
    """Read the delivery tag from the arguments of Basic.Deliver."""
    try:
        tag: int = _tag(method, 1 + method[0])[0]
    except MALFORMED as error:
        raise FrameError(f"malformed arguments of Basic.Deliver: {error}") from error
    return tag


def decode_method(arguments: bytes) -> Basic.Deliver:
    """Return the method of a delivery, made of its arguments."""
    method = _new_method(Basic.Deliver)
    try:
        position = 1 + arguments[0]
        method.consumer_tag = _consumer_tag(arguments[:position])
        method.delivery_tag, bits = _tag_and_bits(arguments, position)
        method.redelivered = bits & 1 != 0
        method.exchange, method.routing_key = _origin(arguments[position + 9 :])
    except MALFORMED as error:
        raise FrameError(f"malformed arguments of Basic.Deliver: {error}") from error
    return method


# there are few of these; what was found once was checked then


@functools.lru_cache(maxsize=4096)
def _consumer_tag(encoded: bytes) -> str:
    if len(encoded) != 1 + encoded[0]:
        raise IndexError("they end within the consumer tag")
    return encoded[1:].decode()


@functools.lru_cache(maxsize=4096)
def _origin(encoded: bytes) -> tuple[str, str]:
    """Return the exchange and the routing key."""
    middle = 1 + encoded[0]
    stop = middle + 1 + encoded[middle]
    if stop != len(encoded):
        raise IndexError("they do not end with the routing key")
    return encoded[1:middle].decode(), encoded[middle + 1 : stop].decode()
