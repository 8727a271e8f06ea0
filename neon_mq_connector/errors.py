"""The errors this library raises, and what a caller may do about each.

    MQError
    ├── ConfigurationError (ValueError)         fix the named key or file
    ├── CodecError (ValueError)
    │   ├── DecodeError                         the bytes are not a message; they will never be one
    │   └── EncodeError                         the value cannot be put on the wire
    ├── MQConnectionError (ConnectionError)     the library keeps trying; so may the caller
    │   ├── BrokerUnreachableError              nothing answered at any of the servers
    │   ├── AuthenticationError                 the broker is up and refused these credentials
    │   ├── VhostAccessError (ValueError)       unknown virtual host, or no permission for it
    │   ├── ConnectionLostError                 there was a connection and it ended
    │   │   └── FrameError                      what came is no AMQP; the message says where
    │   └── ChannelShutError                    the channel ended; its deliveries are void
    ├── TopologyError                           the broker refused a declare, bind or delete
    ├── PublishError                            see `may_have_arrived` before sending again
    │   ├── PublishLostError (ConnectionError)
    │   ├── PublishTimeoutError (TimeoutError)
    │   ├── PublishRejectedError                nacked by the broker (a full queue, for example)
    │   ├── PublishRefusedError                 no permission, or too large; so it would be again
    │   ├── UnroutableError (ValueError)        no queue takes messages for that exchange and key
    │   └── PublishBatchError                   some of many: `failures` has an error for each
    ├── RequestError
    │   ├── RequestTimeoutError (TimeoutError)
    │   ├── RequestLostError (ConnectionError)
    │   └── RemoteError                         the service has failed; it says how
    ├── RequestRefusedError                     raised by a handler: answer with an error, no retry
    │   └── InvalidRequestError (ValueError)    the request does not fit what the handler takes
    ├── InvalidAnswerError (TypeError)          what a handler has returned is no answer
    ├── ReaderGoneError                         nobody reads the parts of an answer any more
    ├── WaitTimeoutError (TimeoutError)         an operation on the broker took longer than allowed
    └── StoppedError                            the object was stopped; make or start a new one

Each class also derives from the builtin that callers of such code already catch. Errors of pika are
translated into these where they enter the library (``raise ... from``), except on the channel that
callbacks get: it raises pika's own, as callbacks written for pika expect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class MQError(Exception):
    """The root of every error this library raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive the way to another process, whatever arguments the class takes."""
        return _bare, (type(self),), {**vars(self), "args": self.args}


def _bare(kind: type[MQError]) -> MQError:
    return kind.__new__(kind)


class ConfigurationError(MQError, ValueError):
    """A setting is missing or cannot be used; the message names its key and where it came from."""


class CodecError(MQError, ValueError):
    """A message body could not be translated to or from a dict."""


class DecodeError(CodecError):
    """The bytes are not a message in any known format, or exceed a bound that the message names."""


class EncodeError(CodecError):
    """The value has no representation in the format asked for."""


class MQConnectionError(MQError, ConnectionError):
    """No usable connection to the broker."""


class BrokerUnreachableError(MQConnectionError):
    """None of the configured servers accepted a connection."""


class AuthenticationError(MQConnectionError):
    """The broker is up and refused the credentials."""


class VhostAccessError(MQConnectionError, ValueError):
    """The virtual host does not exist or the user may not use it; a broker does not tell which."""


class ConnectionLostError(MQConnectionError):
    """An open connection ended before the operation was finished."""


class FrameError(ConnectionLostError):
    """What the other side sent cannot be read as AMQP, or exceeds a bound that the message names.

    The connection is given up when it is found in a frame. Inside one message, in its properties,
    it is that message alone that cannot be used.
    """


class ChannelShutError(MQConnectionError):
    """The channel is closed; what was delivered on it can no longer be settled."""


class TopologyError(MQError):
    """The broker refused to declare, bind, unbind or delete an exchange or queue."""


class PublishError(MQError):
    """A message was not confirmed by the broker.

    Attributes:
        may_have_arrived: True when the broker may have taken the message all the same, so that
            sending it again may make a duplicate. False when it certainly has not.
    """

    def __init__(self, message: str, *, may_have_arrived: bool) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived


class PublishLostError(PublishError, ConnectionError):
    """The connection or channel ended before the broker confirmed the message."""


class PublishTimeoutError(PublishError, TimeoutError):
    """The broker did not confirm in time; the message names the alarm if there is one."""


class PublishRejectedError(PublishError):
    """The broker answered that it will not take the message."""


class PublishRefusedError(PublishError):
    """The broker refuses the message, and would refuse it again.

    The user may not write to the exchange, and the error says how to allow it; or the message is
    larger than the broker takes, or claims to come from another user.
    """


class UnroutableError(PublishError, ValueError):
    """The broker knows no queue for that exchange and routing key; nothing was stored."""


class PublishBatchError(PublishError):
    """Some of many messages were not confirmed; those without an error in `failures` were.

    Attributes:
        failures: by the number of the message, from 0 on, why the broker did not confirm it.
        message_ids: the ids of all messages that were taken, in order; what follows was not looked
            at.
        may_have_arrived: True when it is for any of the failures.
    """

    def __init__(
        self, message: str, *, failures: Mapping[int, PublishError], message_ids: Sequence[str]
    ) -> None:
        super().__init__(
            message, may_have_arrived=any(each.may_have_arrived for each in failures.values())
        )
        self.failures = dict(failures)
        self.message_ids = list(message_ids)


class RequestError(MQError):
    """A request got no usable answer."""


class RequestTimeoutError(RequestError, TimeoutError):
    """No answer came within the time allowed.

    Attributes:
        consumers: how many services consumed the queue then; None where the broker did not tell.
        waiting: how many messages waited in it; None where the broker did not tell.
    """

    consumers: int | None = None
    waiting: int | None = None


class RequestLostError(RequestError, ConnectionError):
    """The connection ended while the answer was awaited."""


class RemoteError(RequestError):
    """The service has failed, or refuses the request, and has answered with an error.

    Attributes:
        type: the name of the exception that the service has raised.
        message: what it says; empty where the service hides it.
        details: what else the service tells; for a request that does not fit, a list with a dict
            for each fault.
        queue: where the request went.
        message_id: of the request.
    """

    def __init__(
        self, type: str, message: str, *, details: Any = None, queue: str, message_id: str
    ) -> None:
        told = f"{type}: {message}" if message else type
        super().__init__(f"request {message_id} to queue {queue!r} failed: {told}")
        self.type = type
        self.message = message
        self.details = details
        self.queue = queue
        self.message_id = message_id


class RequestRefusedError(MQError):
    """Raise it in a handler to refuse a request: its sender is told, and it is not tried again.

    What it says is always told to the sender, also where the messages of other exceptions are
    hidden. Services may derive from it.

    Attributes:
        type: what `RemoteError.type` will be; the name of the class by default.
        details: more for the sender to read, made of dicts, lists, texts and numbers.
    """

    def __init__(self, message: str, *, type: str = "", details: Any = None) -> None:
        super().__init__(message)
        self.type = type or self.__class__.__name__
        self.details = details


class InvalidRequestError(RequestRefusedError, ValueError):
    """A request does not fit what its handler takes; `details` says what is wrong, by field."""


class InvalidAnswerError(MQError, TypeError):
    """What a handler has returned is no answer, or not of the type that it has declared."""


class ReaderGoneError(MQError):
    """The requester reads the parts of an answer no longer; a handler that sends them should end.

    A message whose callback it leaves is done, and not failed.
    """


class WaitTimeoutError(MQError, TimeoutError):
    """The broker did not answer an operation within the time allowed for it."""


class StoppedError(MQError):
    """The object was stopped before or while the operation ran."""
