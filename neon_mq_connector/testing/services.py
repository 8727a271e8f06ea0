"""Services under test: started with a configuration, stopped after the test."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from typing import Any, TypeVar, overload

from neon_mq_connector.aio.loops import LoopThread
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.testing.polling import poll
from neon_mq_connector.testing.proxy import FaultProxy

Service = TypeVar("Service")

_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 30.0


class RunningServices:
    """Run services; the fixture `mq_service`.

    Args:
        config: what services get as their configuration.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._running = ExitStack()
        #: for services whose methods are coroutines
        self._loop = LoopThread("async-services")

    @overload
    def __call__(
        self, service: Callable[..., Service], *, through: FaultProxy | None = None
    ) -> Service: ...

    @overload
    def __call__(self, service: Service) -> Service: ...

    def __call__(self, service: Any, *, through: FaultProxy | None = None) -> Any:
        """Start a service and return it when it consumes.

        Args:
            service: a class derived from `MQConnector` or `AsyncMQConnector`, or any function that
                makes a service; it is called with the configuration, if it takes one. Or an
                instance.
            through: a proxy to connect through; not for an instance, which has its configuration.

        Raises:
            TypeError: the service takes no configuration and is to connect through a proxy.
            AssertionError: it is not well after its start.
        """
        config = self._config if through is None else {**self._config, "port": through.port}
        made = _make(service, config) if callable(service) else service
        if through is not None and (made is service or made.config.get("port") != through.port):
            raise TypeError(
                f"{service!r} takes no configuration: to lead it through a proxy, make it with "
                '{**mq_config, "port": mq_proxy.port}'
            )
        if inspect.iscoroutinefunction(made.run):
            self._loop.start()
            self._running.callback(lambda: self._wait_for(made.stop(), _STOP_TIMEOUT))
            self._wait_for(made.run(mq_timeout=_START_TIMEOUT), 2 * _START_TIMEOUT)
        else:
            self._running.callback(lambda: made.stop())
            _run(made)
        health = poll(made.health, lambda found: found.healthy)
        assert health.healthy, f"{made!r} does not run well: {'; '.join(health.reasons)}"
        return made

    def stop(self) -> None:
        """Stop all services, the last one first; if one raises, the others are stopped too."""
        try:
            self._running.close()
        finally:
            self._loop.stop(_STOP_TIMEOUT)

    def _wait_for(self, work: Coroutine[Any, Any, None], timeout: float) -> None:
        self._loop.submit(work).result(timeout)


def _make(factory: Callable[..., Any], config: Mapping[str, Any]) -> Any:
    parameters = inspect.signature(factory).parameters
    if "config" in parameters:
        return factory(config={**config})
    return factory({**config}) if parameters else factory()


def _run(service: MQConnector) -> None:
    """Run a service, with daemon threads where it lets us."""
    kinds = {each.kind for each in inspect.signature(service.run).parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        service.run(mq_timeout=_START_TIMEOUT, daemonize_consumers=True)
    else:
        service.run()
