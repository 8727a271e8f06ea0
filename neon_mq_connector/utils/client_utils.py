"""Ask a service from a script. `_default_mq_config` is looked up here: callers replace it."""

from __future__ import annotations

import logging
import numbers
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from neon_mq_connector.client import RequestSpec
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.config.sources import (
    CLIENT_ENTRY,
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

LOG = logging.getLogger("neon_mq_connector.client")

#: What is used where no configuration is found; callers may put their own here.
_default_mq_config: dict[str, Any] = {"server": "localhost", "port": 5672, "users": {}}
_OURS = _default_mq_config

_DEFAULT_TIMEOUT = 30.0
#: Seconds; a broker takes no message that expires later (2**32 ms).
_LONGEST_TIMEOUT = 4_294_967
_VHOST = "a virtual host; give its name as a text, such as '/'"
_RESPONSE_QUEUE = "a queue; give its name as a text, or None"
_TIMEOUT = (
    f"a time to wait; give seconds, more than 0 and at most {_LONGEST_TIMEOUT:,}, or None for "
    f"{_DEFAULT_TIMEOUT:g}"
)


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
    ``mq_handler``, or else ``default``. All requests of a process share one connection; any thread
    may call this.

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
    with _failures_logged(vhost, target_queue, raise_errors):
        call = _checked_call(
            vhost, request_data, target_queue, response_queue, timeout, stream_callback
        )
        requester = _current_requester()
        try:
            client = requester._mq_core.hosts.client(vhost)
            answer = call(client, requester.wire_format, expect_response)
        except Exception as error:
            if _is_of_the_connection(error):
                requester.look_for_vhost(vhost)
            raise
        return answer if expect_response else {}
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

    with _failures_logged(vhost, target_queue, raise_errors):
        call = _checked_call(
            vhost, request_data, target_queue, response_queue, timeout, stream_callback
        )
        binding = current_binding()
        if _requester is None:  # the first time: it reads files, and imports what checks them
            what = "reading the configuration"
            await binding.calls.run(_current_requester, timeout=_DEFAULT_TIMEOUT, what=what)
        requester = _current_requester()
        requests = binding.requests(requester._mq_core.hosts.client(vhost))
        try:
            answer = await call(requests, requester.wire_format, expect_response)
        except Exception as error:
            if _is_of_the_connection(error):
                look = partial(requester.look_for_vhost, vhost)
                what = f"looking for virtual host {vhost!r}"
                await binding.calls.run(look, timeout=_DEFAULT_TIMEOUT, what=what)
            raise
        return answer if expect_response else {}
    return {}


@contextmanager
def _failures_logged(vhost: Any, target_queue: Any, raise_errors: bool) -> Iterator[None]:
    """Log the errors of a block, unless they are to be raised; raise that of a refused vhost."""
    try:
        yield
    except VhostAccessError as error:
        user = CLIENT_ENTRY if _requester is None else _requester.mq_credentials.username
        raise ValueError(f"{vhost} is not a valid endpoint for {user}") from error
    except Exception as error:
        if raise_errors:
            raise
        LOG.error("request to queue %.300r on %.300r failed: %s", target_queue, vhost, error)
        LOG.debug("how it failed", exc_info=error)


def _is_of_the_connection(error: Exception) -> bool:
    """Whether a request failed because its connection ended, or was not there in time."""
    if isinstance(error, RequestTimeoutError):
        return isinstance(error.__cause__, WaitTimeoutError)
    return isinstance(error, (ConnectionError, PublishTimeoutError)) and not isinstance(
        error, VhostAccessError
    )


def _checked_call(
    vhost: Any,
    request_data: Any,
    target_queue: Any,
    response_queue: Any,
    timeout: Any,
    stream_callback: Any,
) -> Callable[[Any, WireFormat, bool], Any]:
    """Check the arguments of a request, and return the function that sends it by a client.

    An empty request gets a ``message_id``.
    """

    def check(is_usable: object, name: str, value: Any, what: str) -> None:
        if not is_usable:
            raise ValueError(f"{name}={value!r:.60} is not {what}")

    timeout = _DEFAULT_TIMEOUT if timeout is None else timeout
    is_queue = isinstance(target_queue, str) and target_queue
    is_reply_queue = response_queue is None or isinstance(response_queue, str)
    is_timeout = isinstance(timeout, numbers.Real) and 0 < float(timeout) <= _LONGEST_TIMEOUT
    is_callback = stream_callback is None or callable(stream_callback)
    check(isinstance(vhost, str), "vhost", vhost, _VHOST)
    check(isinstance(request_data, Mapping), "request_data", request_data, "a message; give a dict")
    check(is_queue, "target_queue", target_queue, "a queue; give the name of the service's own")
    check(is_reply_queue, "response_queue", response_queue, _RESPONSE_QUEUE)
    check(is_timeout, "timeout", timeout, _TIMEOUT)
    check(is_callback, "stream_callback", stream_callback, "a function; give one, or None")
    if not request_data:
        request_data["message_id"] = new_id()  # as a message, an empty dict would be refused

    def call(client: Any, wire_format: WireFormat, expect_response: bool) -> Any:
        spec = RequestSpec(target_queue, request_data, timeout=timeout, wire_format=wire_format)
        if not expect_response:
            return client.send(spec)
        return client.request(
            spec,
            reply_queue=response_queue,
            on_part=stream_callback,
            on_reply_queue=lambda name: request_data.__setitem__("routing_key", name),
        )

    return call


class _Requester(MQConnector):
    """What one configuration says of asking; made anew when it changes."""

    def __init__(self, source: Source) -> None:
        config = plain(source.section)  # a copy: callers may change theirs
        super().__init__(config, CLIENT_ENTRY)
        # errors name where the configuration was found, and not this call
        self._mq_source = replace(source, config={SECTION: config} if source.prefix else config)

    @property
    def wire_format(self) -> WireFormat:
        """How requests are encoded."""
        return WireFormat(self.settings.wire_format)

    def look_for_vhost(self, vhost: str) -> None:
        """Find out whether a connection ended because its virtual host was deleted.

        Raises:
            VhostAccessError: the virtual host does not exist or the user may not use it.
        """
        refusal = wait_until_up(server_parameters(self, vhost), 0.0)
        if isinstance(refusal, VhostAccessError):
            raise refusal


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
_requester: _Requester | None = None


def _find_source() -> Source | None:
    global _found
    ovos = getattr(sys.modules.get("ovos_config.config"), "Configuration", None)
    place = (*[os.environ.get(name) for name in _VARIABLES], ovos)
    now = time.monotonic()
    found = _found  # replaced as a whole, so any thread may do this
    if found is None or now >= found[0] or found[1] != place:
        found = _found = (now + _SOURCE_LIFETIME, place, find_source())
    return found[2]


def _current_requester() -> _Requester:
    global _requester
    source = _find_source()
    if source is None:
        replaced = _default_mq_config is not _OURS
        source = Source(PASSED_DICT if replaced else NO_SOURCE, _default_mq_config)
    config = source.section
    requester = _requester
    if requester is None or requester.config != config or not config:
        requester = _requester = _Requester(source)
    return requester


__all__ = ["MQConnector", "NeonMQHandler", "send_mq_request", "send_mq_request_async"]
