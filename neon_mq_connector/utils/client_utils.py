"""Ask a service from a script. `_default_mq_config` is looked up here: callers replace it."""

from __future__ import annotations

import logging
import numbers
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.config.sources import (
    NO_SOURCE,
    PASSED_DICT,
    SECTION,
    Source,
    find_source,
    plain,
)
from neon_mq_connector.connector import MQConnector, NeonMQHandler
from neon_mq_connector.control.probe import wait_until_up
from neon_mq_connector.envelope import new_id
from neon_mq_connector.errors import (
    PublishTimeoutError,
    RequestTimeoutError,
    VhostAccessError,
    WaitTimeoutError,
)
from neon_mq_connector.service.configured import server_parameters
from neon_mq_connector.service.sending import WIRE_FORMATS

LOG = logging.getLogger("neon_mq_connector.client")

#: What is used where no configuration is found; callers may put their own here.
_default_mq_config: dict[str, Any] = {"server": "localhost", "port": 5672, "users": {}}
_OURS = _default_mq_config

_CLIENT = "mq_handler"
_DEFAULT_TIMEOUT = 30.0
#: Seconds; a broker takes no message that expires later (2**32 ms).
_LONGEST_TIMEOUT = 4_294_967


def send_mq_request(
    vhost: str,
    request_data: dict[str, Any],
    target_queue: str,
    response_queue: str | None = None,
    timeout: float | None = 30,
    expect_response: bool = True,
    stream_callback: Callable[[dict[str, Any]], object] | None = None,
    *,
    raise_errors: bool = False,
) -> dict[str, Any]:
    """Send a request to a service's queue and wait for its answer.

    The broker is that of the configuration, or of ``NEON_MQ_URL``; the user is its entry
    ``mq_handler``, or else ``default``. All requests of a
    process share one connection; any thread may call this.

    Args:
        vhost: the virtual host.
        request_data: the request; its ``routing_key`` is set to where the answer is to go.
        target_queue: the queue of the service.
        response_queue: the name of a queue to be made for the answer; by default none is needed.
        timeout: how long to wait for the answer, in seconds: more than 0, at most 4,294,967 (30, of
            which None is another way to say it). The request expires with it.
        expect_response: False to return once the broker has the message.
        stream_callback: for an answer in parts: called with each of them, the last included.
        raise_errors: raise what goes wrong, as `MQConnector.request` does, a service's failure
            (`RemoteError`) and a time-out too. By default it is logged.

    Returns:
        The answer, of one in parts the last; an empty dict when none is expected, none came in
        time, the service has failed, or anything else has, which is logged. Of an argument that
        cannot be used the log says which it is and what would do.

    Raises:
        ValueError: the virtual host does not exist or the user may not use it.
    """
    asking = _Asking(vhost, target_queue, raise_errors)
    with asking:
        timeout = _check(
            vhost, request_data, target_queue, response_queue, timeout, stream_callback
        )
        client = asking.client()
        try:
            spec = asking.spec(request_data, timeout)
            if expect_response:
                options = asking.options(request_data, response_queue, stream_callback)
                return client.request(spec, **options)  # type: ignore[no-any-return]
            client.send(spec)
        except Exception as error:
            if _is_of_the_connection(error):
                asking.look_for_vhost()
            raise
    return {}


async def send_mq_request_async(
    vhost: str,
    request_data: dict[str, Any],
    target_queue: str,
    response_queue: str | None = None,
    timeout: float | None = 30,
    expect_response: bool = True,
    stream_callback: Callable[[dict[str, Any]], object] | None = None,
    *,
    raise_errors: bool = False,
) -> dict[str, Any]:
    """Send a request to a service's queue and await its answer, without holding up the loop.

    The same as `send_mq_request`, with its arguments, its value and its errors; both use the same
    connection. ``stream_callback`` is awaited if it is a coroutine function. When the wait is
    cancelled the answer is dropped.
    """
    from neon_mq_connector.aio.binding import current_binding

    asking, binding = _Asking(vhost, target_queue, raise_errors), current_binding()
    with asking:
        timeout = _check(
            vhost, request_data, target_queue, response_queue, timeout, stream_callback
        )
        if _asker is None:  # the first time: it reads files, and imports what checks them
            what = "reading the configuration"
            await binding.calls.run(_known_asker, timeout=timeout, what=what)
        requests = binding.requests(asking.client())
        try:
            spec = asking.spec(request_data, timeout)
            if expect_response:
                options = asking.options(request_data, response_queue, stream_callback)
                return await requests.request(spec, **options)  # type: ignore[no-any-return]
            await requests.send(spec)
        except Exception as error:
            if _is_of_the_connection(error):
                what = f"looking for virtual host {vhost!r}"
                await binding.calls.run(asking.look_for_vhost, timeout=_DEFAULT_TIMEOUT, what=what)
            raise
    return {}


