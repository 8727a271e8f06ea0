"""One service at work: its parts, and how it begins and ends. Both connectors delegate to it."""

from __future__ import annotations

import atexit
import functools
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from neon_mq_connector.control.probe import wait_until_up
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import MQConnectionError, VhostAccessError
from neon_mq_connector.link import outage_of
from neon_mq_connector.service.configured import ConfiguredService, server_parameters
from neon_mq_connector.service.consuming import Consumers, wait_for_end
from neon_mq_connector.service.health import Health, connector_health
from neon_mq_connector.service.liveness import LivenessWatch
from neon_mq_connector.service.sending import Sending
from neon_mq_connector.service.virtual_hosts import VirtualHosts
from neon_mq_connector.threads import forking
from neon_mq_connector.threads.on_demand import RepeatingTimer
from neon_mq_connector.threads.quiet import quiet_pika
from neon_mq_connector.threads.signals import Flag

if TYPE_CHECKING:
    from neon_mq_connector.aio.loops import CoroutineLoop

LOG = logging.getLogger("neon_mq_connector.connector")

#: The least time that a stop leaves for closing connections, in seconds.
_LEAST_CLOSE_TIME = 0.5


class Timers:
    """Call methods of a service, each at an interval of its own; `_lock` owns the timers."""

    def __init__(self, service: ConfiguredService) -> None:
        self._service = service
        self._lock = threading.RLock()
        self._timers: dict[str, RepeatingTimer] = {}

    def timer(self, method: str, period: float) -> RepeatingTimer:
        """Return the timer of a method; a new one if there is none, or if it was stopped."""
        with self._lock:
            timer = self._timers.get(method)
            if timer is None or timer.finished.is_set():
                timer = RepeatingTimer(period, functools.partial(self._call, method))
                timer.name = f"mq-{method}:{self._service.service_name}"
                timer.daemon = True
                self._timers[method] = timer
            return timer

    def start(self, method: str, period: float) -> None:
        """Start the timer of a method, unless it runs."""
        with self._lock:  # two callers must not start one thread
            timer = self.timer(method, period)
            if timer.ident is None:
                timer.start()

    def stop(self, method: str) -> None:
        """End the timer of a method, without waiting."""
        timer = self._timers.get(method)
        if timer is not None:
            timer.cancel()

    def join(self, deadline: float, watch: LivenessWatch | None) -> None:
        """Wait for those that were ended, and a watch, until a moment of the monotonic clock."""
        this = threading.current_thread()
        for timer in filter(None, (*self._timers.values(), watch)):
            if timer is not this and timer.finished.is_set() and timer.is_alive():
                timer.join(time_left(deadline))

    def _call(self, method: str) -> None:
        outage = outage_of(server_parameters(self._service, self._service.vhost))
        with outage.seen_by((method, id(self._service))), quiet_pika():
            getattr(self._service, method)()

    def after_fork_in_child(self) -> None:
        """Drop the timers of the parent."""
        forking.keep(self._timers)
        self._lock = threading.RLock()
        self._timers = {}


#: What has run and may have to be stopped when the interpreter ends: consumers may be daemons.
_running: WeakSet[Any] = WeakSet()


