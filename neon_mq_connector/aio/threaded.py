"""The threaded connector inside of an `AsyncMQConnector`: connections, supervision, consumers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.client import RequestClient
from neon_mq_connector.connections import Connections
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.errors import MQConnectionError
from neon_mq_connector.publishing.encoded_message import EncodedMessage
from neon_mq_connector.publishing.message import Destination


class ThreadedConnector(MQConnector):
    """What an `AsyncMQConnector` delegates to; its callbacks run on the loop of that.

    The first arguments are those of `MQConnector`, the last the key of the service's configurable
    properties.
    """

    def __init__(
        self, config: Mapping[str, Any] | None, service_name: str, property_key: str
    ) -> None:
        self.property_key = property_key
        self._callers_loop = CoroutineLoop()
        super().__init__(config, service_name)

    def _coroutine_loop(self) -> CoroutineLoop:
        return self.current_loop()

    def current_loop(self) -> CoroutineLoop:
        """Return the loop of coroutines; when the connector was stopped, that of the next run."""
        if self._callers_loop.has_ended:
            self._callers_loop = CoroutineLoop()
        return self._callers_loop

    def connections_to(self, vhost: str) -> Connections:
        """Return the connections to a virtual host."""
        return self._connections(vhost)

    def client_of(self, vhost: str) -> RequestClient:
        """Return the request client of a virtual host."""
        return self._client(vhost)

    def prepare_message(
        self, data: Mapping[str, Any], destination: Destination, expiration: int | None
    ) -> tuple[Destination, EncodedMessage]:
        """Return where a message goes and how it is sent; an answer as its request wants it."""
        destination, prepare = self._sending(destination, expiration)
        return destination, prepare(data)

    def reach_broker(self, timeout: float) -> MQConnectionError | None:
        """Wait until the broker answers or the time is up; return what is wrong, or None."""
        return self._reach_broker(timeout)

    def begin(self, names: tuple[str, ...] | None) -> None:
        """Begin to run, and start consumers.

        Args:
            names: which; empty for all, None for none.
        """
        if self._begin_running() and names is not None:
            self.run_consumers(names=names)
            if self._mq_stop_waiting.is_set():
                self.stop()  # once more, for what has started after the first

    @property
    def stop_budget(self) -> float:
        """How long `stop` may take, in seconds."""
        return self._stop_timeout()
