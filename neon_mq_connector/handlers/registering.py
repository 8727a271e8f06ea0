"""Register what a connector's class declares."""

from __future__ import annotations

from typing import Any

from neon_mq_connector.handlers.calling import callback_of
from neon_mq_connector.handlers.declared import Declared, Subscriber


def declared_in(kind: type) -> dict[str, Declared[Any, Any, Any]]:
    """Return the handlers of a class and those that it inherits, by their names.

    Raises:
        TypeError: a handler is overridden by something that is none.
    """
    found: dict[str, Declared[Any, Any, Any]] = {}
    for base in reversed(kind.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Declared):
                found[name] = value
            elif name in found:
                handler = found.pop(name)
                if value is not None:
                    raise TypeError(
                        f"{base.__qualname__}.{name} overrides the handler "
                        f"{handler.signature.where} and is none; decorate it as that is, or set "
                        f"{name} = None to consume nothing"
                    )
    return found


def register_handlers(service: Any) -> None:
    """Register the handlers of a connector; a consumer of the same name is left as it is.

    Args:
        service: the connector, an `MQConnector` or an `AsyncMQConnector`.

    Raises:
        TypeError, ValueError: a handler cannot work, as it is declared.
        Exception: as `register_consumer`.
    """
    for name, declared in declared_in(type(service)).items():
        if name in service.consumers:
            continue
        handler: Any = declared.__get__(service)
        options = dict(handler.options)
        if not options.keys() & {"ack", "auto_ack"}:
            options["ack"] = "on_success"
        callback = callback_of(handler, service)
        if isinstance(handler, Subscriber):
            service.register_subscriber(
                name, service.vhost, callback, exchange=handler.exchange, **options
            )
        else:
            service.register_consumer(name, service.vhost, handler.queue, callback, **options)
