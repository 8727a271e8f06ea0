"""Compatibility contract: names, order, defaults and kinds of `MQConnector`'s members.

Services call these with positional arguments and by keyword, override them, read the attributes.
What the library adds must come after, by keyword only.
"""

from __future__ import annotations

import importlib
import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pika.exchange_type import ExchangeType

from neon_mq_connector import MQConnector, consumers
from neon_mq_connector.connector import ConsumerThread
from neon_mq_connector.consumers import SelectConsumerThread
from neon_mq_connector.utils.consumer_utils import default_error_handler
from tests.contract.configurations import SERVICE

REQUIRED = inspect.Parameter.empty

#: What methods take, and their defaults; ``self`` left out.
SIGNATURES = {
    "__init__": "config, service_name",
    "register_consumer": "name, vhost, queue, callback, on_error=None, auto_ack=True, "
    "queue_reset=False, exchange=None, exchange_type=None, exchange_reset=False, "
    "queue_exclusive=False, skip_on_existing=False, restart_attempts=-1, async_consumer=None",
    "register_subscriber": "name, vhost, callback, on_error=None, exchange=None, "
    "exchange_reset=False, auto_ack=True, skip_on_existing=False, restart_attempts=-1, "
    "async_consumer=None",
    "run": "run_consumers=True, run_sync=True, run_observer=None, **kwargs",
    "run_consumers": "names=None, daemon=True",
    "stop_consumers": "names=None",
    "restart_consumer": "name",
    "check_health": "",
    "stop": "",
    "pre_run": "**kwargs",
    "post_run": "**kwargs",
    "stop_sync_thread": "",
    "stop_observer_thread": "",
    "observe_consumers": "",
    "sync": "vhost=None, exchange=None, queue=None, request_data=None",
    "emit_mq_message": "connection, request_data, exchange='', queue='', exchange_type='direct', "
    "expiration=1000",
    "publish_message": "connection, request_data, exchange='', expiration=1000",
    "send_message": "request_data, vhost='', connection_props=None, exchange='', queue='', "
    "exchange_type='direct', expiration=1000",
    "create_mq_connection": "vhost='/', **kwargs",
    "get_connection_params": "vhost, **kwargs",
    "create_unique_id": "",
    "init_config": "config=None",
    "default_error_handler": "thread, exception",
}
#: Of methods that need no instance, and of what is read like an attribute.
KINDS = {
    "emit_mq_message publish_message": classmethod,
    "create_unique_id init_config default_error_handler": staticmethod,
    "config service_config service_id mq_credentials vhost testing_mode testing_prefix started "
    "consumer_thread_cls sync_thread observer_thread service_configurable_properties": property,
}
CONSUMER = (
    "connection_params, queue, callback_func, error_func=..., auto_ack=True, queue_reset=False, "
    "queue_exclusive=False, exchange=None, exchange_reset=False, exchange_type='direct', *args, "
    "**kwargs"
)
FUNCTIONS = {
    "client_utils.send_mq_request": "vhost, request_data, target_queue, response_queue=None, "
    "timeout=30, expect_response=True, stream_callback=None",
    "client_utils.NeonMQHandler": "config, service_name, vhost",
    "connection_utils.get_timeout": "backoff_factor, number_of_retries",
    "connection_utils.retry": "callback_on_exceeded=None, callback_on_attempt_failure=None, "
    "num_retries=3, backoff_factor=5, use_self=False, callback_on_attempt_failure_args=None, "
    "callback_on_exceeded_args=None",
    "rabbit_utils.create_mq_callback": "callback=None, *, include_callback_props=('body',), "
    "request_model=None",
    "connection_utils.wait_for_mq_startup": "addr, port, timeout=60, connection_params=None",
    "connection_utils.check_rmq_is_available": "connection_params",
    "network_utils.check_port_is_open": "addr, port",
    "network_utils.dict_to_b64": "data, charset='utf-8'",
    "network_utils.b64_to_dict": "data, charset='utf-8'",
    "thread_utils.RepeatingTimer": "interval, function, args=None, kwargs=None",
}


@pytest.fixture
def connector(dead_config: dict[str, Any]) -> Any:
    return MQConnector(dead_config, SERVICE)


def plain(value: Any) -> Any:
    """See an exchange type given as an enum member as its name."""
    return value.value if isinstance(value, ExchangeType) else value


