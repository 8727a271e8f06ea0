"""The callbacks that declared handlers are registered with.

A handler is called by one coroutine, whether it is a coroutine function or not. For one that is not
a thread runs it: there is nothing in it that would be waited for.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, aclosing, closing
from functools import partial, update_wrapper
from types import MethodType
from typing import Any, NamedTuple

from neon_mq_connector.aio.signatures import TAKES_DELIVERY, name_of
from neon_mq_connector.client.inbox import run_on_thread
from neon_mq_connector.consumers.attempts import rejections
from neon_mq_connector.envelope import time_allowed
from neon_mq_connector.handlers.context import Context, Middleware
from neon_mq_connector.handlers.declared import Declared
from neon_mq_connector.handlers.incoming import Incoming, read_request
from neon_mq_connector.handlers.models import MessageType
from neon_mq_connector.handlers.signature import Signature


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
    for each in middleware:
        if not signature.is_async and inspect.isasyncgenfunction(inspect.unwrap(each)):
            raise TypeError(
                f"handler {signature.where}: middleware {name_of(each)} is asynchronous, and "
                "the handler is no coroutine function"
            )
    call = _Call(
        MethodType(handler.function, service),
        signature,
        None if types.request.is_dict else types.request.read,
        types.answer,
        middleware,
        service,
    )

    async def callback(channel: Any, _method: Any, properties: Any, body: Any) -> None:
        await call.handle(read_request(channel, properties, body))

    def callback_on_thread(channel: Any, _method: Any, properties: Any, body: Any) -> None:
        run_on_thread(call.handle(read_request(channel, properties, body)))

    if not signature.is_async:
        return update_wrapper(callback_on_thread, handler.function)
    setattr(callback, TAKES_DELIVERY, True)
    return update_wrapper(callback, handler.function)


class _Call(NamedTuple):
    """A handler of a connector, with what each call of it needs.

    Attributes:
        function: the method of the connector.
        signature: what it takes and answers.
        read: converts a dict to what it takes; None where it takes the dict.
        answer_type: what it returns, or each part of it.
        middleware: is around each call.
        service: the connector.
    """

    function: Callable[..., Any]
    signature: Signature
    read: Callable[[dict[str, Any]], Any] | None
    answer_type: MessageType
    middleware: tuple[Middleware, ...]
    service: Any

    async def handle(self, request: Incoming) -> None:
        """Call the handler with a request, inside of the middleware, and send its answer."""
        if not self.middleware and not self.signature.takes_context:
            await self._answer(request, None)
            return
        context = self._context(request)
        async with AsyncExitStack() as stack:
            for each in self.middleware:
                manager: Any = each(context)
                if self.signature.is_async and hasattr(manager, "__aenter__"):
                    await stack.enter_async_context(manager)
                else:
                    stack.enter_context(manager)
            await self._answer(request, context)

    async def _answer(self, request: Incoming, context: Context | None) -> None:
        data = request.data if self.read is None else self.read(request.data)
        arguments = (data, context) if self.signature.takes_context else (data,)
        result, declared = self.function(*arguments), self.answer_type
        if self.signature.in_parts:
            await self._send_parts(request, result)
            return
        if self.signature.is_async:
            result = await result
        if not declared.is_nothing(result):
            request.answer(result, declared.write)
        elif request.has_parts:
            request.end_parts()

    async def _send_parts(self, request: Incoming, generator: Any) -> None:
        async with aclosing(generator if self.signature.is_async else _iterate(generator)) as parts:
            async for part in parts:
                sent = self._send_part(request, part)
                if inspect.isawaitable(sent):  # a slow broker slows the generator down
                    await sent
        request.end_parts()

    def _send_part(self, request: Incoming, part: Any) -> Any:
        return request.send_part(self.answer_type.write(part))

    def _context(self, request: Incoming) -> Context:
        """Return the context of a request."""
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
            _send=partial(self._send_part, request),
        )


async def _iterate(generator: Generator[Any, None, None]) -> AsyncGenerator[Any, None]:
    with closing(generator):
        for part in generator:
            yield part
