"""The callbacks that declared handlers are registered with."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
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
from neon_mq_connector.handlers.models import MessageType


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
    types, signature = handler.signature.prepare(), handler.signature
    middleware = tuple(service.middleware)
    call = _Call(
        MethodType(handler.function, service),
        None if types.request.is_dict else types.request.read,
        types.answer,
        signature.takes_context,
        service,
    )
    if signature.is_async:
        handle_async = call.stream_async if signature.in_parts else call.answer_async
        callback: Callable[..., Any] = _coroutine_callback(call, handle_async, middleware)
        setattr(callback, TAKES_DELIVERY, True)
    else:
        for each in middleware:
            if inspect.isasyncgenfunction(inspect.unwrap(each)):
                raise TypeError(
                    f"handler {signature.where}: middleware {name_of(each)} is asynchronous, and "
                    "the handler is no coroutine function"
                )
        handle = call.stream if signature.in_parts else call.answer
        callback = _callback(call, handle, middleware)
    return functools.update_wrapper(callback, handler.function)


class _Call(NamedTuple):
    """How a handler is called.

    Attributes:
        function: the method of the connector.
        read: converts a dict to what it takes; None where it takes the dict.
        answer_type: what it returns, or each part of it.
        takes_context: whether it takes the context, too.
        service: the connector.
    """

    function: Callable[..., Any]
    read: Callable[[dict[str, Any]], Any] | None
    answer_type: MessageType
    takes_context: bool
    service: Any

    def _call(self, request: Incoming, context: Context | None) -> Any:
        data = request.data if self.read is None else self.read(request.data)
        return self.function(data, context) if self.takes_context else self.function(data)

    def _send(self, request: Incoming, result: Any, replies: PartsSender | None) -> None:
        ends, declared = replies is not None and replies.has_sent, self.answer_type
        if not declared.is_nothing(result):
            send_answer(request, result, declared.write, ends=ends)
        elif replies is not None and ends:
            replies.end()

    def answer(
        self, request: Incoming, context: Context | None, replies: PartsSender | None
    ) -> None:
        self._send(request, self._call(request, context), replies)

    def stream(
        self, request: Incoming, context: Context | None, replies: PartsSender | None
    ) -> None:
        sender = replies or PartsSender(request, self.answer_type.write)
        with closing(self._call(request, context)) as parts:
            for part in parts:
                sender.send(part)
        sender.end()

    async def answer_async(
        self, request: Incoming, context: Context | None, replies: PartsSender | None
    ) -> None:
        self._send(request, await self._call(request, context), replies)

    async def stream_async(
        self, request: Incoming, context: Context | None, replies: PartsSender | None
    ) -> None:
        sender = replies or PartsSender(request, self.answer_type.write)
        async with aclosing(self._call(request, context)) as parts:
            async for part in parts:
                sent = sender.send(part)
                if inspect.isawaitable(sent):  # a slow broker slows the generator down
                    await sent
        sender.end()

    def context(self, request: Incoming, replies: PartsSender) -> Context:
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


def _callback(
    call: _Call,
    handle: Callable[[Incoming, Context | None, PartsSender | None], None],
    middleware: Sequence[Middleware],
) -> Callable[..., None]:
    def plain(channel: Any, _method: Any, properties: Any, body: Any) -> None:
        handle(read_request(channel, properties, body), None, None)

    def with_context(channel: Any, _method: Any, properties: Any, body: Any) -> None:
        request = read_request(channel, properties, body)
        replies = PartsSender(request, call.answer_type.write)
        context = call.context(request, replies)
        with ExitStack() as stack:
            for each in middleware:
                manager: Any = each(context)
                stack.enter_context(manager)
            handle(request, context, replies)

    return with_context if middleware or call.takes_context else plain


def _coroutine_callback(
    call: _Call,
    handle: Callable[[Incoming, Context | None, PartsSender | None], Any],
    middleware: Sequence[Middleware],
) -> Callable[..., Any]:
    async def plain(channel: Any, _method: Any, properties: Any, body: Any) -> None:
        await handle(read_request(channel, properties, body), None, None)

    async def with_context(channel: Any, _method: Any, properties: Any, body: Any) -> None:
        request = read_request(channel, properties, body)
        replies = PartsSender(request, call.answer_type.write)
        context = call.context(request, replies)
        async with AsyncExitStack() as stack:
            for each in middleware:
                manager: Any = each(context)
                if hasattr(manager, "__aenter__"):
                    await stack.enter_async_context(manager)
                else:
                    stack.enter_context(manager)
            await handle(request, context, replies)

    return with_context if middleware or call.takes_context else plain