def check_signature(function: Callable[..., Any], expected: str, skip: int = 0) -> None:
    wanted = inspect.signature(eval(f"lambda {expected}: None")).parameters.values()
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = []
    for each in wanted:
        if each.kind not in named:  # by whatever name
            assert each.kind in [p.kind for p in parameters]
            continue
        parameter = next(p for p in parameters if p.name == each.name)
        assert parameter.kind is each.kind, each.name
        if each.default is ...:
            assert parameter.default is not REQUIRED
        else:
            assert plain(parameter.default) == plain(each.default), each.name
        known.append(parameter)
    assert known == [p for p in parameters if p in known], "their order"
    for parameter in parameters:
        if parameter not in known and parameter.kind in named:
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter.name
            assert parameter.default is not REQUIRED, parameter.name


@pytest.mark.parametrize("name", list(SIGNATURES))
def test_a_method_takes_the_arguments_it_always_took(name: str) -> None:
    static = isinstance(inspect.getattr_static(MQConnector, name), (staticmethod, classmethod))
    check_signature(getattr(MQConnector, name), SIGNATURES[name], skip=0 if static else 1)


@pytest.mark.parametrize("names, kind", KINDS.items(), ids=repr)
def test_members_are_of_the_kind_they_always_were(names: str, kind: type) -> None:
    for name in names.split():
        assert isinstance(inspect.getattr_static(MQConnector, name), kind), name


@pytest.mark.parametrize(
    "name, value",
    [
        ("service_name", SERVICE),
        ("consumers", {}),
        ("consumer_properties", {}),
        ("property_key", "properties"),
        ("sync_period", 10),
        ("observe_period", 20),
        ("vhost_prefix", ""),
        ("default_testing_prefix", "test"),
        ("testing_envs", ("CONTRACT_SERVICE_TESTING", "MQ_TESTING")),
        ("testing_prefix_envs", ("CONTRACT_SERVICE_TESTING_PREFIX", "MQ_TESTING_PREFIX")),
        ("started", False),
        ("service_configurable_properties", {}),
    ],
    ids=str,
)
def test_a_new_connector_has(connector: Any, name: str, value: Any) -> None:
    assert getattr(connector, name) == value


@pytest.mark.parametrize("enabled", [True, False])
def test_the_consumer_class_is_the_one_that_is_enabled(
    connector: Any, enabled: bool, monkeypatch: Any
) -> None:
    class Service(type(connector)):  # type: ignore[misc]
        async_consumers_enabled = enabled

    expected = SelectConsumerThread if enabled else ConsumerThread
    connector.async_consumers_enabled = enabled
    for each in (connector, Service(connector.config, connector.service_name)):
        assert each.consumer_thread_cls is expected
        each.register_consumer("c", "/", "q", print)
        assert type(each.consumers["c"]) is expected
        each.register_consumer("c", "/", "q", print, async_consumer=not enabled)
        assert type(each.consumers["c"]) is not expected


@pytest.mark.parametrize("name", ["BlockingConsumerThread", "SelectConsumerThread"])
def test_a_consumer_thread_takes_the_arguments_it_always_took(name: str) -> None:
    check_signature(getattr(consumers, name).__init__, CONSUMER, skip=1)


@pytest.mark.parametrize("path", FUNCTIONS)
def test_a_function_takes_the_arguments_it_always_took(path: str) -> None:
    module, name = path.split(".")
    function = getattr(importlib.import_module(f"neon_mq_connector.utils.{module}"), name)
    check_signature(function, FUNCTIONS[path])


def test_ids_are_strings_and_differ(dead_config: dict[str, Any]) -> None:
    made = {MQConnector.create_unique_id() for _ in range(100)}
    one, other = (MQConnector(dead_config, SERVICE) for _ in range(2))
    assert one.service_id == one.service_id
    made |= {one.service_id, other.service_id}
    assert len(made) == 102
    assert all(made)


def test_the_default_error_handlers_only_report() -> None:
    error = ValueError("kaput")
    assert MQConnector.default_error_handler(threading.Thread(), error) is None
    inspect.signature(default_error_handler).bind(threading.Thread(), error)


def test_no_attribute_of_a_connector_bears_a_name_that_threads_use(connector: Any) -> None:
    thread = threading.Thread()
    of_threads = {name for name in dir(thread) if not name.startswith("__")}
    assert set(vars(connector)) & of_threads == set()
    assert set(dir(type(connector))) & of_threads <= {"run"}


def test_the_initialiser_calls_no_other_initialiser(dead_config: dict[str, Any]) -> None:
    calls: list[str] = []

    class Sibling:
        def __init__(self) -> None:
            calls.append("sibling")

    class Service(MQConnector, Sibling):
        def __init__(self) -> None:
            MQConnector.__init__(self, dead_config, SERVICE)

    Service()
    assert calls == []
