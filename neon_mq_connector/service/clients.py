"""How a service asks others: its request clients, and what every request has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neon_mq_connector.client import RequestClient
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.handlers.declared import Askable
from neon_mq_connector.service.configured import ConfiguredService, server_parameters
from neon_mq_connector.service.shared_clients import shared_client


class Clients:
    """The request clients of one service, which it shares with the whole process.

    `_clients` is a dict of which single items are read and set, so that any thread may.

    Args:
        service: has the configuration.
    """

    def __init__(self, service: ConfiguredService) -> None:
        self._service = service
        self._clients: dict[tuple[str, str], tuple[object, RequestClient]] = {}

    def client(self, vhost: str) -> RequestClient:
        """Return the client of a virtual host; by default the service's own."""
        service, settings = self._service, self._service.settings
        vhost = vhost or service.vhost
        name = (service.service_name, vhost)
        made_of, client = self._clients.get(name, (None, None))
        # other settings, other servers or another user: another client
        if client is None or client.is_closed or made_of is not settings:
            client = shared_client(server_parameters(service, vhost), owner=service.service_name)
            self._clients[name] = (settings, client)
        return client

    def options(
        self, timeout: float | None, wire_format: WireFormat | str | None
    ) -> dict[str, Any]:
        """Return the arguments that every request has, by default from the settings."""
        settings = self._service.settings
        return {
            "timeout": settings.request_timeout if timeout is None else timeout,
            "wire_format": WireFormat(wire_format or settings.wire_format),
        }


def question(
    request: Any, target: str | Askable[Any, Any, ..., Any], kind: type[Askable[Any, Any, ..., Any]]
) -> tuple[str, Any, Callable[[dict[str, Any]], Any]]:
    """Return the queue, the dict, and what reads the answer, of a question to a queue or handler.

    Args:
        request: what is asked.
        target: the name of the queue, or a handler.
        kind: of the handlers that may be asked so.

    Raises:
        TypeError: the handler is of another kind, answers nothing, or takes something else.
        ValueError: a placeholder in the name of the queue is open.
    """
    if isinstance(target, str):
        return target, request, _as_it_is
    if not isinstance(target, kind):
        raise TypeError(
            f"{target!r} cannot be asked so: `request` is for handlers that return their answer, "
            "`stream` for those that yield it"
        )
    if target.signature.types.answer.is_none:
        raise TypeError(f"{target!r} answers nothing; send_message() is for that")
    return target.queue, target.write_request(request), target.read_answer


def _as_it_is(answer: dict[str, Any]) -> dict[str, Any]:
    return answer
