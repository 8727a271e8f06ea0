"""The fixtures for services of others, as pytest shows them in a project that uses them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = "pytester"

ROOT = Path(__file__).parents[3]

_SERVICES = """
from neon_mq_connector import AsyncMQConnector, MQConnector, create_mq_callback


class Greeter(MQConnector):
    def __init__(self, config=None):
        super().__init__(config, "greeter")
        self.vhost = "/greetings"
        self.register_consumer("greet", self.vhost, "greet_input", self.greet)

    @create_mq_callback()
    def greet(self, body):
        text = f"Hello, {body['name']}!"
        self.send_message({"who": body["name"]}, queue="audit", expiration=60_000)
        self.send_message({"text": text}, exchange="news", exchange_type="fanout")
        return {"text": text}


class AsyncGreeter(AsyncMQConnector):
    def __init__(self, *, config):
        super().__init__(config, "async_greeter")
        self.register_consumer("greet", self.vhost, "greet_input", self.greet)

    @create_mq_callback()
    async def greet(self, body):
        return {"text": f"Hello, {body['name']}!"}


class Keeper(Greeter):
    def __init__(self, config=None):
        MQConnector.__init__(self, config, "keeper")
        self.register_consumer("keep", self.vhost, "keep_input", self.keep, auto_ack=False)

    def keep(self, channel, method, properties, body):
        self.send_message({"kept": True}, queue="audit")


class Unstoppable(Greeter):
    def stop(self):
        pass


class Failing(Unstoppable):
    def stop(self):
        MQConnector.stop(self)
        raise RuntimeError("it fails to stop")


class Unwell(Greeter):
    def __init__(self, config=None):
        super().__init__(config)
        self.register_consumer("bad", self.vhost, "amq.reserved", self.greet)
"""

_SUITE = """
import pika
import pytest

from neon_mq_connector.utils.client_utils import send_mq_request
from services import AsyncGreeter, Greeter


def test_a_service_answers(mq_service, mq_client):
    greeter = mq_service(Greeter)
    assert isinstance(greeter, Greeter)
    assert mq_client.request({"name": "Ada"}, "greet_input")["text"] == "Hello, Ada!"


def test_a_service_of_asyncio_answers(mq_service, mq_client):
    mq_service(AsyncGreeter)
    assert mq_client.request({"name": "Ada"}, "greet_input")["text"] == "Hello, Ada!"


@pytest.mark.parametrize("vhost", ["/", "/greetings"])
def test_an_instance_is_run_and_asked_by_a_function(mq_service, mq_config, vhost):
    mq_service(Greeter(mq_config))
    assert send_mq_request(vhost, {"name": "Ada"}, "greet_input")["text"] == "Hello, Ada!"


def test_each_test_has_a_virtual_host_of_its_own(mq_client, mq_broker):
    assert mq_broker.list_queues(mq_client.vhost) == []
    mq_client.send_message({"a": 1}, queue="left")


def test_what_was_published_is_told(mq_service, mq_client, mq_published):
    mq_service(lambda: Greeter())
    assert mq_published("audit", count=0) == []
    mq_client.request({"name": "Ada"}, "greet_input")
    mq_client.request({"name": "Grace"}, "greet_input")
    assert [each.body["who"] for each in mq_published("audit", count=2)] == ["Ada", "Grace"]
    news = mq_published(exchange="news", count=2)
    assert [each.body["text"] for each in news] == ["Hello, Ada!", "Hello, Grace!"]


def test_what_was_parked_is_told(mq_service, mq_client, mq_parked):
    mq_service(Greeter)
    assert mq_parked("greet_input", count=0) == []
    mq_client.send_message({"nom": "Ada"}, queue="greet_input")
    (parked,) = mq_parked("greet_input")
    assert parked.body["nom"] == "Ada"
    assert parked.error == "KeyError: 'name'"
    assert parked.attempts == 1
    assert mq_parked("greet_input") == [parked]


