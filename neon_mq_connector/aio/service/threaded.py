"""The threaded connector inside of an `AsyncMQConnector`: connections, supervision, the books."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.aio.service.late_loop import LateLoop
from neon_mq_connector.client import RequestClient
from neon_mq_connector.connections import Connections
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.errors import MQConnectionError
from neon_mq_connector.publishing.encoded_message import EncodedMessage
from neon_mq_connector.publishing.message import Destination

Prepare = Callable[[Mapping[str, Any]], EncodedMessage]


class ThreadedConnector(MQConnector):
    """What an `AsyncMQConnector` delegates to; its callbacks run on the loop of that.

    Args:
        config: as for `MQConnector`.
        service_name: as for `MQConnector`.
        property_key: the key of the service's configurable properties.

    Attributes:
        callers_loop: where coroutines run; one for each time that the connector runs.
    """

    def __init__(
        self, config: Mapping[str, Any] | None, service_name: str, property_key: str
    ) -> None:
        self.property_key = property_key
        self.callers_loop = LateLoop()
        super().__init__(config, service_name)

    def _coroutine_loop(self) -> CoroutineLoop:
        return self.current_loop()

    def current_loop(self) -> LateLoop:
        """Give the loop of coroutines; when the connector was stopped, that of the next run."""
        if self.callers_loop.has_ended:
            self.callers_loop = LateLoop()
        return self.callers_loop

    def connections_to(self, vhost: str) -> Connections:
        """Give the connections to a virtual host."""
        return self._connections(vhost)

    def client_of(self, vhost: str) -> RequestClient:
        """Give the request client of a virtual host."""
        return self._client(vhost)

    def sending(
        self, destination: Destination, expiration: int | None
    ) -> tuple[Destination, Prepare]:
        """Say where messages go and how they are made; see `PipelinedService`."""
        return self._sending(destination, expiration)

    def reach_broker(self, timeout: float) -> MQConnectionError | None:
        """Wait until the broker answers.

        Args:
            timeout: how long at most, in seconds.

        Returns:
            None when it accepts the service, or what is wrong.
        """
        return self._reach_broker(timeout)

    def begin(self, names: tuple[str, ...] | None) -> None:
        """Take it that the connector runs, and start consumers.

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
