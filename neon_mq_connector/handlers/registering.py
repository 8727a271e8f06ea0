"""Register the handlers that the class of a connector declares."""

from __future__ import annotations

from typing import Any

from neon_mq_connector.handlers.calling import callback_of
from neon_mq_connector.handlers.declared import Declared, Subscriber

_LIBRARY = __name__.partition(".")[0]


def declared_in(kind: type) -> dict[str, Declared[Any, Any, Any]]:
    """Return the handlers of a class and those that it inherits, by their names.

    Raises:
        TypeError: a handler is overridden by something that is none, or by a decorator around it;
            or it has the name of what a connector has.
    """
    found: dict[str, Declared[Any, Any, Any]] = {}
    taken: set[str] = set()
    for base in reversed(kind.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Declared):
                if name in taken:
                    raise TypeError(
                        f"handler {value.signature.where}: a connector needs its own {name!r}; "
                        "give the handler another name"
                    )
                found[name] = value
            elif isinstance(getattr(value, "__wrapped__", None), Declared):
                raise TypeError(
                    f"{base.__qualname__}.{name} is decorated around its handler, which would not "
                    "be registered; write that decorator below"
                )
            elif name in found:
                handler = found.pop(name)
                if value is not None:
                    raise TypeError(
                        f"{base.__qualname__}.{name} overrides the handler "
                        f"{handler.signature.where} and is none; decorate it as that is, or set "
                        f"{name} = None to consume nothing"
                    )
            elif base.__module__.startswith(_LIBRARY):
                taken.add(name)
    return found


def register_handlers(service: Any) -> None:
    """Register the handlers of a connector; a consumer of the same name is left as it is.

    Args:
        service: the connector, an `MQConnector` or an `AsyncMQConnector`.

    Raises:
        TypeError, ValueError: a handler cannot work, as it is declared.
        Exception: as `register_consumer`.
    """
    consuming: dict[str, str] = {}
    for name, declared in declared_in(type(service)).items():
        if name in service.consumers:
            continue
        handler: Any = declared.__get__(service)
        options = dict(handler.options)
        if options.get("ack") is None and not options.get("auto_ack"):
            options["ack"] = "on_success"
        callback = callback_of(handler, service)
        if isinstance(handler, Subscriber):
            service.register_subscriber(
                name, service.vhost, callback, exchange=handler.target, **options
            )
            continue
        queue, where = handler.queue, handler.signature.where
        if queue and (other := consuming.setdefault(queue, where)) != where:
            raise TypeError(
                f"handlers {other} and {where} consume the same queue {queue!r}, and the broker "
                "would give each some of its messages; for more at a time use concurrency="
            )
        service.register_consumer(name, service.vhost, queue, callback, **options)