def test_the_line_breaks(mq_service, mq_client, mq_proxy):
    greeter = mq_service(Greeter, through=mq_proxy)
    assert mq_client.request({"name": "Ada"}, "greet_input")["text"] == "Hello, Ada!"
    assert mq_proxy.reset() > 0
    assert mq_client.request({"name": "Ada"}, "greet_input")["text"] == "Hello, Ada!"
    mq_proxy.blackhole()
    mq_proxy.restore()
    assert mq_client.request({"name": "Ada"}, "greet_input")["text"] == "Hello, Ada!"


def test_faults_and_a_stop_of_the_broker(mq_broker, mq_client):
    getattr(mq_broker, "block", print)("memory")
    mq_broker.stop()


def test_the_line_ends_with_the_test(mq_service, mq_proxy):
    mq_service(Greeter, through=mq_proxy)
    mq_proxy.blackhole()
    mq_proxy.refuse()


def test_plain_pika_connects_as_the_administrator(mq_client, mq_broker):
    pika.BlockingConnection(pika.URLParameters(mq_broker.url(mq_client.vhost))).close()


def test_end_with_the_test(mq_service, mq_client):
    mq_service(Greeter)
    assert mq_client.request({"name": "Ada"}, "greet_input")["text"] == "Hello, Ada!"
"""

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run tests in a project of their own, in a process of their own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(services=_SERVICES)

    def run_tests(tests: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(textwrap.dedent(tests))
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=150)

    return run_tests


@pytest.mark.parametrize(
    "broker_kind", ["embedded", pytest.param("rabbitmq", marks=pytest.mark.needs_rabbitmq)]
)
def test_a_suite_passes_with_both_brokers(run: Run, broker_kind: str) -> None:
    run(_SUITE, f"--mq-broker={broker_kind}").assert_outcomes(passed=12)


_TROUBLES = """
import pytest
import services


def test_a_message_is_not_settled(mq_service, mq_client, mq_published):
    mq_service(services.Keeper)
    mq_client.send_message({"keep": "me"}, queue="keep_input", expiration=60_000)
    assert mq_published("audit")


def test_one_that_raises_when_it_is_stopped_keeps_no_other_from_it(mq_service):
    for each in (services.Greeter, services.AsyncGreeter, services.Failing):
        mq_service(each)


def test_a_service_does_not_consume(mq_service):
    mq_service(services.Unwell)


def test_an_instance_cannot_be_led_through_a_proxy_afterwards(mq_service, mq_config, mq_proxy):
    with pytest.raises(TypeError, match="mq_proxy.port"):
        mq_service(services.Greeter(mq_config), through=mq_proxy)
    mq_service(services.Greeter({**mq_config, "port": mq_proxy.port}))
    assert mq_proxy.connections


def test_threads_and_connections_are_left(mq_service):
    mq_service(services.Unstoppable)


def test_a_test_that_has_failed_is_not_blamed_for_what_it_leaves(mq_service):
    mq_service(services.Unstoppable)
    assert False, "its own fault"
"""


def test_troubles_are_told(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        "import neon_mq_connector.testing.polling as it\n"
        "it.poll.__defaults__ = (2.0,)  # what is waited for does not come\n"
    )
    result = run(_TROUBLES)
    result.assert_outcomes(passed=4, failed=2, errors=3)
    result.stdout.fnmatch_lines_random(
        [
            "messages were delivered and not settled: 1 in queue 'keep_input'",
            "*RuntimeError: it fails to stop",
            "*does not run well:*amq.reserved*",
            "the test has left behind: *thread 'mq-*connection 'greeter*",
            "*AssertionError: its own fault*",
        ]
    )
    told = [line for line in result.outlines if line.startswith("the test has left behind")]
    assert len(told) == 1


def test_a_project_that_does_not_use_it_imports_nothing_heavy(run: Run) -> None:
    result = run(
        """
        import sys


        def test_something_else():
            assert "neon_mq_connector.testing.pytest_plugin" in sys.modules
            assert not {"pika", "pydantic", "asyncio", "ovos_config"} & set(sys.modules)
            ours = {name for name in sys.modules if name.startswith("neon_mq_connector")}
            assert len(ours) == 4, ours
        """,
        "-p",
        "no:xdist",
        "-p",
        "no:hypothesispytest",
        "-p",
        "no:timeout",
    )
    result.assert_outcomes(passed=1)
