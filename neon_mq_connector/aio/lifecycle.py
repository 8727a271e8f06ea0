"""Running and stopping a connector on the loop that uses it."""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from neon_mq_connector.aio.blocking import wait_for
from neon_mq_connector.aio.clients import LoopClients
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.aio.outbox import AsyncSender
from neon_mq_connector.aio.requests import AsyncRequests
from neon_mq_connector.errors import (
    AuthenticationError,
    BrokerUnreachableError,
    MQError,
    StoppedError,
    WaitTimeoutError,
)
from neon_mq_connector.link import outage_of
from neon_mq_connector.service.configured import ConfiguredService, server_parameters
from neon_mq_connector.service.core import Core
from neon_mq_connector.threads.signals import Flag

T = TypeVar("T")

LOG = logging.getLogger("neon_mq_connector.connector")

#: What a wait for a thread may take longer than a stop of the service, in seconds: consumers that
#: start are left to themselves before.
_GRACE = 20.0
#: What callbacks get that are cancelled because of a second signal, in seconds.
_HURRY = 2.0


class Phase(enum.Enum):
    """Whether a connector can be used, is being started, or was stopped."""

    OPEN = "open"
    STARTING = "starting"
    #: It can be run again, and do nothing else.
    STOPPED = "stopped"


class Lifecycle:
    """Run and stop a connector from coroutines of the loop that uses it.

    The connector belongs to that loop from the first use to a stop; the loop owns all that is here.
    Consumers are registered before any loop runs: so the `CoroutineLoop` is made at the beginning,
    and is bound to the loop later.
    """

    def __init__(self, service: ConfiguredService) -> None:
        self._service = service
        self.core = Core(service, self._current_loop)
        self._loop = CoroutineLoop()
        self._phase = Phase.OPEN
        self._clients: LoopClients | None = None
        self._repeated: list[asyncio.Task[None]] = []
        self._stopping: asyncio.Task[None] | None = None
        self._ended: asyncio.Event | None = None

    def _current_loop(self) -> CoroutineLoop:
        """Return the loop of coroutines; when the connector was stopped, that of the next run."""
        if self._loop.has_ended:
            self._loop = CoroutineLoop()
        return self._loop

    def clients(self) -> LoopClients:
        """Return the clients of the running loop.

        Raises:
            StoppedError: the connector was stopped.
            RuntimeError: it belongs to another loop, or none is running.
        """
        clients, running = self._clients, asyncio.get_running_loop()
        if clients is not None:
            if clients.loop.loop is running:
                return clients
            if not clients.loop.has_ended:
                raise RuntimeError(
                    f"{self._service!r} belongs to another asyncio loop until it is stopped"
                )
        service = self._service.service_name
        if self._phase is Phase.STOPPED:
            raise StoppedError(f"service {service!r} was stopped, or could not be started")
        loop = self._current_loop()
        loop.bind(running)
        clients = self._clients = LoopClients(service, loop)
        return clients

    def sender(self, vhost: str) -> AsyncSender:
        """Return the sender to a virtual host; by default to the service's own."""
        vhost = vhost or self._service.vhost
        return self.clients().sender(self.core.hosts.connections(vhost))

    def requests(self, vhost: str) -> AsyncRequests:
        """Return the requests in a virtual host; by default in the service's own."""
        return self.clients().requests(self.core.hosts.client(vhost or self._service.vhost))

    async def call(self, what: str, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """Make a call that waits for consumers, on a thread; its error says what it was."""
        timeout = self.core.consumers.stop_timeout + _GRACE
        call = partial(function, *args, **options)
        return await self.clients().lifecycle.run(call, timeout=timeout, what=what)

    # -- running -------------------------------------------------------------------------------

    @asynccontextmanager
    async def starting(self, timeout: float) -> AsyncIterator[Flag]:
        """Wait for the broker, for so many seconds, and return the flag of the run.

        If the block fails or is cancelled, the run is stopped, but none that has begun after it.
        """
        stopping = self._stopping_here()
        if stopping is not None:
            if self._is_called_back():
                raise RuntimeError(
                    f"{self._service!r} cannot be run in this callback: it was stopped, and that "
                    "waits for the callback to return"
                )
            await asyncio.wait((stopping,))
        if self.core.started or self._phase is Phase.STARTING:
            raise RuntimeError(f"{self._service!r} runs already")
        self._phase = Phase.OPEN
        calls = self.clients().lifecycle
        self._phase = Phase.STARTING
        stop = self.core.begin_run()
        try:
            reach, what = partial(self.core.reach_broker, timeout, stop), "waiting for the broker"
            problem = await calls.run(reach, timeout=timeout + _GRACE, what=what)
            if isinstance(problem, (BrokerUnreachableError, AuthenticationError)):
                raise problem
            if problem is not None:  # a service may use other virtual hosts than its own
                LOG.error("service %r: %s", self._service.service_name, problem)
            yield stop
        except BaseException:
            if stop is self.core.stop_asked:
                await self.stop()
            raise
        # or else it was stopped meanwhile, and perhaps run again
        if self._phase is Phase.STARTING and stop is self.core.stop_asked:
            self._phase = Phase.OPEN

    async def start(self, names: str | Iterable[str] | None, stop: Flag) -> None:
        """Begin to run, and start consumers: all if the names are empty, none if they are None.

        Raises:
            StoppedError: the run that has this flag was stopped, and the connector was run again.
        """
        core = self.core
        if stop is not core.stop_asked:
            raise StoppedError(f"service {self._service.service_name!r} was stopped and run again")

        def start() -> None:
            if core.note_started(core, stop) and names is not None:
                core.consumers.run(names, daemon=True)
                if stop.is_set():
                    core.stop()  # once more, for what has started after the first

        await self.call("starting consumers", start)

    def repeat(
        self, name: str, period: Callable[[], float], call: Callable[[], Awaitable[object]]
    ) -> None:
        """Call a coroutine function from time to time, until a stop; what it raises is logged."""

        if self._stopping is not None or not self.core.started:
            return  # it was stopped while it started

        async def repeat() -> None:
            while True:
                await asyncio.sleep(period())
                try:
                    outage = outage_of(server_parameters(self._service, self._service.vhost))
                    with outage.seen_by((name, id(self))):
                        await call()
                except MQError as error:
                    LOG.warning("%r: %s: %s", self._service, name, error)
                except Exception:
                    LOG.exception("%r: %s failed", self._service, name)

        self._repeated.append(asyncio.create_task(repeat(), name=f"{name} {self._service!r}"))

    async def wait_for_end(self) -> None:
        """Wait until it is stopped.

        Raises:
            AuthenticationError, VhostAccessError: the broker refuses the service or a consumer.
        """
        refusal = self.core.refusal()
        if refusal is not None:
            raise refusal
        if self.core.started:
            self._ended = asyncio.Event()
            await self._ended.wait()

    # -- stopping ------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Stop it; see `AsyncMQConnector.stop`."""
        stopping = self._stopping_here()
        if stopping is None:
            if self._clients is None and not self.core.started:
                self._phase = Phase.STOPPED
                return
            clients = self.clients()
            stopping = self._stopping = asyncio.create_task(
                self._shut_down(clients), name=f"stop {self._service!r}"
            )
        if self._is_called_back():
            return
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await asyncio.wait((stopping,))
            raise

    def _stopping_here(self) -> asyncio.Task[None] | None:
        """Return the stop that goes on; one that ended with its loop does not."""
        stopping = self._stopping
        if stopping is not None and stopping.get_loop().is_closed():
            self._stopping = stopping = None
        return stopping

    async def _shut_down(self, clients: LoopClients) -> None:
        core, what = self.core, f"service {self._service.service_name!r}"
        deadline = time.monotonic() + core.consumers.stop_timeout
        for task in self._repeated:
            if task.get_loop() is clients.loop.loop:  # or else it has ended with its loop
                task.cancel()
        self._repeated = []
        try:
            stopped = clients.lifecycle.submit(core.stop)
            await wait_for(stopped, core.consumers.stop_timeout + _GRACE, f"stopping {what}")
        except WaitTimeoutError as error:
            LOG.warning("%s; it goes on", error)
        finally:
            self._phase = Phase.STOPPED
            left = max(1.0, deadline - time.monotonic())
            try:
                await clients.stop(f"{what} was stopped", left)
            finally:
                clients.loop.stop(0.0)
                self._clients = self._stopping = None
                if self._ended is not None:
                    self._ended.set()

    def _is_called_back(self) -> bool:
        """Whether it is a callback of this connector that asks, which a stop has to wait for."""
        threads: list[Any] = list(self.core.consumers.threads.values())
        started = [each for each in threads if each.ident is not None]
        return any(each.consumer.dispatcher.runner.is_within() for each in started)

    async def hurry_after(self, signalled: asyncio.Semaphore) -> None:
        """Cancel the callbacks that run after a second signal."""
        await signalled.acquire()
        LOG.warning("%r: a second signal, callbacks are cancelled", self._service)
        left = [each for each in self.core.consumers.threads.values() if each.is_alive()]
        ends = [self.call(each.name, each.join, _HURRY) for each in left]
        await asyncio.gather(*ends, return_exceptions=True)
