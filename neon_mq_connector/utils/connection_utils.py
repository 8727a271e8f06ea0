"""Wait for a broker, try again. `get_timeout` is looked up here: test suites replace it."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import pika
import pika.exceptions as pika_errors

from neon_mq_connector.control.probe import is_port_open

LOG = logging.getLogger("neon_mq_connector.utils")

F = TypeVar("F", bound=Callable[..., Any])


def get_timeout(backoff_factor: float, number_of_retries: int) -> float:
    """Return how long to wait after so many failed attempts, in seconds.

    It is the backoff factor after the first one, and doubles with each further one.
    """
    return float(backoff_factor * 2 ** (number_of_retries - 1))


def retry(
    callback_on_exceeded: str | Callable[..., Any] | None = None,
    callback_on_attempt_failure: str | Callable[..., Any] | None = None,
    num_retries: int = 3,
    backoff_factor: float = 5,
    use_self: bool = False,
    callback_on_attempt_failure_args: Sequence[Any] | None = None,
    callback_on_exceeded_args: Sequence[Any] | None = None,
) -> Callable[[F], F]:
    """Try a function again when it raises, with growing waits in between.

    Args:
        callback_on_exceeded: called when the attempts are used up; its value is returned. With
            ``use_self`` the name of a method.
        callback_on_attempt_failure: called after each failed attempt; likewise.
        num_retries: how many attempts there are in all.
        backoff_factor: the wait after the first failed attempt, in seconds; see `get_timeout`.
        use_self: the function is a method, and the callbacks may be names of methods.
        callback_on_attempt_failure_args: its arguments; ``"e"`` stands for the exception,
            ``"self"`` for the object.
        callback_on_exceeded_args: its arguments.

    Returns:
        The decorator. The decorated function raises `RuntimeError`, which names it, when attempts
        are used up and there is no callback.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            owner = args[0] if use_self and args else None
            last: Exception | None = None
            for attempt in range(1, num_retries + 1):
                try:
                    return function(*args, **kwargs)
                except Exception as error:
                    last = error
                    LOG.warning("%r failed, attempt %d: %r", function, attempt, error)
                    if callback_on_attempt_failure is not None:
                        stand_ins = {"e": error, "self": owner}
                        values = [
                            stand_ins.get(value, value) if isinstance(value, str) else value
                            for value in callback_on_attempt_failure_args or ()
                        ]
                        _resolve(callback_on_attempt_failure, owner)(*values)
                    if attempt < num_retries:
                        time.sleep(
                            get_timeout(backoff_factor=backoff_factor, number_of_retries=attempt)
                        )
            if callback_on_exceeded is not None:
                return _resolve(callback_on_exceeded, owner)(*(callback_on_exceeded_args or ()))
            raise RuntimeError(f"Ran out of retries for {function}") from last

        return wrapper  # type: ignore[return-value]  # the signature is the function's

    return decorate


def _resolve(callback: str | Callable[..., Any], owner: Any) -> Any:
    return getattr(owner, callback) if isinstance(callback, str) else callback


@contextlib.contextmanager
def SuppressPikaLogging() -> Iterator[None]:
    """Silence pika's errors inside a ``with`` block, where failures are expected."""
    logger = logging.getLogger("pika")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def check_rmq_is_available(
    connection_params: pika.ConnectionParameters | None,
) -> bool:
    """Open and close a connection.

    Args:
        connection_params: what to connect to; pika's defaults when None.

    Returns:
        True. A broker that refuses the virtual host ``/`` is up too.

    Raises:
        pika.exceptions.AMQPConnectionError: no broker answers, it refuses the password, or it
            refuses a virtual host other than ``/``.
    """
    parameters = connection_params or pika.ConnectionParameters()
    with SuppressPikaLogging():
        try:
            pika.BlockingConnection(parameters).close()
        except pika_errors.ProbableAccessDeniedError:
            if parameters.virtual_host != "/":
                raise
    return True


def wait_for_mq_startup(
    addr: str,
    port: int,
    timeout: float = 60,
    connection_params: pika.ConnectionParameters | None = None,
) -> bool:
    """Wait until a broker listens.

    Args:
        addr: host name or address.
        port: the port.
        timeout: how long at most, in seconds.
        connection_params: with them a connection is opened too, as by `check_rmq_is_available`.

    Returns:
        Whether it listens; False after the time-out.

    Raises:
        pika.exceptions.AMQPConnectionError: as for `check_rmq_is_available`.
    """
    deadline = time.monotonic() + timeout
    while not is_port_open(addr, port):
        left = deadline - time.monotonic()
        if left <= 0:
            LOG.warning("nothing listens at %s:%s after %g s", addr, port, timeout)
            return False
        time.sleep(min(0.25, left))
    return check_rmq_is_available(connection_params) if connection_params else True


__all__ = [
    "SuppressPikaLogging",
    "check_rmq_is_available",
    "get_timeout",
    "retry",
    "wait_for_mq_startup",
]
