"""Declare methods as consumers: `consumer` and `subscriber`, and the handlers that they make."""

from __future__ import annotations

import copy
import functools
import string
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    cast,
    overload,
)

from neon_mq_connector.consumers.registration import AckMode, ErrorCallback, Retry
from neon_mq_connector.envelope import new_id
from neon_mq_connector.errors import DecodeError, InvalidAnswerError, InvalidRequestError
from neon_mq_connector.handlers.models import MessageType
from neon_mq_connector.handlers.signature import Signature, is_generator

if TYPE_CHECKING:
    from pika.exchange_type import ExchangeType
    from typing_extensions import Unpack

P = ParamSpec("P")
R = TypeVar("R")
RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")
PartT = TypeVar("PartT")
DeclaredT = TypeVar("DeclaredT", bound="Declared[Any, Any, Any]")
AskableT = TypeVar("AskableT", bound="Askable[Any, Any, Any, Any]")


class SubscriberOptions(TypedDict, total=False):
    """The options of `register_subscriber` that a declaration may have."""

    on_error: ErrorCallback | None
    exchange_reset: bool
    auto_ack: bool
    restart_attempts: int
    async_consumer: bool | None
    ack: AckMode | str | None
    prefetch_count: int | None
    concurrency: int | None
    retry: Retry | None
    dedicated_connection: bool


class ConsumerOptions(SubscriberOptions, total=False):
    """The options of `register_consumer` that a declaration may have."""

    queue_reset: bool
    exchange: str | None
    exchange_type: str | ExchangeType | None
    queue_exclusive: bool
    durable: bool
    arguments: Mapping[str, Any] | None
    routing_keys: Sequence[str]
    priority: int | None
    on_park_failure: Literal["pause", "reject"]