class _Asking:
    """One call, in a ``with`` block: errors are logged, but for a virtual host that is refused."""

    def __init__(self, vhost: Any, target_queue: Any, raise_errors: bool) -> None:
        self._raise_errors = raise_errors
        self._asker: _Asker | None = None
        self._vhost = vhost
        self._target_queue = target_queue

    def client(self) -> RequestClient:
        """Return the process's client for the virtual host."""
        self._asker = asker = _known_asker()
        return asker._mq_core.hosts.client(self._vhost)

    def spec(self, request_data: dict[str, Any], timeout: float) -> RequestSpec:
        """Return what is asked."""
        assert self._asker is not None
        wire_format = WIRE_FORMATS[self._asker.settings.wire_format]
        return RequestSpec(
            self._target_queue, request_data, timeout=timeout, wire_format=wire_format
        )

    def options(
        self, request_data: dict[str, Any], response_queue: str | None, stream_callback: Any
    ) -> dict[str, Any]:
        """Return the arguments of a request for which an answer is waited."""
        return {
            "reply_queue": response_queue,
            "on_part": stream_callback,
            "on_reply_queue": lambda name: request_data.__setitem__("routing_key", name),
        }

    def look_for_vhost(self) -> None:
        """Find out whether a connection ended because its virtual host was deleted.

        Raises:
            VhostAccessError: the virtual host does not exist or the user may not use it.
        """
        if self._asker is not None:
            refusal = wait_until_up(server_parameters(self._asker, self._vhost), 0.0)
            if isinstance(refusal, VhostAccessError):
                raise refusal

    def __enter__(self) -> None:
        """Look at the errors of a block."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, VhostAccessError):
            user = _CLIENT if self._asker is None else self._asker.mq_credentials.username
            raise ValueError(f"{self._vhost} is not a valid endpoint for {user}") from error
        if self._raise_errors or not isinstance(error, Exception):
            return False
        LOG.error(
            "request to queue %.300r on %.300r failed: %s", self._target_queue, self._vhost, error
        )
        LOG.debug("how it failed", exc_info=error)
        return True


def _is_of_the_connection(error: Exception) -> bool:
    """Whether a request failed because its connection ended, or was not there in time."""
    if isinstance(error, RequestTimeoutError):
        return isinstance(error.__cause__, WaitTimeoutError)
    return isinstance(error, (ConnectionError, PublishTimeoutError)) and not isinstance(
        error, VhostAccessError
    )


def _check(
    vhost: Any,
    request_data: Any,
    target_queue: Any,
    response_queue: Any,
    timeout: Any,
    stream_callback: Any,
) -> float:
    """Refuse arguments that cannot be used, and return the timeout in seconds.

    An empty request gets a ``message_id``.
    """
    if timeout is None:
        timeout = _DEFAULT_TIMEOUT
    if not isinstance(vhost, str):
        raise _unusable("vhost", vhost, "a virtual host; give its name as a text, such as '/'")
    is_message = type(request_data) is dict or isinstance(request_data, Mapping)
    if not is_message:
        kind = type(request_data).__name__
        raise TypeError(f"request_data is no message but of type {kind}; give a dict")
    if not isinstance(target_queue, str) or not target_queue:
        raise _unusable("target_queue", target_queue, "a queue; give the name of the service's own")
    if response_queue is not None and not isinstance(response_queue, str):
        what = "a queue; give its name as a text, or None"
        raise _unusable("response_queue", response_queue, what)
    is_number = type(timeout) in (int, float) or isinstance(timeout, numbers.Real)
    if not is_number or not 0 < float(timeout) <= _LONGEST_TIMEOUT:
        limits = f"more than 0 and at most {_LONGEST_TIMEOUT:,}, or None for {_DEFAULT_TIMEOUT:g}"
        raise _unusable("timeout", timeout, f"a time to wait; give seconds, {limits}")
    if stream_callback is not None and not callable(stream_callback):
        raise _unusable("stream_callback", stream_callback, "a function; give one, or None")
    if not request_data:
        request_data["message_id"] = new_id()  # as a message, an empty dict would be refused
    return timeout  # type: ignore[no-any-return]


def _unusable(name: str, value: Any, what: str) -> ValueError:
    return ValueError(f"{name}={value!r:.60} is not {what}")


class _Asker(MQConnector):
    """What one configuration says of asking; made anew when it changes.

    Attributes:
        made_of: a copy of the configuration, for comparison.
    """

    def __init__(self, source: Source) -> None:
        self.made_of = plain(source.section)
        super().__init__(self.made_of, _CLIENT)
        # errors name where the configuration was found, and not this call
        found = {SECTION: self.made_of} if source.prefix else self.made_of
        self._mq_source = Source(source.name, found, source.vhost)


#: Seconds for which a configuration is used without being looked for again: a process that sends
#: thousands of requests a second need not read a file for each.
_SOURCE_LIFETIME = 0.02
_VARIABLES = (
    "NEON_MQ_URL",
    "NEON_MQ_CONFIG_PATH",
    "XDG_CONFIG_HOME",
    "USERPROFILE" if os.name == "nt" else "HOME",
)

_found: tuple[float, tuple[Any, ...], Source | None] | None = None
_asker: _Asker | None = None


def _find_source() -> Source | None:
    global _found
    ovos = getattr(sys.modules.get("ovos_config.config"), "Configuration", None)
    place = (*[os.environ.get(name) for name in _VARIABLES], ovos)
    now = time.monotonic()
    found = _found  # replaced as a whole, so any thread may do this
    if found is None or now >= found[0] or found[1] != place:
        found = _found = (now + _SOURCE_LIFETIME, place, find_source())
    return found[2]


def _known_asker() -> _Asker:
    global _asker
    source = _find_source()
    if source is None:
        replaced = _default_mq_config is not _OURS
        source = Source(PASSED_DICT if replaced else NO_SOURCE, _default_mq_config)
    config = source.section
    asker = _asker
    if asker is None or asker.made_of != config or not config:
        asker = _asker = _Asker(source)
    return asker


__all__ = ["MQConnector", "NeonMQHandler", "send_mq_request", "send_mq_request_async"]