class Core:
    """The parts of a service. Any thread may use them, and signal handlers may stop them.

    Args:
        service: the service and its configuration.
        callers_loop: returns the loop that coroutines run on, if that is not to be our own.

    Attributes:
        hosts: its connections, and what it asks by.
        sending: what it sends.
        consumers: what it consumes.
        timers: what it does from time to time.
        started: whether it was run and not stopped. A run sets it before it looks at its flag, and
            a stop does it the other way round: so no stop is missed.
        stop_asked: the flag of the last run, which a stop sets: it ends the wait for the broker,
            and the run if that still starts.
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
        self.consumers = Consumers(service, self.hosts, callers_loop)
        self.timers = Timers(service)
        self.started = False
        self.stop_asked = Flag()
        self.endpoint: Any = None
        self._expected: Flag | None = None
        self._problem: MQConnectionError | None = None  # of the last wait for the broker
        forking.register(self)

    @contextmanager
    def expect_run(self, stop: Flag) -> Iterator[None]:
        """Give the run that is called in a ``with`` block its flag, which may be set already."""
        self._expected = self.stop_asked = stop
        try:
            yield
        finally:
            self._expected = None

    def begin_run(self) -> Flag:
        """Begin a run, and return its flag; a stop before this was for the run before."""
        stop = self.stop_asked = self._expected or Flag()
        if self.hosts.begin_run():
            # what was registered meanwhile would lose its connections when that stop ends
            self.consumers.request_stop(tuple(self.consumers.threads))
        return stop

    def reach_broker(self, timeout: float, stop: Flag) -> MQConnectionError | None:
        """Wait until the broker answers or the run is stopped; return what is wrong, or None."""
        service = self._service
        self._problem = wait_until_up(
            server_parameters(service, service.vhost),
            timeout,
            stop,
            functools.partial(LOG.info, "service %r: %s", service.service_name),
        )
        return self._problem

    def note_started(self, owner: Any, stop: Flag) -> bool:
        """Note that the service runs, unless its run was stopped; return whether it does.

        Args:
            owner: what is stopped when the interpreter ends, if it is ``started``.
            stop: the flag of the run.
        """
        if not stop.is_set():
            _running.add(owner)
            self.started = True
            if not stop.is_set():
                return True
            self.started = False
        LOG.info("service %r was stopped while it started", self._service.service_name)
        return False

    def refusal(self) -> MQConnectionError | None:
        """Return why the service cannot work before something is mended outside of it, or None."""
        problem = self._problem
        for thread in self.consumers.running().values():
            if thread.consumer.refusal is not None:
                return thread.consumer.refusal
        # its consumers may use other virtual hosts than its own
        is_other = isinstance(problem, VhostAccessError) and self.started and self.consumers.threads
        return None if is_other else problem

    def health(self, *, stacks: bool) -> Health:
        """Return how the service, its consumers and its connections are."""
        is_off = "" if self.started else f"service {self._service.service_name!r} is not running"
        connections = self.hosts.all_connections()
        return connector_health(self.consumers, connections, is_off, stacks=stacks)

    def stop(self) -> None:
        """Stop everything; see `MQConnector.stop`."""
        deadline = time.monotonic() + self.consumers.stop_timeout
        self.stop_asked.set()
        self.started = False
        end_connections = self.hosts.begin_stop()
        threads, watch, loop = self.consumers.begin_stop()

        def finish() -> None:
            """Wait for what was asked to stop, from the callbacks to the connections."""
            wait_for_end(threads, deadline)
            # callbacks may have used up the time; a broker that is there needs hardly any
            end = max(deadline, time.monotonic() + _LEAST_CLOSE_TIME)
            self.timers.join(end, watch)
            if loop is not None:
                loop.stop(time_left(end))
            for each in end_connections():
                each.close(time_left(end))
            self.close_endpoint()

        if any(thread.is_calling for thread in threads):
            name = f"mq-stop:{self._service.service_name}"
            threading.Thread(target=finish, name=name).start()
        else:
            finish()

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
    """Stop what runs where Ctrl-C has ended the main thread, or comes while it waits for others."""
    if getattr(sys, "last_type", None) is KeyboardInterrupt:
        _stop_what_runs()
    elif _running and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # what it raises while the interpreter waits for threads would be printed as an error
        signal.signal(signal.SIGINT, _on_ctrl_c)


def _on_ctrl_c(*_: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends the process at once
    _stop_what_runs()


atexit.register(_stop_what_runs)
# there is no public way to act before the interpreter waits for threads
if hasattr(threading, "_register_atexit"):
    threading._register_atexit(_stop_after_ctrl_c)
