"""`MQConnector`: what a service subclasses. Its parts are in `neon_mq_connector.service`.

This module ties them together: running, health and stopping.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import pika

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers import BaseConsumerThread, ConsumerThread
from neon_mq_connector.control.probe import wait_until_up
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import BrokerUnreachableError, MQConnectionError, VhostAccessError
from neon_mq_connector.handlers.registering import register_handlers
from neon_mq_connector.health.serving import ServesHealth
from neon_mq_connector.service.health import Health
from neon_mq_connector.service.liveness import LivenessWatch
from neon_mq_connector.service.registry import wait_for_end
from neon_mq_connector.service.timed import TimedService
from neon_mq_connector.threads import forking
from neon_mq_connector.threads.signals import Flag, StopSignals

if TYPE_CHECKING:
    from neon_mq_connector.aio.loops import CoroutineLoop

LOG = logging.getLogger("neon_mq_connector.connector")

#: The least time that a stop leaves for closing connections, in seconds.
_LEAST_CLOSE_TIME = 0.5

#: The old name of a type: an instance of any consumer thread.
ConsumerThreadInstance = BaseConsumerThread


#: What runs and is to be stopped when the interpreter ends: consumers may be daemons.
_running: WeakSet[MQConnector] = WeakSet()


class MQConnector(ServesHealth, TimedService):
    """Consume queues, subscribe to exchanges, send messages; a service derives from it.

    Nothing is opened before it is needed: `run` starts the consumers that were registered, the
    first `send_message` opens the connection for publishing.

    Args:
        config: ``server`` (or ``servers``), ``port``, ``users``; with or without an outer ``MQ``.
            None or empty: the first of the usual files that exists, or the ``MQ`` section of
            ovos-config. See the configuration reference.
        service_name: the service's entry under ``users``.

    Raises:
        ConfigurationError: a configuration was found and cannot be read.

    Examples:
        >>> class Greeter(MQConnector):
        ...     def greet(self, channel, method, properties, body):
        ...         request = b64_to_dict(body)
        ...         self.send_message({"text": "hello", "message_id": request["message_id"]},
        ...                           queue=request["routing_key"])
        >>> greeter = Greeter(config, "greeter")
        >>> greeter.register_consumer("greet", greeter.vhost, "greet_input", greeter.greet)
        >>> greeter.run()
    """

    def __init__(self, config: Mapping[str, Any] | None, service_name: str) -> None:
        super().__init__(config, service_name)
        self._mq_stop_waiting = Flag()
        self._mq_signals: StopSignals | None = None
        self._mq_problem: MQConnectionError | None = None  # of the last wait for the broker
        forking.register(self)
        self._apply_configured_properties()

    @property
    def started(self) -> bool:
        """Whether it was run and not stopped."""
        return self._mq_running

    def run(
        self,
        run_consumers: bool = True,
        run_sync: bool = True,
        run_observer: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Wait for the broker, start what was registered, and return.

        When the broker does not answer in time this logs an error and returns, with nothing
        started; it may be called again.

        Handlers that the class declares (`consumer`, `subscriber`) are registered after `pre_run`,
        but for those whose names are registered already.

        Args:
            run_consumers: start the consumers.
            run_sync: publish the service's presence every `sync_period` seconds.
            run_observer: look after the consumers every `observe_period` seconds (True).
            kwargs: ``mq_timeout``: how long to wait for the broker, in seconds (120);
                ``consumer_names``: start only these; ``daemonize_consumers``: let the process end
                while they run (False). All of them, and any other, are passed to `pre_run` and
                `post_run`.
        """
        timeout = float(kwargs.get("mq_timeout", 120))
        names = tuple(kwargs.setdefault("consumer_names", ()) or ())
        daemon = bool(kwargs.setdefault("daemonize_consumers", False))
        self._serve_configured_health()
        problem = self._reach_broker(timeout)
        if self._mq_stop_waiting.is_set():
            LOG.info("service %r was stopped while it waited for the broker", self.service_name)
            return
        if isinstance(problem, BrokerUnreachableError):
            LOG.error(
                "service %r is not started: after %g s: %s", self.service_name, timeout, problem
            )
            return
        if problem is not None:
            LOG.error("service %r: %s", self.service_name, problem)
        self.pre_run(**kwargs)
        register_handlers(self)
        if not self._begin_running():
            return
        if run_consumers:
            self.run_consumers(names=names, daemon=daemon)
        if run_sync:
            self._start_timer("sync", self.sync_period)
        if run_observer is None or run_observer:
            self._start_timer("observe_consumers", self.observe_period)
        self.post_run(**kwargs)

    def _reach_broker(self, timeout: float) -> MQConnectionError | None:
        """Wait until the broker answers or `stop` is called; return what is wrong, or None."""
        with self._mq_lock:
            self._mq_stop_waiting.clear()
            self._mq_closing = {}
        if self._mq_signals is not None and self._mq_signals.received:
            self._mq_stop_waiting.set()  # it came before there was a wait to be ended
        self._mq_problem = wait_until_up(
            self._all_parameters(self.vhost),
            timeout,
            self._mq_stop_waiting,
            functools.partial(LOG.info, "service %r: %s", self.service_name),
        )
        return self._mq_problem

    def _begin_running(self) -> bool:
        """Note that the service runs, unless it was stopped meanwhile; return whether it does."""
        _running.add(self)
        with self._mq_lock:
            if self._mq_stop_waiting.is_set():
                LOG.info("service %r was stopped while it started", self.service_name)
                return False
            self._mq_running = True
            return True

    def run_forever(self, **kwargs: Any) -> None:
        """Run until SIGTERM or SIGINT, stop within the setting ``stop_timeout``, and return.

        For services that have nothing else to do. To be called in the main thread. It waits for a
        broker that is not there, without end unless ``mq_timeout`` is given. A signal ends that,
        too. A second one gives up waiting for callbacks that are still running; their threads keep
        the process alive, unless it was run with ``daemonize_consumers=True``. A third one ends it.

        Args:
            kwargs: those of `run`.

        Raises:
            AuthenticationError, VhostAccessError: the broker refuses the service, or one of its
                consumers; the service is stopped. So a container ends with an error.
            BrokerUnreachableError: no broker answers within ``mq_timeout``.
        """
        kwargs = {**accepted(self.run, mq_timeout=math.inf), **kwargs}
        with StopSignals(self._mq_stop_waiting.set) as signals:
            self._mq_signals = signals
            try:
                self.run(**kwargs)
            finally:
                self._mq_signals = None
            refusal = None if signals.received else self._refusal()
            if refusal is not None:
                self.stop()
                self._end_configured_health()
                raise refusal
            if not self.started:
                self._end_configured_health()
                return
            signals.wait()
            LOG.info("service %r: %s, stopping", self.service_name, signals.received)
            stopping = threading.Thread(
                target=self.stop, name=f"mq-stop:{self.service_name}", daemon=True
            )
            stopping.start()
            signals.wait_for_second(stopping, self._stop_timeout() + 5.0)

    def _refusal(self) -> MQConnectionError | None:
        """Return why the service cannot work before something is mended outside of it, or None."""
        for thread in self._registry.running().values():
            if thread.consumer.refusal is not None:
                return thread.consumer.refusal
        problem = self._mq_problem
        # its consumers may use other virtual hosts than its own
        is_other = isinstance(problem, VhostAccessError) and self.started and self.consumers
        return None if is_other else problem

    def check_health(self) -> bool:
        """Return whether the connector runs and each started consumer consumes.

        Returns:
            False before `run`, while one of them is recovering, has failed or gets nothing, and
            after `stop`. `health` says more.
        """
        return self.health().healthy

    def health(self, *, stacks: bool = False) -> Health:
        """Return how the connector, its consumers and its connections are.

        Args:
            stacks: whether to add the stack of each consumer's oldest callback.

        Returns:
            A snapshot: whether all is well, what is not and why, and counts per consumer.
        """
        is_off = "" if self._mq_running else f"service {self.service_name!r} is not running"
        with self._mq_lock:
            connections = list(self._mq_connections.values())
        return self._registry.health(self._mq_watch, connections, is_off, stacks=stacks)

    def pre_run(self, **kwargs: Any) -> None:
        """Do what comes before the consumers start; services override it, often to register.

        Args:
            kwargs: those of `run`.
        """

    def post_run(self, **kwargs: Any) -> None:
        """Do what is to be done once the consumers run; services override it.

        Args:
            kwargs: those of `run`.
        """

    def stop(self) -> None:
        """Stop everything within the setting ``stop_timeout`` (10 s); `run` works again afterwards.

        Running callbacks finish, messages that were not started go back to their queues, what was
        published is confirmed, subscribers' queues are deleted, connections are closed. A second
        time does no harm. From a callback of this connector it returns at once, and the rest
        happens when the callback has returned.
        """
        deadline = time.monotonic() + self._stop_timeout()
        self._mq_stop_waiting.set()
        with self._mq_lock:
            self._mq_running = False
            self._mq_stops += 1
            _running.discard(self)
            self._mq_closing = {**self._mq_closing, **self._mq_connections}
            connections = list(self._mq_closing.values())
            self._mq_connections = {}
            watch, self._mq_watch = self._mq_watch, None
            loop, self._mq_loop = self._mq_loop, None
        if watch is not None:
            watch.stop()
        this = threading.current_thread()
        timers = [timer for timer in self._mq_timers.values() if timer is not this]
        self.stop_sync_thread()
        self.stop_observer_thread()
        threads = self._registry.request_stop(tuple(self.consumers))
        finish = functools.partial(
            self._finish_stop, watch, threads, timers, loop, connections, deadline
        )
        if any(thread.is_calling for thread in threads):
            threading.Thread(target=finish, name=f"mq-stop:{self.service_name}").start()
            return
        finish()

    def _finish_stop(
        self,
        watch: LivenessWatch | None,
        threads: list[BaseConsumerThread],
        timers: Sequence[threading.Timer],
        loop: CoroutineLoop | None,
        connections: list[Connections],
        deadline: float,
    ) -> None:
        """Wait for what was asked to stop, from the callbacks to the connections."""
        wait_for_end(threads, deadline)
        # callbacks may have used up the time; a broker that is there needs hardly any
        deadline = max(deadline, time.monotonic() + _LEAST_CLOSE_TIME)
        for timer in timers:
            if timer.is_alive():
                timer.join(time_left(deadline))
        if watch is not None:
            watch.join(time_left(deadline))
        if loop is not None:
            loop.stop(time_left(deadline))
        with self._mq_lock:
            if self._mq_stop_waiting.is_set():  # or else it was run again meanwhile
                connections = [*connections, *self._mq_connections.values()]
                self._mq_connections = {}
                self._mq_closing = {}
        for each in connections:
            each.close(time_left(deadline))
        self._end_configured_health()

    def after_fork_in_child(self) -> None:
        """Forget in a child process what only the parent runs; `run` may be called there too."""
        _running.discard(self)
        forking.keep(self._mq_timers, self._mq_watch, dict(self.consumers))
        forking.keep(self._mq_loop, self._mq_closing)
        self._mq_lock = threading.RLock()
        self._mq_running = False
        self._mq_health_server = None
        self._mq_closing = {}
        self._mq_timers = {}
        self._mq_watch = self._mq_loop = None
        self._registry.after_fork_in_child()


