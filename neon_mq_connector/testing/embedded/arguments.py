"""What RabbitMQ checks of the arguments of queues and consumers, with its texts.

What is wrong raises an `AMQPError` whose text names the argument.
"""

from __future__ import annotations

from collections.abc import Callable

from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.tables import Field, Table

CLASSIC, QUORUM, STREAM = "classic", "quorum", "stream"

_LONGEST_TIME = 315_360_000_000
#: The arguments that each type of queue knows, in the order in which they are compared.
_KNOWN = {
    CLASSIC: (
        "x-expires",
        "x-message-ttl",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-priority",
        "x-overflow",
        "x-queue-mode",
        "x-queue-version",
        "x-single-active-consumer",
        "x-queue-type",
        "x-queue-master-locator",
        "x-queue-leader-locator",
    ),
    QUORUM: (
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-dead-letter-strategy",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
        "x-overflow",
        "x-single-active-consumer",
        "x-queue-type",
        "x-quorum-initial-group-size",
        "x-delivery-limit",
        "x-message-ttl",
        "x-queue-leader-locator",
    ),
}
_OF_STREAMS = (
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
)
_ALL = frozenset((*_KNOWN[CLASSIC], *_KNOWN[QUORUM], *_OF_STREAMS))

#: Returns what is wrong with an argument, given all of them: a term as Erlang prints it.
_Check = Callable[[Field, Table], str | None]
#: Whether a number is not allowed, and what is wrong with it.
_Limit = tuple[Callable[[int], bool], str]


def check_queue_arguments(what: str, arguments: Table) -> str:
    """Check the arguments of a new queue.

    Args:
        what: how errors name the queue.
        arguments: its arguments.

    Returns:
        The type of the queue.
    """
    _run(what, arguments, {"x-queue-type": _QUEUE_TYPE})
    kind = queue_type(arguments)
    if kind == STREAM:
        raise AMQPError(540, f"{what} cannot be a stream: this broker has no streams")
    known = _KNOWN[kind]
    _run(what, arguments, {name: check for name, check in _CHECKS.items() if name in known})
    for name in arguments:
        if name in _ALL and name not in known:
            raise AMQPError(
                406, f"invalid arg '{name}' for {what} of queue type rabbit_{kind}_queue"
            )
    return kind


def check_consumer_arguments(what: str, arguments: Table) -> None:
    """Check the arguments of a consumer."""
    _run(what, arguments, {"x-priority": _integer()})


def queue_type(arguments: Table) -> str:
    """Return the type of queue that arguments ask for."""
    asked = arguments.get("x-queue-type")
    return CLASSIC if asked is None or asked.value == "undefined" else str(asked.value)


def check_same_arguments(what: str, kind: str, present: Table, asked: Table) -> None:
    """Check that a declaration has the arguments of the queue that is there."""
    for name in _KNOWN[kind]:
        check_same_argument(what, name, present.get(name), asked.get(name))


def check_same_argument(what: str, name: str, present: Field | None, asked: Field | None) -> None:
    """Check that one argument is the same in a declaration and in what is there."""
    if present is None and asked is None:
        return
    if present is not None and asked is not None:
        same_class = present.type_class == asked.type_class
        if not (same_class and present.value == asked.value):
            check_same(what, name, present.value, asked.value)
    elif name != "x-queue-type" or (present or asked) != Field("longstr", CLASSIC):
        raise _inequivalent(what, name, _typed(asked), _typed(present))


def check_same(what: str, name: str, present: object, asked: object) -> None:
    """Check that a property is the same in a declaration and in what is there."""
    if present != asked or type(present) is not type(asked):
        raise _inequivalent(what, name, f"'{_shown(asked)}'", f"'{_shown(present)}'")


def _inequivalent(what: str, name: str, asked: str, present: str) -> AMQPError:
    return AMQPError(
        406, f"inequivalent arg '{name}' for {what}: received {asked} but current is {present}"
    )


def _typed(field: Field | None) -> str:
    if field is None:
        return "none"
    return f"the value '{_shown(field.value)}' of type '{field.type}'"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _run(what: str, arguments: Table, checks: dict[str, _Check]) -> None:
    for name, check in checks.items():
        field = arguments.get(name)
        problem = check(field, arguments) if field is not None else None
        if problem is not None:
            raise AMQPError(406, f"invalid arg '{name}' for {what}: {problem}")


def _of_type(type: str) -> _Check:
    def check(field: Field, _: Table) -> str | None:
        return None if field.type == type else f"{{unacceptable_type,{field.type}}}"

    return check


def _integer(*limits: _Limit) -> _Check:
    def check(field: Field, _: Table) -> str | None:
        if not field.is_integer:
            return f'"expected integer, got {field.type}"'
        problems = (problem for is_wrong, problem in limits if is_wrong(field.value))
        return next(problems, "").format(field.value) or None

    return check


def _one_of(problem: str, *allowed: str) -> _Check:
    def check(field: Field, arguments: Table) -> str | None:
        unknown = None if field.value in allowed else problem.format(field.value)
        return _TEXT(field, arguments) or unknown

    return check


def _dead_letter_key(field: Field, arguments: Table) -> str | None:
    without = None if "x-dead-letter-exchange" in arguments else "routing_key_but_no_dlx_defined"
    return _TEXT(field, arguments) or without


_TEXT = _of_type("longstr")
_QUEUE_TYPE = _one_of("\"unsupported queue type '{}'\"", CLASSIC, QUORUM, STREAM)
_NEGATIVE: _Limit = (lambda value: value < 0, "{{value_negative,{}}}")
_ZERO: _Limit = (lambda value: value == 0, "{{value_zero,0}}")
_TOO_LONG: _Limit = (lambda value: value > _LONGEST_TIME, "{{value_too_large,{}}}")
_CHECKS: dict[str, _Check] = {
    "x-expires": _integer(_ZERO, _NEGATIVE, _TOO_LONG),
    "x-message-ttl": _integer(_NEGATIVE, _TOO_LONG),
    "x-dead-letter-exchange": _TEXT,
    "x-dead-letter-routing-key": _dead_letter_key,
    "x-dead-letter-strategy": _one_of("invalid_dlx_strategy", "at-most-once", "at-least-once"),
    "x-max-length": _integer(_NEGATIVE),
    "x-max-length-bytes": _integer(_NEGATIVE),
    "x-max-in-memory-length": _integer(_NEGATIVE),
    "x-max-in-memory-bytes": _integer(_NEGATIVE),
    "x-max-priority": _integer(_NEGATIVE, (lambda value: value > 255, "{{max_value_exceeded,{}}}")),
    "x-overflow": _one_of("invalid_overflow", "drop-head", "reject-publish", "reject-publish-dlx"),
    "x-queue-mode": _one_of("\"unsupported queue mode '{}'\"", "default", "lazy"),
    "x-queue-version": _integer(
        _NEGATIVE, (lambda value: value not in (1, 2), "\"unsupported queue version '{}'\"")
    ),
    "x-single-active-consumer": _of_type("bool"),
    "x-quorum-initial-group-size": _integer(_NEGATIVE, _ZERO),
    "x-queue-leader-locator": _one_of(
        "invalid_queue_locator_arg", "client-local", "balanced", "random", "least-leaders"
    ),
}
