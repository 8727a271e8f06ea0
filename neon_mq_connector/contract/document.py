"""Describe a service as an AsyncAPI 3 document: its queues, and what they take and answer."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import quote

from neon_mq_connector.contract.files import IS_ERROR, STREAM, Document
from neon_mq_connector.envelope import ERROR, REPLY_QUEUE
from neon_mq_connector.handlers.declared import Declared, Subscriber
from neon_mq_connector.handlers.registering import declared_in

_BINDING = "0.3.0"
_UNSAFE = re.compile(r"[^\w.-]", re.ASCII)
_Mode = Literal["validation", "serialization"]


def describe(service: Any) -> Document:
    """Describe a service as an AsyncAPI 3 document.

    Its declared handlers are described with their types. Of other consumers that are registered
    with it only the queue is known.

    Args:
        service: an `MQConnector` or `AsyncMQConnector`; it is not run.

    Returns:
        The document, of JSON types. There is no user and no password in it.

    Raises:
        ConfigurationError: the configuration cannot be used.
        TypeError, ValueError: a handler cannot work, as it is declared.
    """
    return _Description(service).document()


class _Description:
    def __init__(self, service: Any) -> None:
        self._service = service
        self._vhost: str = service.vhost
        self._channels: Document = {}
        self._operations: Document = {}
        self._payloads: dict[tuple[str, _Mode], Document] = {}

    def document(self) -> Document:
        """Make the document."""
        handlers = [getattr(self._service, name) for name in declared_in(type(self._service))]
        schemas = self._make_payloads(handlers)
        for handler in handlers:
            self._add_handler(handler)
        declared = {each.name for each in handlers}
        for name, thread in self._service.consumers.items():
            if name not in declared:
                self._add_consumer(name, thread.consumer.registration)
        messages = {}
        if any("reply" in each for each in self._operations.values()):
            messages["error"] = _ERROR_MESSAGE
            schemas["NeonError"] = _ERROR_SCHEMA
        return {
            "asyncapi": "3.0.0",
            "info": self._info(),
            "defaultContentType": "application/json",
            "servers": dict(self._servers()),
            "channels": self._channels,
            "operations": self._operations,
            "components": {
                "messages": messages,
                "schemas": schemas,
                "messageTraits": {"request": _REQUEST_TRAIT},
                "securitySchemes": {"user": {"type": "userPassword"}},
            },
        }

    def _make_payloads(self, handlers: list[Declared[Any, Any, Any]]) -> Document:
        """Make the schemas of requests and answers; return those of the models in them, by name.

        A model is there twice where it has another schema as a request than as an answer, as one
        with computed fields has.
        """
        inputs: list[tuple[str, _Mode, Any]] = []
        for handler in handlers:
            types = handler.signature.prepare()
            inputs += [
                (handler.name, "validation", types.request.adapter),
                (handler.name, "serialization", types.answer.adapter),
            ]
        inputs = [each for each in inputs if each[2] is not None]
        if not inputs:
            return {}
        from pydantic import TypeAdapter

        self._payloads, found = TypeAdapter.json_schemas(
            inputs, ref_template="#/components/schemas/{model}"
        )
        return dict(found.get("$defs", {}))

    def _info(self) -> Document:
        kind = type(self._service)
        info = {"title": self._service.service_name, "version": _version_of(kind)}
        text = inspect.cleandoc(kind.__dict__.get("__doc__") or "")
        return {**info, "description": text} if text else info

    def _servers(self) -> Iterator[tuple[str, Document]]:
        settings = self._service.settings
        for number, endpoint in enumerate(settings.endpoints, 1):
            server = {
                "host": str(endpoint),
                "protocol": "amqps" if settings.tls.enabled else "amqp",
                "protocolVersion": "0-9-1",
                "pathname": f"/{quote(self._vhost, safe='')}",
                "security": [_reference("components", "securitySchemes", "user")],
            }
            yield "broker" if number == 1 else f"broker-{number}", server

    # -- what is consumed ----------------------------------------------------------------------

    def _add_handler(self, handler: Declared[Any, Any, Any]) -> None:
        request, answer = handler.signature.prepare()
        message = self._message(handler.name, "request", str(request))
        message["traits"] = [_reference("components", "messageTraits", "request")]
        if isinstance(handler, Subscriber):
            binding = self._exchange(handler.target, "fanout")
            operation = self._receive(handler.name, handler.target, binding, message)
            operation["tags"] = [{"name": "subscription"}]
        else:
            durable = handler.options.get("durable", False)
            exclusive = handler.options.get("queue_exclusive", False)
            binding = self._queue(handler.target, durable=durable, exclusive=exclusive)
            operation = self._receive(handler.name, handler.target, binding, message)
            if not answer.is_none:
                operation["reply"] = self._reply(handler, str(answer))
        text = inspect.cleandoc(handler.function.__doc__ or "")
        if text:
            operation["summary"], _, rest = text.partition("\n")
            if rest.strip():
                operation["description"] = rest.strip()

    def _add_consumer(self, name: str, registration: Any) -> None:
        """Add a consumer whose callback says nothing of types."""
        queue, exchange = registration.queue, registration.exchange
        message = self._message(name, "request")
        if registration.delete_on_stop and exchange is not None:
            binding = self._exchange(exchange.name, exchange.type)
            self._receive(name, exchange.name, binding, message)
        else:
            binding = self._queue(queue.name, durable=queue.durable, exclusive=queue.exclusive)
            self._receive(name, queue.name or None, binding, message)

    def _receive(
        self, name: str, address: str | None, binding: Document, message: Document
    ) -> Document:
        """Add an operation that receives a message, with its channel."""
        channel = self._channel(
            address or name, address, {message["name"]: message}, bindings={"amqp": binding}
        )
        operation = self._operations[_identifier(name)] = {"action": "receive", **channel}
        return operation

    def _reply(self, handler: Declared[Any, Any, Any], title: str) -> Document:
        """Return the reply of an operation, whose address is in each request."""
        message = self._message(handler.name, "answer", title)
        messages = {
            message["name"]: message,
            "error": _reference("components", "messages", "error"),
        }
        address = {
            "location": "$message.header#/replyTo",
            "description": "The AMQP property reply_to of the request.",
        }
        reply = {"address": address, **self._channel(f"{handler.target}.reply", None, messages)}
        return {**reply, STREAM: True} if handler.signature.in_parts else reply

    def _channel(
        self, name: str, address: str | None, messages: Document, **more: Document
    ) -> Document:
        """Add messages to a channel; return the references to both, as an operation has them."""
        channel = _identifier(name)
        entry = self._channels.setdefault(channel, {"address": address, "messages": {}, **more})
        entry["messages"].update(messages)
        return {
            "channel": _reference("channels", channel),
            "messages": [_reference("channels", channel, "messages", each) for each in messages],
        }

    def _message(self, name: str, role: str, title: str = "") -> Document:
        mode: _Mode = "validation" if role == "request" else "serialization"
        payload = self._payloads.get((name, mode), {"type": "object"})
        message: Document = {"name": _identifier(f"{name}.{role}"), "payload": payload}
        if title.isidentifier() and "$ref" in payload:
            message["title"] = title
        return message

    def _queue(self, name: str, *, durable: bool, exclusive: bool) -> Document:
        queue = {
            "name": name,
            "durable": durable,
            "exclusive": exclusive,
            "autoDelete": False,
            "vhost": self._vhost,
        }
        return {"is": "queue", "queue": queue, "bindingVersion": _BINDING}

    def _exchange(self, name: str, kind: str) -> Document:
        exchange = {"name": name, "type": kind, "durable": False, "vhost": self._vhost}
        return {"is": "routingKey", "exchange": exchange, "bindingVersion": _BINDING}


def _identifier(name: str) -> str:
    return _UNSAFE.sub("_", name)


def _reference(*path: str) -> Document:
    return {"$ref": "#/" + "/".join(path)}


def _version_of(kind: type) -> str:
    """Return the version of the module or package of a class."""
    for name in (kind.__module__, kind.__module__.partition(".")[0]):
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str):
            return version
    return "0.0.0"


_CORRELATION = {
    "location": "$message.header#/correlationId",
    "description": "The AMQP property correlation_id; the answer has that of its request.",
}
_REQUEST_TRAIT = {
    "headers": {
        "type": "object",
        "properties": {
            "replyTo": {
                "type": "string",
                "description": "The AMQP property reply_to: the queue for the answer.",
            },
            "correlationId": {
                "type": "string",
                "description": "The AMQP property correlation_id: what the answer is known by.",
            },
            REPLY_QUEUE: {
                "type": "string",
                "description": "The queue that the body names as routing_key. Who sets it reads "
                "error answers; as does who sets reply_to and names no routing_key.",
            },
        },
    },
    "correlationId": _CORRELATION,
}
_ERROR_SCHEMA = {
    "type": "object",
    "title": "NeonError",
    "description": "The service has failed, or refuses the request.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {
                "type": {"type": "string", "description": "The name of the exception."},
                "message": {"type": "string"},
                "details": {
                    "description": "Of a request that does not fit: a list of field and message."
                },
            },
        },
        "message_id": {"type": "string"},
        "context": {"type": "object"},
    },
}
_ERROR_MESSAGE = {
    "name": "error",
    "title": "Error",
    "summary": "Instead of an answer, when the request has failed for the last time.",
    "headers": {
        "type": "object",
        "required": [ERROR],
        "properties": {ERROR: {"type": "string", "description": "The name of the exception."}},
    },
    "correlationId": _CORRELATION,
    "payload": _reference("components", "schemas", "NeonError"),
    IS_ERROR: True,
}
