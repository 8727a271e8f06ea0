"""A message on its way through the broker, and how it was dead-lettered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.properties import DECISIVE, Properties
from neon_mq_connector.testing.embedded.tables import Field, Table, encode_short_string

_OVERHEAD = 400
_COPY_HEADERS = ("CC", "BCC")


class Death(NamedTuple):
    """How often a message was dead-lettered by a queue for a reason."""

    queue: str
    reason: str
    exchange: str
    routing_keys: tuple[str, ...]
    time: int
    original_expiration: int | None
    times: int = 1

    def as_field(self) -> Field:
        """Return the entry of the header `x-death`."""
        table: Table = {}
        if self.original_expiration is not None:
            table["original-expiration"] = Field("longstr", str(self.original_expiration))
        table["count"] = Field("long", self.times)
        table["reason"] = Field("longstr", self.reason)
        table["queue"] = Field("longstr", self.queue)
        table["time"] = Field("timestamp", self.time)
        table["exchange"] = Field("longstr", self.exchange)
        keys = [Field("longstr", key) for key in self.routing_keys]
        table["routing-keys"] = Field("array", keys)
        return Field("table", table)


@dataclass(slots=True, eq=False)
class Message:
    """A message; several queues may hold the same one, so it never changes.

    Attributes:
        exchange: where it was published to.
        routing_key: with which routing key.
        header: the properties as they came.
        body: the body.
        origin: the names of exchange and routing key as they are put on the wire.
        routing_keys: the routing key with those of the headers CC and BCC.
        blind_keys: those of BCC.
        time_to_live: the expiration in milliseconds, or None.
        priority: the priority, or None.
        deaths: where it was dead-lettered, the latest first.
        rejections: how often a consumer of a quorum queue has rejected it.
        footprint: about what it takes in memory, in bytes.
    """

    exchange: str
    routing_key: str
    header: bytes
    body: bytes
    origin: bytes = b""
    routing_keys: tuple[str, ...] = ()
    blind_keys: tuple[str, ...] = ()
    time_to_live: int | None = None
    priority: int | None = None
    deaths: tuple[Death, ...] = ()
    rejections: int = 0
    footprint: int = 0

    def __post_init__(self) -> None:
        self.origin = self.origin or (
            encode_short_string(self.exchange) + encode_short_string(self.routing_key)
        )
        self.routing_keys = self.routing_keys or (self.routing_key,)
        self.footprint = len(self.body) + len(self.header) + _OVERHEAD

    @classmethod
    def published(
        cls, exchange: str, routing_key: str, properties: Properties, body: bytes
    ) -> Message:
        """Return a message some of whose properties decide what becomes of it.

        Raises:
            AMQPError: a property that the broker has to know is malformed.
        """
        headers = properties.headers
        copies: dict[str, tuple[str, ...]] = {}
        for name in _COPY_HEADERS:
            field = headers.get(name)
            if field is not None and field.type != "array":
                problem = f'{{unacceptable_type_in_header,"{name}",{field.type}}}'
                raise AMQPError(406, f"invalid message: {problem}")
            if field is not None:
                texts = (each for each in field.value if each.type == "longstr")
                copies[name] = tuple(each.value for each in texts)
        if "BCC" in headers:
            properties = properties.with_headers(
                {name: field for name, field in headers.items() if name != "BCC"}
            )
        blind_keys = copies.get("BCC", ())
        return cls(
            exchange,
            routing_key,
            properties.encode(),
            body,
            routing_keys=(routing_key, *copies.get("CC", ()), *blind_keys),
            blind_keys=blind_keys,
            priority=properties.priority,
            time_to_live=properties.time_to_live,
        )

    @property
    def properties(self) -> Properties:
        """The properties, read anew at each use."""
        return Properties(self.header)

    def with_delivery_count(self, count: int) -> bytes:
        """Return the properties with the header by which quorum queues count deliveries."""
        properties = self.properties
        headers = {**properties.headers, "x-delivery-count": Field("long", count)}
        return properties.with_headers(dict(sorted(headers.items()))).encode()

    def dead_lettered(
        self, queue: str, reason: str, exchange: str, routing_key: str | None, time: int
    ) -> Message:
        """Return the message that a queue sends to its dead-letter exchange.

        Args:
            queue: the name of the queue.
            reason: `expired`, `rejected`, `maxlen` or `delivery_limit`.
            exchange: the name of the dead-letter exchange.
            routing_key: that the queue has for dead letters; None keeps the message's own.
            time: in seconds since 1970.
        """
        keys = list(self.routing_keys)
        for key in self.blind_keys:
            if key in keys:
                keys.remove(key)
        death = Death(queue, reason, self.exchange, tuple(keys), time, self.time_to_live)
        others = []
        for each in self.deaths:
            if (each.queue, each.reason) == (queue, reason):
                death = each._replace(times=each.times + 1)
            else:
                others.append(each)
        deaths = (death, *others)

        properties = self.properties
        headers = {**properties.headers}
        headers["x-death"] = Field("array", [each.as_field() for each in deaths])
        for which in ("last",) if self.deaths else ("first", "last"):
            headers[f"x-{which}-death-reason"] = Field("longstr", reason)
            headers[f"x-{which}-death-queue"] = Field("longstr", queue)
            headers[f"x-{which}-death-exchange"] = Field("longstr", self.exchange)
        properties = properties.without_expiration().with_headers(dict(sorted(headers.items())))

        letter_keys = self.routing_keys if routing_key is None else (routing_key,)
        return Message(
            exchange,
            letter_keys[0],
            properties.encode(),
            self.body,
            routing_keys=letter_keys,
            blind_keys=self.blind_keys,
            priority=self.priority,
            deaths=deaths,
            rejections=self.rejections,
        )

    def is_cycle_to(self, queue: str) -> bool:
        """Whether a dead letter was in a queue before and was not rejected since."""
        for death in self.deaths:
            if death.reason == "rejected":
                return False
            if death.queue == queue:
                return True
        return False


def is_decisive(header: bytes) -> bool:
    """Whether properties have something that decides what becomes of the message."""
    return bool((header[0] << 8 | header[1]) & DECISIVE)
