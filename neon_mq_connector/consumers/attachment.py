"""What the channels of callbacks ask of the session that they belong to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.settlement import OpenDelivery, Settlement
from neon_mq_connector.link import Link
from neon_mq_connector.publishing.message import Message

#: Called with what was closed, a connection or a channel, and the reason.
CloseCallback = Callable[[Any, BaseException], object]


class Closing(Protocol):
    """The stand-in for the connection of a session, as far as it tells of its end."""

    def add_on_close_callback(self, callback: CloseCallback) -> None: ...


class Attachment(Protocol):
    """One attachment of a consumer to its queue; see `Session`, which is one."""

    number: int
    connections: Connections
    queue: str
    consumer_tag: str
    more_follows: bool
    settlement: Settlement
    publishing: threading.RLock

    @property
    def link(self) -> Link: ...

    @property
    def is_open(self) -> bool: ...

    @property
    def is_attached(self) -> bool: ...

    @property
    def is_writable(self) -> bool: ...

    @property
    def connection(self) -> Closing: ...

    def stop_consumer(self) -> None: ...

    # -- settling and answering ----------------------------------------------------------------

    def claim(self, tag: int, *, multiple: bool) -> list[OpenDelivery]: ...

    def nothing_to_settle(self, tag: int) -> None: ...

    def publish_failed(self, deliveries: list[OpenDelivery], error: BaseException) -> None: ...

    def report_publish(self, error: BaseException) -> None: ...

    def may_answer(self, tag: int) -> bool: ...

    def answer(self, message: Message, timeout: float) -> None: ...

    # -- what waits for the broker -------------------------------------------------------------

    def set_prefetch(self, count: int) -> None: ...

    def get(self, queue: str, auto_ack: bool) -> tuple[Any, Any, Any]: ...