class NeonMQHandler(MQConnector):
    """A connector with a pika `BlockingConnection` to one virtual host; `shutdown` closes it.

    Args:
        config: as for `MQConnector`.
        service_name: as for `MQConnector`.
        vhost: the virtual host, as it is.

    Raises:
        pika.exceptions.AMQPConnectionError: no server answers, or it refused.
        ConfigurationError: there are no credentials for the service.
    """

    def __init__(self, config: Mapping[str, Any] | None, service_name: str, vhost: str) -> None:
        super().__init__(config, service_name)
        self.vhost = vhost
        self.connection: pika.BlockingConnection = self.create_mq_connection(vhost=vhost)

    def shutdown(self) -> None:
        """Close the connection; a second time does no harm."""
        if self.connection.is_open:
            self.connection.close()
        self.stop()


def accepted(run: Callable[..., object], **options: Any) -> dict[str, Any]:
    """Return those options that a `run` takes: that of a subclass may take no keywords."""
    parameters = inspect.signature(run).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return options
    names = {each.name for each in parameters}
    return {name: value for name, value in options.items() if name in names}


def _stop_what_runs() -> None:
    with ExitStack() as stack:  # goes on where the stop of one raises
        for connector in list(_running):
            stack.callback(connector.stop)


def _stop_after_ctrl_c() -> None:
    """Stop what runs where Ctrl-C has ended the main thread; consumers would keep the process."""
    if getattr(sys, "last_type", None) is KeyboardInterrupt:
        _stop_what_runs()


atexit.register(_stop_what_runs)
# there is no public way to act before the interpreter waits for threads
if hasattr(threading, "_register_atexit"):
    threading._register_atexit(_stop_after_ctrl_c)

__all__ = ["ConsumerThread", "ConsumerThreadInstance", "MQConnector", "NeonMQHandler"]
