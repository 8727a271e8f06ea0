"""The methods that clients send, decoded with the types of their arguments."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

from pika.spec import Basic, Channel, Confirm, Connection, Exchange, Queue, Tx

from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.tables import TableError, decode_table

#: Connection.UpdateSecret, which older releases of pika do not know.
UPDATE_SECRET = 0x000A0046

_TICKET = "ticket:H "
_CLOSE = "reply_code:H reply_text:s class_id:H method_id:H"
_BINDING = _TICKET + "destination:s source:s routing_key:s nowait:b arguments:t"
_QUEUE_BINDING = _TICKET + "queue:s exchange:s routing_key:s "
#: The fields of each method. H, I, Q: numbers of 2, 4 and 8 octets; s, S: short and long strings;
#: t: a table; b: a bit, those that follow each other share an octet.
_FIELDS: dict[Any, str] = {
    Connection.StartOk: "client_properties:t mechanism:s response:S locale:s",
    Connection.SecureOk: "response:S",
    Connection.TuneOk: "channel_max:H frame_max:I heartbeat:H",
    Connection.Open: "virtual_host:s capabilities:s insist:b",
    Connection.Close: _CLOSE,
    Connection.CloseOk: "",
    UPDATE_SECRET: "new_secret:S reason:s",
    Channel.Open: "out_of_band:s",
    Channel.Flow: "active:b",
    Channel.FlowOk: "active:b",
    Channel.Close: _CLOSE,
    Channel.CloseOk: "",
    Exchange.Declare: _TICKET
    + "exchange:s type:s passive:b durable:b auto_delete:b internal:b nowait:b arguments:t",
    Exchange.Delete: _TICKET + "exchange:s if_unused:b nowait:b",
    Exchange.Bind: _BINDING,
    Exchange.Unbind: _BINDING,
    Queue.Declare: _TICKET
    + "queue:s passive:b durable:b exclusive:b auto_delete:b nowait:b arguments:t",
    Queue.Bind: _QUEUE_BINDING + "nowait:b arguments:t",
    Queue.Unbind: _QUEUE_BINDING + "arguments:t",
    Queue.Purge: _TICKET + "queue:s nowait:b",
    Queue.Delete: _TICKET + "queue:s if_unused:b if_empty:b nowait:b",
    Basic.Qos: "prefetch_size:I prefetch_count:H global_qos:b",
    Basic.Consume: _TICKET
    + "queue:s consumer_tag:s no_local:b no_ack:b exclusive:b nowait:b arguments:t",
    Basic.Cancel: "consumer_tag:s nowait:b",
    Basic.Publish: _TICKET + "exchange:s routing_key:s mandatory:b immediate:b",
    Basic.Get: _TICKET + "queue:s no_ack:b",
    Basic.Ack: "delivery_tag:Q multiple:b",
    Basic.Reject: "delivery_tag:Q requeue:b",
    Basic.RecoverAsync: "requeue:b",
    Basic.Recover: "requeue:b",
    Basic.Nack: "delivery_tag:Q multiple:b requeue:b",
    Confirm.Select: "nowait:b",
    Tx.Select: "",
    Tx.Commit: "",
    Tx.Rollback: "",
}
_NUMBERS = {letter: struct.Struct(f">{letter}") for letter in "HIQ"}
_SIGNATURES = {
    key if isinstance(key, int) else key.INDEX: [
        (name, kind) for name, _, kind in (each.partition(":") for each in fields.split())
    ]
    for key, fields in _FIELDS.items()
}
_long = _NUMBERS["I"].unpack_from


class Method(SimpleNamespace):
    """A method from a client; its arguments are attributes.

    Attributes:
        index: the numbers of class and method in one.
    """

    index: int


def decode_method(payload: bytes) -> Method:
    """Decode the payload of a method frame.

    Raises:
        AMQPError: 501, it cannot be decoded; 503, clients send no such method.
    """
    if len(payload) < 4:
        raise _undecodable(payload)
    index: int = _long(payload)[0]
    signature = _SIGNATURES.get(index)
    if signature is None:
        raise AMQPError(503, "unimplemented method", method=0)
    try:
        return Method(index=index, **_decode_arguments(payload, signature))
    except (IndexError, struct.error, TableError) as error:
        raise _undecodable(payload[4:], index) from error


def _decode_arguments(payload: bytes, signature: list[tuple[str, str]]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    position = 4
    bit = 0
    for name, kind in signature:
        if kind == "b":
            if not bit:
                octet, position, bit = payload[position], position + 1, 1
            arguments[name] = octet & bit != 0
            bit <<= 1
            continue
        bit = 0
        if kind == "s":
            start = position + 1
            position = start + payload[position]
            arguments[name] = payload[start:position].decode(errors="surrogateescape")
        elif kind == "S":
            start = position + 4
            position = start + _long(payload, position)[0]
            arguments[name] = payload[start:position]
        elif kind == "t":
            arguments[name], position = decode_table(payload, position)
        else:
            arguments[name] = _NUMBERS[kind].unpack_from(payload, position)[0]
            position += _NUMBERS[kind].size
    if position != len(payload):
        raise IndexError("the arguments do not end with the frame")
    return arguments


def _undecodable(payload: bytes, method: int = 0) -> AMQPError:
    listed = ",".join(map(str, payload))
    return AMQPError(501, f"cannot decode <<{listed}>>", method=method)
