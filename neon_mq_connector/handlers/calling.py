"""The callbacks that declared handlers are registered with."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from types import MethodType
from typing import Any, NamedTuple

from neon_mq_connector.aio.signatures import TAKES_DELIVERY, name_of
from neon_mq_connector.consumers.attempts import rejections
from neon_mq_connector.envelope import time_allowed
from neon_mq_connector.handlers.context import Context, Middleware
from neon_mq_connector.handlers.declared import Declared
from neon_mq_connector.handlers.invoking import (
    Incoming,
    PartsSender,
    read_request,
    send_answer,
)
from neon_mq_connector.handlers.signature import Signature, Types


def callback_of(handler: Declared[Any, Any, Any], service: Any) -> Callable[..., Any]:
    """Return the callback of a handler; what it needs to know is found out here, once.

    Args:
        handler: what is declared.
        service: the connector, whose middleware is around each call.

    Returns:
        A callback, or a coroutine function that is one.

    Raises:
        TypeError: the signature cannot work, or not with that middleware.
    """
    signature = handler.signature
    call = _Call(
        MethodType(handler.function, service),
        signature,
        signature.prepare(),
        service,
        tuple(service.middleware),
    )
    if signature.is_async:
        callback: Callable[..., Any] = _coroutine_callback(call)
        setattr(callback, TAKES_DELIVERY, True)
    else:
        for each in call.middleware:
            if inspect.isasyncgenfunction(inspect.unwrap(each)):
                raise TypeError(
                    f"handler {signature.where}: middleware {name_of(each)} is asynchronous, and "
                    "the handler is no coroutine function"
                )
        callback = _callback(call)
    return functools.update_wrapper(callback, handler.function)


class _Call(NamedTuple):
    """How a handler is called: the method of the connector, its types, and the middleware."""

    function: Callable[..., Any]
    signature: Signature
    types: Types
    service: Any
    middleware: tuple[Middleware, ...]

    def begin(
        self, channel: Any, properties: Any, body: Any
    ) -> tuple[Incoming, Context | None, PartsSender | None]:
        """Read a request; return it with its context and the sender of its parts, if needed."""
        request = read_request(channel, properties, body)
        needs_context = bool(self.middleware) or self.signature.takes_context
        if not (needs_context or self.signature.in_parts):
            return request, None, None
        replies = PartsSender(request, self.types.answer.write)
        return request, self._context(request, replies) if needs_context else None, replies

    def invoke(self, request: Incoming, context: Context | None) -> Any:
        data = self.types.request.read(request.data)
        return self.function(data, context) if self.signature.takes_context else self.function(data)

    def send(self, request: Incoming, result: Any, replies: PartsSender | None) -> None:
        """Send what the handler has returned, if it is an answer; end those sent in parts."""
        ends, declared = replies is not None and replies.has_sent, self.types.answer
        if not declared.is_nothing(result):
            send_answer(request, result, declared.write, ends=ends)
        elif replies is not None and ends:
            replies.end()

    def _context(self, request: Incoming, replies: PartsSender) -> Context:
        """Return the context of a request, whose `reply` sends by ``replies``."""
        channel = request.channel
        assert channel is not None  # a consumer calls
        assert channel.delivery is not None
        message = channel.message
        assert message is not None
        method, properties, _body = channel.delivery
        allowed = time_allowed(properties)
        return Context(
            str(request.message_id or properties.correlation_id or ""),
            channel.queue,
            headers=properties.headers or {},
            redelivered=bool(method.redelivered),
            attempt=message.attempt + rejections(properties, channel.queue),
            service=self.service,
            deadline=None if allowed is None else message.received + allowed,
            _send=replies.send,
        )


def _callback(call: _Call) -> Callable[..., None]:
    def handle(request: Incoming, context: Context | None, replies: PartsSender | None) -> None:
        result = call.invoke(request, context)
        if not call.signature.in_parts:
            call.send(request, result, replies)
            return
        assert replies is not None
        with closing(result) as parts:
            for part in parts:
                replies.send(part)
        replies.end()

    def callback(channel: Any, _method: Any, properties: Any, body: Any) -> None:
        request, context, replies = call.begin(channel, properties, body)
        if context is None or not call.middleware:
            handle(request, context, replies)
            return
        with ExitStack() as stack:
            for each in call.middleware:
                manager: Any = each(context)
                stack.enter_context(manager)
            handle(request, context, replies)

    return callback


def _coroutine_callback(call: _Call) -> Callable[..., Any]:
    async def handle(
        request: Incoming, context: Context | None, replies: PartsSender | None
    ) -> None:
        result = call.invoke(request, context)
        if not call.signature.in_parts:
            call.send(request, await result, replies)
            return
        assert replies is not None
        async with aclosing(result) as parts:
            async for part in parts:
                sent = replies.send(part)
                if inspect.isawaitable(sent):  # a slow broker slows the generator down
                    await sent
        replies.end()

    async def callback(channel: Any, _method: Any, properties: Any, body: Any) -> None:
        request, context, replies = call.begin(channel, properties, body)
        if context is None or not call.middleware:
            await handle(request, context, replies)
            return
        async with AsyncExitStack() as stack:
            for each in call.middleware:
                manager: Any = each(context)
                if hasattr(manager, "__aenter__"):
                    await stack.enter_async_context(manager)
                else:
                    stack.enter_context(manager)
            await handle(request, context, replies)

    return callback
