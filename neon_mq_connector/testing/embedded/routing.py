"""Which queues a message gets to, through however many exchanges."""

from __future__ import annotations

from collections.abc import Mapping

from neon_mq_connector.testing.embedded.exchange import Exchange
from neon_mq_connector.testing.embedded.message import Message
from neon_mq_connector.testing.embedded.queue import Queue

_MOST_ROUTES = 4096


class Router:
    """Finds the queues for messages, and remembers them while nothing is declared or bound.

    Args:
        exchanges: of a virtual host, by their names.
        queues: of the same, by their names.
    """

    def __init__(self, exchanges: Mapping[str, Exchange], queues: Mapping[str, Queue]) -> None:
        self._exchanges = exchanges
        self._queues = queues
        self._routes: dict[tuple[str, str], list[Queue]] = {}

    def forget(self) -> None:
        """Take note that an exchange, a queue or a binding has come or gone."""
        self._routes.clear()

    def route(self, exchange: Exchange, message: Message) -> list[Queue]:
        """Return the queues that a message published to an exchange gets to."""
        keys = message.routing_keys
        if exchange.name == "":
            names = keys if len(keys) == 1 else sorted(set(keys))
            return [self._queues[name] for name in names if name in self._queues]
        route = (exchange.name, message.routing_key)
        if len(keys) == 1 and route in self._routes:
            return self._routes[route]
        queues, depends_on_headers = self._follow(exchange, message)
        if len(keys) == 1 and not depends_on_headers:
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            self._routes[route] = queues
        return queues

    def _follow(self, exchange: Exchange, message: Message) -> tuple[list[Queue], bool]:
        """Follow a message from exchange to exchange.

        Returns:
            The queues that it gets to, and whether that depends on its headers.
        """
        queues: dict[Queue, None] = {}
        seen = {exchange.name}
        work = [exchange]
        depends_on_headers = False
        while work:
            current = work.pop()
            if current.name == "":  # only as an alternate exchange: nothing is bound to it
                queues.update(dict.fromkeys(self.route(current, message)))
                continue
            depends_on_headers = depends_on_headers or current.type == "headers"
            bindings = current.matching(message)
            names = [each.destination for each in bindings if each.kind == "exchange"]
            if not bindings and current.alternate is not None:
                names.append(current.alternate)
            for each in bindings:
                if each.kind == "queue" and each.destination in self._queues:
                    queues.setdefault(self._queues[each.destination])
            for name in names:
                if name in self._exchanges and name not in seen:
                    seen.add(name)
                    work.append(self._exchanges[name])
        return list(queues), depends_on_headers