class Declared(Generic[RequestT, P, R]):
    """A method that a connector consumes with; on an instance it can be called.

    Args:
        function: the method.
        target: the queue or the exchange, perhaps with placeholders.
        options: for its registration.

    Attributes:
        function: the method, not bound.
        name: of the method, and of the consumer.
        options: for its registration.
        signature: what it takes and answers.

    Raises:
        TypeError: the method cannot be a handler, or there is no such option.
    """

    _known_options: type = SubscriberOptions

    def __init__(self, function: Callable[..., R], target: str, options: Mapping[str, Any]) -> None:
        self.signature = Signature(function)
        unknown = sorted(options.keys() - self._known_options.__annotations__.keys())
        if unknown:
            raise TypeError(f"handler {self.signature.where}: no such option: {', '.join(unknown)}")
        if options.get("ack") in (AckMode.MANUAL, AckMode.MANUAL.value):
            raise TypeError(
                f"handler {self.signature.where}: a handler cannot acknowledge; leave ack='manual' "
                "out, and its messages are acknowledged when it has succeeded"
            )
        try:
            list(string.Formatter().parse(target))
        except ValueError as error:
            raise TypeError(f"handler {self.signature.where}: {target!r}: {error}") from None
        functools.update_wrapper(self, function)
        self.__signature__ = self.signature.bound
        self.function = function
        self.name = function.__name__
        self.options = dict(options)
        self._target = target
        self._owner: Any = None
        self._values: Mapping[str, Any] | None = None

    def __set_name__(self, _owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self: DeclaredT, instance: None, owner: type) -> DeclaredT: ...
    @overload
    def __get__(self: DeclaredT, instance: object, owner: type | None = None) -> DeclaredT: ...
    def __get__(self: DeclaredT, instance: object, owner: type | None = None) -> DeclaredT:
        """Return the handler of a class, or that of a connector, which can be called."""
        if instance is None:
            return self
        bound = copy.copy(self)
        bound._owner = instance
        return bound

    def __repr__(self) -> str:
        """Show what is declared."""
        kind = type(self).__name__
        return f"<{kind} {self.signature.where} of {self._target!r}>"

    def __call__(self, request: RequestT, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the method of a connector, as a test does."""
        if self._owner is None:
            raise TypeError(f"{self.signature.where} is called on an instance, not on its class")
        return self.function(self._owner, request, *args, **kwargs)

    @property
    def target(self) -> str:
        """The name of the queue or exchange, without placeholders.

        Raises:
            ValueError: a placeholder is open.
        """
        if "{" not in self._target:
            return self._target
        return "".join(self._filled(*each) for each in string.Formatter().parse(self._target))

    def _filled(self, text: str, placeholder: str | None, *_: object) -> str:
        if placeholder is None:
            return text
        values, owner, where = self._values or {}, self._owner, self.signature.where
        if placeholder in values:
            return f"{text}{values[placeholder]}"
        if owner is not None and hasattr(owner, placeholder):
            return f"{text}{getattr(owner, placeholder)}"
        raise ValueError(
            f"handler {where}: the placeholder {placeholder!r} of {self._target!r} is open; fill "
            f"it by an attribute of the connector, or by {where}.at({placeholder}=...)"
        )


class Subscriber(Declared[RequestT, P, R]):
    """A method that subscribes to an exchange, which is its target."""


class Askable(Declared[RequestT, P, R], Generic[RequestT, AnswerT, P, R]):
    """A method that answers what comes to a queue; it may stand where the queue is named."""

    _known_options = ConsumerOptions

    @property
    def queue(self) -> str:
        """The queue; raises `ValueError` if a placeholder in its name is open."""
        return self.target

    def at(self: AskableT, **values: Any) -> AskableT:
        """Fill placeholders in the name of the queue, for a connector with these attributes."""
        filled = copy.copy(self)
        filled._values = {**(self._values or {}), **values}
        return filled

    def write_request(self, request: Any) -> dict[str, Any]:
        """Make a message of a request; raises `TypeError` if it is of another type."""
        try:
            data = self.signature.prepare().request.write(request)
        except InvalidAnswerError as error:
            raise TypeError(f"a request to {self.signature.where}: {error}") from error.__cause__
        return data or {"message_id": new_id()}  # no message is empty

    def read_answer(self, answer: dict[str, Any]) -> Any:
        """Make what is declared of an answer, or of a part.

        Raises:
            DecodeError: it does not fit.
        """
        declared: MessageType = self.signature.prepare().answer
        try:
            return declared.read(answer)
        except InvalidRequestError as error:
            raise DecodeError(f"an answer of queue {self.queue!r}: {error}") from error.__cause__


class Handler(Askable[RequestT, AnswerT, P, R]):
    """A method that answers with one message."""


class StreamHandler(Askable[RequestT, AnswerT, P, R]):
    """A method that answers in parts."""


class _Consume(Protocol):
    # what the last one takes the others take too, and the first that fits counts
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[Any, RequestT, P], Iterator[PartT]], /
    ) -> StreamHandler[RequestT, PartT, P, Iterator[PartT]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[Any, RequestT, P], AsyncIterator[PartT]], /
    ) -> StreamHandler[RequestT, PartT, P, AsyncIterator[PartT]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, RequestT, P], Coroutine[Any, Any, AnswerT]], /
    ) -> Handler[RequestT, AnswerT, P, Coroutine[Any, Any, AnswerT]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, RequestT, P], AnswerT], /
    ) -> Handler[RequestT, AnswerT, P, AnswerT]: ...


def consumer(queue: str, **options: Unpack[ConsumerOptions]) -> _Consume:
    """Declare a method of a connector as the consumer of a queue; `run` registers it.

    The method takes one request, and returns the answer: by annotation a pydantic model, a
    dataclass, a `TypedDict` or a dict each; None answers nothing, where it is declared. A generator
    answers in parts. Its parameter ``context``, if it has one, is the `Context` of the message.

    On the class it is a handler, which may stand for the queue in ``request``; on an instance it
    can be called.

    Args:
        queue: the queue. Attributes of the connector may stand in it: ``{service_name}_input``.
        options: those of `MQConnector.register_consumer`. By default ``ack`` is ``"on_success"``.

    Raises:
        TypeError: the method cannot be a handler; raised when its class is made where that can be
            seen then, else by ``run``.

    Example:
        >>> class Shop(MQConnector):
        ...     @consumer("shop_price_input", concurrency=2)
        ...     def price(self, item: Item) -> Price:
        ...         return Price(amount=self.prices[item.name])
        >>> price = client.request(Item(name="tea"), Shop.price)
    """
    if not isinstance(queue, str):
        raise TypeError(f'consumer({queue!r}): write @consumer("name of the queue")')

    def declare(function: Callable[..., Any]) -> Any:
        kind = StreamHandler if is_generator(function) else Handler
        return kind(function, queue, options)

    return cast("_Consume", declare)


def subscriber(
    exchange: str, **options: Unpack[SubscriberOptions]
) -> Callable[[Callable[Concatenate[Any, RequestT, P], R]], Subscriber[RequestT, P, R]]:
    """Declare a method of a connector as a subscriber of a fanout exchange; see `consumer`.

    Args:
        exchange: the exchange. Attributes of the connector may stand in it.
        options: those of `MQConnector.register_subscriber`. By default ``ack`` is
            ``"on_success"``.

    Raises:
        TypeError: as for `consumer`.
    """
    if not isinstance(exchange, str):
        raise TypeError(f'subscriber({exchange!r}): write @subscriber("name of the exchange")')
    return lambda function: Subscriber(function, exchange, options)
