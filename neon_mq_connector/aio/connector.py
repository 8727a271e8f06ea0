"""`AsyncMQConnector`: what a service or an application subclasses that is asyncio itself.

What it is made of stands in `neon_mq_connector.aio.service`, part by part; here is what ties the
parts together: running and stopping.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from neon_mq_connector.aio.service.binding import Binding, Phase
from neon_mq_connector.aio.service.consuming import GRACE, START_TIMEOUT, AsyncConsumingService
from neon_mq_connector.aio.signals import LoopSignals
from neon_mq_connector.errors import (
    AuthenticationError,
    BrokerUnreachableError,
    MQError,
    WaitTimeoutError,
)

LOG = logging.getLogger("neon_mq_connector.connector")

Self = TypeVar("Self", bound="AsyncMQConnector")

#: What callbacks get that are cancelled because of a second signal, in seconds.
_HURRY = 2.0


class AsyncMQConnector(AsyncConsumingService):
    """Consume queues, send messages and ask services from coroutines; a service derives from it.

    Its callbacks are coroutine functions and run on the loop that runs the connector; no code of
    the service runs elsewhere. What talks to the broker has threads of its own: a coroutine that
    holds up the loop costs no connection. A connector belongs to the loop that uses it first, until
    it is stopped; its methods are for the coroutines of that loop.

    Args:
        config: as for `MQConnector`.
        service_name: the service's entry under ``users``.

    Raises:
        ConfigurationError: a configuration was found and cannot be read.

    Example:
        >>> class Greeter(AsyncMQConnector):
        ...     async def greet(self, channel, method, properties, body):
        ...         request = b64_to_dict(body)
        ...         await self.send_message(
        ...             {"text": "hello", "message_id": request["message_id"]},
        ...             queue=request["routing_key"],
        ...         )
        >>> greeter = Greeter(config, "greeter")
        >>> greeter.register_consumer("greet", greeter.vhost, "greet_input", greeter.greet)
        >>> async with greeter:
        ...     answer = await greeter.request({"name": "you"}, "other_service_input")
    """

    def __init__(self, config: Mapping[str, Any] | None, service_name: str) -> None:
        super().__init__(config, service_name)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping: asyncio.Task[None] | None = None
        self._ended: asyncio.Event | None = None
        self._apply_configured_properties()

    async def run(
        self,
        run_consumers: bool = True,
        run_sync: bool = True,
        run_observer: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Wait for the broker, start what was registered, and return.

        When it fails or is cancelled, what was started is stopped.

        Args:
            run_consumers: start the consumers.
            run_sync: publish the service's presence every `sync_period` seconds.
            run_observer: look after the consumers every `observe_period` seconds (True).
            kwargs: ``mq_timeout``: how long to wait for the broker, in seconds (120);
                ``consumer_names``: start only these. Both, and any other, are passed to `pre_run`
                and `post_run`.

        Raises:
            BrokerUnreachableError: the broker does not answer in time.
            AuthenticationError: it refuses the credentials.
            RuntimeError: the connector runs already.
        """
        stopping = self._stopping_here()
        if stopping is not None:
            await asyncio.wait((stopping,))
        if self.started or self._phase is Phase.STARTING:
            raise RuntimeError(f"{self!r} runs already")
        timeout = float(kwargs.get("mq_timeout", 120))
        names = tuple(kwargs.setdefault("consumer_names", ()) or ())
        self._phase = Phase.OPEN
        binding = self._bound()
        self._phase = Phase.STARTING
        try:
            await self._reach_broker(binding, timeout)
            await _wait_if_awaitable(self.pre_run(**kwargs))
            await self._in_thread(
                partial(self._threaded.begin, names if run_consumers else None),
                START_TIMEOUT,
                "starting consumers",
            )
            if run_sync:
                self._repeat("sync", lambda: self.sync_period, self.sync)
            if run_observer is None or run_observer:
                self._repeat("observe", lambda: self.observe_period, self._observe)
            await _wait_if_awaitable(self.post_run(**kwargs))
        except BaseException:
            await self.stop()
            raise
        if self._phase is Phase.STARTING:  # nobody has stopped it meanwhile
            self._phase = Phase.OPEN

    async def _reach_broker(self, binding: Binding, timeout: float) -> None:
        problem = await binding.lifecycle.run(
            partial(self._threaded.reach_broker, timeout),
            timeout=timeout + GRACE,
            what="waiting for the broker",
        )
        if isinstance(problem, (BrokerUnreachableError, AuthenticationError)):
            raise problem
        if problem is not None:
            # a service may use other virtual hosts than its own
            LOG.error("service %r: %s", self.service_name, problem)

    def pre_run(self, **kwargs: Any) -> Awaitable[None] | None:
        """Do what comes before the consumers start; may be a coroutine function in a subclass.

        Args:
            kwargs: those of `run`.
        """

    def post_run(self, **kwargs: Any) -> Awaitable[None] | None:
        """Do what is to be done once the consumers run; may be a coroutine function.

        Args:
            kwargs: those of `run`.
        """

    async def stop(self) -> None:
        """Stop everything within the setting ``stop_timeout`` (10 s); `run` works again afterwards.

        Callbacks that run may finish; towards the end of the time they are cancelled. Messages that
        were not started go back to their queues, what was sent is confirmed, subscribers' queues
        are deleted, connections are closed; whoever still awaits an answer gets a `StoppedError`.

        A second time does no harm. When the wait is cancelled the stop goes on, and so does the
        wait, unless it is cancelled once more. In a callback of this connector, and in a task that
        one has started and may wait for, it returns at once, and the rest happens when the callback
        has returned.

        A connector whose loop was closed without a stop is stopped on whatever loop awaits this.
        """
        stopping = self._stopping_here()
        if stopping is None:
            if self._binding is None and not self.started:
                self._phase = Phase.STOPPED
                return
            binding = self._bound()
            stopping = self._stopping = binding.loop.loop.create_task(
                self._shut_down(binding), name=f"stop {self!r}"
            )
        if self._is_called_back():
            return
        try:
            await asyncio.wait((stopping,))
        except asyncio.CancelledError:
            await asyncio.wait((stopping,))
            raise
        if not stopping.cancelled():
            stopping.result()

    def _stopping_here(self) -> asyncio.Task[None] | None:
        """Give the stop that goes on; one that ended with its loop does not."""
        stopping = self._stopping
        if stopping is not None and stopping.get_loop().is_closed():
            self._stopping = stopping = None
        return stopping

    async def _shut_down(self, binding: Binding) -> None:
        deadline = time.monotonic() + self._threaded.stop_budget
        # the loop that the connector ran on may be closed: its tasks have ended with it
        tasks = [task for task in self._tasks if task.get_loop() is binding.loop.loop]
        self._tasks = []
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=1.0)
            await binding.lifecycle.run(
                self._threaded.stop,
                timeout=self._threaded.stop_budget + GRACE,
                what=f"stopping service {self.service_name!r}",
                in_any_case=True,
            )
        except WaitTimeoutError as error:
            LOG.warning("%s; it goes on", error)
        finally:
            self._phase = Phase.STOPPED
            try:
                await binding.stop(
                    f"service {self.service_name!r} was stopped",
                    max(1.0, deadline - time.monotonic()),
                )
            finally:
                self._threaded.callers_loop.stop(0.0)
                self._binding = self._stopping = None
                if self._ended is not None:
                    self._ended.set()

    def _is_called_back(self) -> bool:
        """Whether it is a callback of this connector that asks, which a stop has to wait for."""
        return any(
            consumer.consumer.dispatcher.runner.is_within()
            for consumer in list(self.consumers.values())
            if consumer.ident is not None
        )

    async def __aenter__(self: Self) -> Self:
        """Run the connector; raises as `run`."""
        await self.run()
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def run_forever(self, **kwargs: Any) -> None:
        """Run until SIGTERM or SIGINT, stop within the setting ``stop_timeout``, and return.

        It returns as well when somebody else has stopped the connector. A second signal cancels
        callbacks that are still running. To be awaited in the main thread.

        Args:
            kwargs: those of `run`.

        Raises:
            RuntimeError: the loop does not run in the main thread.
            MQError: as `run`.
        """
        with LoopSignals() as signals:
            try:
                await self._run_until(signals.first, kwargs)
                if signals.received:
                    LOG.info("service %r: %s, stopping", self.service_name, signals.received)
            finally:
                hurrying = asyncio.ensure_future(self._hurry_after(signals.second))
                try:
                    await self.stop()
                finally:
                    hurrying.cancel()
                    await asyncio.wait((hurrying,))

    async def _run_until(self, signal: asyncio.Event, kwargs: dict[str, Any]) -> None:
        """Run until a signal, that may come while it starts, or until somebody stops it."""
        if await _unless(signal, self.run(**kwargs)) and self.started:
            self._ended = asyncio.Event()
            await _unless(signal, self._ended.wait())

    async def _hurry_after(self, second_signal: asyncio.Event) -> None:
        """Give callbacks that run no more time after a second signal."""
        await second_signal.wait()
        LOG.warning("service %r: a second signal, callbacks are cancelled", self.service_name)
        calls = self._bound().lifecycle
        running = [each for each in list(self.consumers.values()) if each.is_alive()]
        await asyncio.gather(
            *(
                calls.run(partial(each.join, _HURRY), timeout=_HURRY + GRACE, what=each.name)
                for each in running
            ),
            return_exceptions=True,
        )

    async def _observe(self) -> None:
        await self._in_thread(
            self._threaded.observe_consumers,
            self._threaded.stop_budget + START_TIMEOUT,
            "looking after consumers",
        )

    def _repeat(
        self, name: str, period: Callable[[], float], call: Callable[[], Awaitable[object]]
    ) -> None:
        async def repeat() -> None:
            while True:
                await asyncio.sleep(period())
                try:
                    await call()
                except MQError as error:
                    LOG.warning("service %r: %s: %s", self.service_name, name, error)
                except Exception:
                    LOG.exception("service %r: %s failed", self.service_name, name)

        self._tasks.append(asyncio.create_task(repeat(), name=f"{name} {self!r}"))


async def _wait_if_awaitable(result: Awaitable[None] | None) -> None:
    if result is not None:
        await result


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, object]) -> bool:
    """Do something unless an event comes first, which cancels it.

    Returns:
        Whether it was done to its end.
    """
    doing, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((doing, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        doing.cancel()
        await asyncio.wait((doing, waiting))
    if doing.cancelled():
        return False
    doing.result()
    return True
