"""Ask a service from a script. `_default_mq_config` is looked up here: callers replace it."""

from __future__ import annotations

import logging
import numbers
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.config.sources import (
    CLIENT_ENTRY,
    CONFIG_PATH_VARIABLE,
    NO_SOURCE,
    PASSED_DICT,
    SECTION,
    URL_VARIABLE,
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
    try:
        _check(vhost, request_data, target_queue, response_queue, timeout, stream_callback)
        requester = _current_requester()
        spec = requester.spec(target_queue, request_data, timeout)
        try:
            client = requester.client(vhost)
            if not expect_response:
                client.send(spec)
                return {}
            answer: dict[str, Any]
            answer = _ask(client, spec, request_data, response_queue, stream_callback)
            return answer
        except Exception as error:
            if _is_of_the_connection(error):
                requester.look_for_vhost(vhost)
            raise
    except Exception as error:
        return _failed(error, vhost, target_queue, raise_errors)


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
    from neon_mq_connector.aio.clients import current_clients

    try:
        _check(vhost, request_data, target_queue, response_queue, timeout, stream_callback)
        clients = current_clients()
        if _requester is None:  # the first time: it reads files, and imports what checks them
            what = "reading the configuration"
            await clients.calls.run(_current_requester, timeout=_DEFAULT_TIMEOUT, what=what)
        requester = _current_requester()
        spec = requester.spec(target_queue, request_data, timeout)
        requests = clients.requests(requester.client(vhost))
        try:
            if not expect_response:
                await requests.send(spec)
                return {}
            answer: dict[str, Any]
            answer = await _ask(requests, spec, request_data, response_queue, stream_callback)
            return answer
        except Exception as error:
            if _is_of_the_connection(error):
                look = partial(requester.look_for_vhost, vhost)
                what = f"looking for virtual host {vhost!r}"
                await clients.calls.run(look, timeout=_DEFAULT_TIMEOUT, what=what)
            raise
    except Exception as error:
        return _failed(error, vhost, target_queue, raise_errors)


def _failed(error: Exception, vhost: Any, target_queue: Any, raise_errors: bool) -> dict[str, Any]:
    """Log an error and return an empty dict, unless it is to be raised."""
    if isinstance(error, VhostAccessError):
        user = CLIENT_ENTRY if _requester is None else _requester.mq_credentials.username
        raise ValueError(f"{vhost} is not a valid endpoint for {user}") from error
    if raise_errors:
        raise error
    LOG.error("request to queue %.300r on %.300r failed: %s", target_queue, vhost, error)
    LOG.debug("how it failed", exc_info=error)
    return {}


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
) -> None:
    """Raise an error for an argument that cannot be used; give an empty request a `message_id`."""
    if not isinstance(vhost, str):
        raise _unusable("vhost", vhost, "a virtual host; give its name as a text, such as '/'")
    is_message = isinstance(request_data, (dict, Mapping))
    if not is_message:
        raise _unusable("request_data", request_data, "a message; give a dict")
    if not isinstance(target_queue, str) or not target_queue:
        raise _unusable("target_queue", target_queue, "a queue; give the name of the service's own")
    if not isinstance(response_queue, (str, type(None))):
        expected = "a queue; give its name as a text, or None"
        raise _unusable("response_queue", response_queue, expected)
    if timeout is not None and not (
        isinstance(timeout, (int, float, numbers.Real)) and 0 < float(timeout) <= _LONGEST_TIMEOUT
    ):
        raise _unusable("timeout", timeout, _TIMEOUT)
    if stream_callback is not None and not callable(stream_callback):
        raise _unusable("stream_callback", stream_callback, "a function; give one, or None")
    if not request_data:
        request_data["message_id"] = new_id()  # as a message, an empty dict would be refused


def _unusable(name: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{name}={value!r:.60} is not {expected}")


def _ask(
    client: Any,
    spec: RequestSpec,
    request_data: dict[str, Any],
    response_queue: str | None,
    stream_callback: Callable[[dict[str, Any]], object] | None,
) -> Any:
    """Send a request by a client; return the answer, or an awaitable of it."""
    return client.request(
        spec,
        reply_queue=response_queue,
        on_part=stream_callback,
        on_reply_queue=partial(request_data.__setitem__, "routing_key"),
    )


class _Requester(MQConnector):
    """What one configuration says of asking; made anew when it changes."""

    def __init__(self, source: Source) -> None:
        config = plain(source.section)  # a copy: callers may change theirs
        super().__init__(config, CLIENT_ENTRY)
        # errors name where the configuration was found, and not this call
        self._mq_source = replace(source, config={SECTION: config} if source.prefix else config)

    @cached_property
    def _wire_format(self) -> WireFormat:
        return WireFormat(self.settings.wire_format)

    def spec(self, queue: str, data: dict[str, Any], timeout: float | None) -> RequestSpec:
        """Return the specification of a request, encoded as the configuration says."""
        timeout = _DEFAULT_TIMEOUT if timeout is None else timeout
        return RequestSpec(queue, data, timeout=timeout, wire_format=self._wire_format)

    def client(self, vhost: str) -> RequestClient:
        """Return the request client of a virtual host."""
        return self._mq_core.hosts.client(vhost)

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
_HOME = "USERPROFILE" if os.name == "nt" else "HOME"

#: Until when it holds, in which environment, and what requests use; None where nothing was found.
_found: tuple[float, tuple[Any, ...], _Requester | None] | None = None
_requester: _Requester | None = None


def _current_requester() -> _Requester:
    global _found
    get = os.environ.get
    ovos = getattr(sys.modules.get("ovos_config.config"), "Configuration", None)
    place = (get(URL_VARIABLE), get(CONFIG_PATH_VARIABLE), get("XDG_CONFIG_HOME"), get(_HOME), ovos)
    now = time.monotonic()
    found = _found  # replaced as a whole, so any thread may do this
    if found is None or now >= found[0] or found[1] != place:
        source = find_source()
        requester = None if source is None else _requester_of(source)
        found = _found = (now + _SOURCE_LIFETIME, place, requester)
    if found[2] is not None:
        return found[2]
    is_replaced = _default_mq_config is not _OURS
    return _requester_of(Source(PASSED_DICT if is_replaced else NO_SOURCE, _default_mq_config))


def _requester_of(source: Source) -> _Requester:
    """Return the last requester if it has this configuration, from there, else a new one."""
    global _requester
    config, requester = source.section, _requester
    if (
        requester is None
        or requester._mq_source.name != source.name  # errors name it
        or requester.config != config
        or not config
    ):
        requester = _requester = _Requester(source)
    return requester


__all__ = ["MQConnector", "NeonMQHandler", "send_mq_request", "send_mq_request_async"]
