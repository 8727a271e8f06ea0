"""`MQConnector`: what a service subclasses. It delegates to its `Core`.

What it has to send, ask, register and show is in `neon_mq_connector.api`.
"""

from __future__ import annotations

import inspect
import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pika

from neon_mq_connector.api.requests import RequestMethods
from neon_mq_connector.api.sending import SendMethods
from neon_mq_connector.consumers import BaseConsumerThread, ConsumerThread
from neon_mq_connector.errors import BrokerUnreachableError
from neon_mq_connector.handlers.registering import register_handlers
from neon_mq_connector.threads.on_demand import RepeatingTimer
from neon_mq_connector.threads.signals import Flag, StopSignals

LOG = logging.getLogger("neon_mq_connector.connector")

#: The old name of a type: an instance of any consumer thread.
ConsumerThreadInstance = BaseConsumerThread


class MQConnector(SendMethods, RequestMethods):
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
                ``consumer_names``: start only these, or the one of this name;
                ``daemonize_consumers``: let the process end while they run (False). All of them,
                and any other, are passed to `pre_run` and `post_run`.
        """
        core = self._mq_core
        stop = core.begin_run()
        timeout = float(kwargs.get("mq_timeout", 120))
        names = kwargs.setdefault("consumer_names", ())
        daemon = bool(kwargs.setdefault("daemonize_consumers", False))
        self._mq_serve_configured()
        if stop.is_set():
            core.close_endpoint()
        problem = core.reach_broker(timeout, stop)
        if not stop.is_set():
            if isinstance(problem, BrokerUnreachableError):
                LOG.error(
                    "service %r is not started: after %g s: %s", self.service_name, timeout, problem
                )
                return
            if problem is not None:
                LOG.error("service %r: %s", self.service_name, problem)
            self.pre_run(**kwargs)
            register_handlers(self)
        if not core.note_started(self, stop):
            return
        if run_consumers:
            self.run_consumers(names=names, daemon=daemon)
        if run_sync:
            core.timers.start("sync", self.sync_period)
        if run_observer is None or run_observer:
            core.timers.start("observe_consumers", self.observe_period)
        if stop.is_set():
            MQConnector.stop(self)  # once more, for what has started after the first
        self.post_run(**kwargs)

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
        core, stop = self._mq_core, Flag()
        with StopSignals(stop.set) as signals:
            with core.expect_run(stop):
                self.run(**{**accepted(self.run, mq_timeout=math.inf), **kwargs})
            refusal = None if stop.is_set() else core.refusal()
            if refusal is not None:
                self.stop()
                raise refusal
            if not self.started:
                core.close_endpoint()
                return
            signals.wait()
            LOG.info("service %r: %s, stopping", self.service_name, signals.received)
            stopping = threading.Thread(
                target=self.stop, name=f"mq-stop:{self.service_name}", daemon=True
            )
            stopping.start()
            signals.wait_for_second(stopping, core.consumers.stop_timeout + 5.0)

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
        published is confirmed, subscribers' queues are deleted, connections are closed. A `run`
        that is starting ends, too; one that is called later does not. A second time does no harm.
        From a callback of this connector it returns at once, and the rest happens when the callback
        has returned.
        """
        self.stop_sync_thread()
        self.stop_observer_thread()
        self._mq_core.stop()

    # -- consumers -----------------------------------------------------------------------------

    def run_consumers(self, names: Iterable[str] | None = None, daemon: bool = True) -> None:
        """Start consumers and wait, for 10 s at most, until each consumes or is known not to.

        Args:
            names: which, or one name; None or empty for all. Those that run are left alone, unknown
                ones are logged.
            daemon: whether the process may end while they run.
        """
        self._mq_core.consumers.run(names, daemon=daemon)

    def stop_consumers(self, names: Iterable[str] | None = None) -> None:
        """Stop consumers and wait for them.

        Args:
            names: which, or one name; None or empty for all, which leaves the service unhealthy: it
                does nothing any more.
        """
        self._mq_core.consumers.stop(names)

    def restart_consumer(self, name: str) -> None:
        """Stop a consumer and start it anew.

        Args:
            name: the name it was registered under.

        Raises:
            KeyError: no consumer of that name is registered.
        """
        self._mq_core.consumers.restart(name)

    def observe_consumers(self) -> None:
        """Start anew the consumers that have ended without being stopped."""
        self._mq_core.consumers.observe(self.restart_consumer)

    # -- timers --------------------------------------------------------------------------------

    @property
    def observer_thread(self) -> RepeatingTimer:
        """The timer that looks after the consumers."""
        return self._mq_core.timers.timer("observe_consumers", self.observe_period)

    @property
    def sync_thread(self) -> RepeatingTimer:
        """The timer that publishes the service's presence."""
        return self._mq_core.timers.timer("sync", self.sync_period)

    def stop_sync_thread(self) -> None:
        """Stop publishing the service's presence."""
        self._mq_core.timers.stop("sync")

    def stop_observer_thread(self) -> None:
        """Stop looking after the consumers."""
        self._mq_core.timers.stop("observe_consumers")


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


__all__ = ["ConsumerThread", "ConsumerThreadInstance", "MQConnector", "NeonMQHandler"]
