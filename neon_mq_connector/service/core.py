"""One service at work: its parts, and how it begins and ends. Both connectors delegate to it."""

from __future__ import annotations

import atexit
import functools
import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from neon_mq_connector.connections import Connections
from neon_mq_connector.control.probe import wait_until_up
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import MQConnectionError, VhostAccessError
from neon_mq_connector.service.clients import Clients
from neon_mq_connector.service.configured import ConfiguredService, server_parameters
from neon_mq_connector.service.consuming import Consumers, Ending
from neon_mq_connector.service.health import Health
from neon_mq_connector.service.registry import wait_for_end
from neon_mq_connector.service.sending import Sending
from neon_mq_connector.service.timers import Timers
from neon_mq_connector.service.virtual_hosts import VirtualHosts
from neon_mq_connector.threads import forking
from neon_mq_connector.threads.signals import Flag, StopSignals

if TYPE_CHECKING:
    from neon_mq_connector.aio.loops import CoroutineLoop

LOG = logging.getLogger("neon_mq_connector.connector")

#: The least time that a stop leaves for closing connections, in seconds.
_LEAST_CLOSE_TIME = 0.5


class Stoppable(Protocol):
    """What is stopped when the interpreter ends, if it runs."""

    @property
    def started(self) -> bool: ...

    def stop(self) -> object: ...


class Endpoint(Protocol):
    """What serves the state of the service."""

    @property
    def port(self) -> int: ...

    def close(self) -> object: ...


#: What has run and may have to be stopped when the interpreter ends: consumers may be daemons.
_running: WeakSet[Stoppable] = WeakSet()


class Core:
    """The parts of a service. Any thread may use them, and signal handlers may stop them.

    Args:
        service: the service and its configuration.
        callers_loop: returns the loop that coroutines run on, if that is not to be our own.

    Attributes:
        hosts: its connections.
        sending: what it sends.
        clients: what it asks by.
        consumers: what it consumes.
        timers: what it does from time to time.
        started: whether it was run and not stopped. A run sets it before it looks at
            ``stop_waiting``, and a stop does it the other way round: so no stop is missed.
        stop_waiting: ends the wait for the broker, and tells a run that starts of a stop.
        signals: what stops the service, if it handles signals.
        endpoint: serves the state while it runs; owned by the caller of `run` and `stop`.
    """

    def __init__(
        self,
        service: ConfiguredService,
        callers_loop: Callable[[], CoroutineLoop] | None = None,
    ) -> None:
        self._service = service
        self.hosts = VirtualHosts(service)
        self.sending = Sending(service, self.hosts)
        self.clients = Clients(service)
        self.consumers = Consumers(service, self.hosts, callers_loop)
        self.timers = Timers(service)
        self.started = False
        self.stop_waiting = Flag()
        self.signals: StopSignals | None = None
        self.endpoint: Endpoint | None = None
        self._problem: MQConnectionError | None = None  # of the last wait for the broker
        forking.register(self)

    def reach_broker(self, timeout: float) -> MQConnectionError | None:
        """Wait until the broker answers or `stop` is called; return what is wrong, or None."""
        service = self._service
        self.stop_waiting.clear()
        self.hosts.begin_run()
        if self.signals is not None and self.signals.received:
            self.stop_waiting.set()  # it came before there was a wait to be ended
        self._problem = wait_until_up(
            server_parameters(service, service.vhost),
            timeout,
            self.stop_waiting,
            functools.partial(LOG.info, "service %r: %s", service.service_name),
        )
        return self._problem

    def begin(self, owner: Stoppable) -> bool:
        """Note that the service runs, unless it was stopped meanwhile.

        Args:
            owner: what is to be stopped when the interpreter ends.

        Returns:
            Whether it runs.
        """
        _running.add(owner)
        self.started = True
        if self.stop_waiting.is_set():
            self.started = False
            LOG.info("service %r was stopped while it started", self._service.service_name)
        return self.started

    def refusal(self) -> MQConnectionError | None:
        """Return why the service cannot work before something is mended outside of it, or None."""
        registry, problem = self.consumers.registry, self._problem
        for thread in registry.running().values():
            if thread.consumer.refusal is not None:
                return thread.consumer.refusal
        # its consumers may use other virtual hosts than its own
        is_other = isinstance(problem, VhostAccessError) and self.started and registry.threads
        return None if is_other else problem

    def health(self, *, stacks: bool) -> Health:
        """Return how the service, its consumers and its connections are."""
        is_off = "" if self.started else f"service {self._service.service_name!r} is not running"
        connections, consumers = self.hosts.all_connections(), self.consumers
        return consumers.registry.health(consumers.watch, connections, is_off, stacks=stacks)

    def stop(self) -> None:
        """Stop everything; see `MQConnector.stop`."""
        deadline = time.monotonic() + self.consumers.stop_timeout
        self.stop_waiting.set()
        self.started = False
        connections = self.hosts.begin_stop()
        ending = self.consumers.begin_stop()
        finish = functools.partial(self._finish_stop, ending, connections, deadline)
        if any(thread.is_calling for thread in ending.threads):
            name = f"mq-stop:{self._service.service_name}"
            threading.Thread(target=finish, name=name).start()
            return
        finish()

    def _finish_stop(self, ending: Ending, connections: list[Connections], deadline: float) -> None:
        """Wait for what was asked to stop, from the callbacks to the connections."""
        wait_for_end(ending.threads, deadline)
        # callbacks may have used up the time; a broker that is there needs hardly any
        deadline = max(deadline, time.monotonic() + _LEAST_CLOSE_TIME)
        self.timers.join(deadline)
        if ending.watch is not None:
            ending.watch.join(time_left(deadline))
        if ending.loop is not None:
            ending.loop.stop(time_left(deadline))
        for each in dict.fromkeys((*connections, *self.hosts.end_stop())):
            each.close(time_left(deadline))
        self.close_endpoint()

    def close_endpoint(self) -> None:
        """Serve the state no longer."""
        endpoint, self.endpoint = self.endpoint, None
        if endpoint is not None:
            endpoint.close()

    def after_fork_in_child(self) -> None:
        """Forget in a child process what only the parent runs; `run` may be called there too."""
        self.started = False
        self.endpoint = None
        self.hosts.after_fork_in_child()
        self.timers.after_fork_in_child()
        self.consumers.after_fork_in_child()


def _stop_what_runs() -> None:
    with ExitStack() as stack:  # goes on where the stop of one raises
        for each in list(_running):
            if each.started:
                stack.callback(each.stop)


def _stop_after_ctrl_c() -> None:
    """Stop what runs where Ctrl-C has ended the main thread; consumers would keep the process."""
    if getattr(sys, "last_type", None) is KeyboardInterrupt:
        _stop_what_runs()


atexit.register(_stop_what_runs)
# there is no public way to act before the interpreter waits for threads
if hasattr(threading, "_register_atexit"):
    threading._register_atexit(_stop_after_ctrl_c)
