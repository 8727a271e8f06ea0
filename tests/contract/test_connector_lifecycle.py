"""Compatibility contract: registering, running, stopping and watching over a connector's consumers.

Covers what services do around `run` and `stop`: registering in `pre_run` or before, running again,
running inside callbacks of other connectors, mixing with `Thread`, overriding the hooks, asking for
health, and starting while the broker is down.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pika.exchange_type import ExchangeType

from neon_mq_connector import MQConnector
from neon_mq_connector.testing.proxy import FaultProxy
from tests.contract.configurations import SERVICE, make_config
from tests.contract.peer import Errors, Inbox, Peer
from tests.support.nodes import free_port
from tests.support.polling import eventually

Engine = dict[str, Any]
Build = Callable[..., Any]


def healthy(connector: Any) -> None:
    eventually(connector.check_health, what="check_health()")


class TestRegistering:
    """Nothing but keeping values: no broker is needed for it."""

    @pytest.fixture
    def connector(self, dead_config: dict[str, Any]) -> Any:
        return MQConnector(dead_config, SERVICE)

    def test_it_opens_no_socket_and_starts_no_thread(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            threads = threading.enumerate()
            connector = MQConnector(make_config("127.0.0.1", port, "u", "p"), SERVICE)
            connector.register_consumer("one", "/", "queue", print)
            connector.register_subscriber("two", "/", print, exchange="exchange")
            connector.register_consumer("one", "/", "queue", print)
            assert threading.enumerate() == threads
            assert select.select([listener], [], [], 0)[0] == []

    def test_what_was_registered_shows_on_startable_threads(
        self, connector: Any, errors: Errors
    ) -> None:
        connector.register_consumer(
            *("one", "/one", "queue", print, errors),  # by their places, as services give them
            auto_ack=False,
            queue_reset=True,
            exchange="exchange",
            exchange_type=ExchangeType.topic,
            exchange_reset=True,
            queue_exclusive=True,
        )
        connector.register_subscriber("two", "/two", repr, errors, exchange="news")
        assert issubclass(connector.consumer_thread_cls, threading.Thread)
        for consumer in connector.consumers.values():
            assert isinstance(consumer, connector.consumer_thread_cls)
            assert consumer.error_func is errors
            assert not consumer.is_alive()
            assert consumer.ident is None
            assert consumer.channel is None
            assert consumer.is_consuming is False
        one, two = connector.consumers["one"], connector.consumers["two"]
        assert (one.queue, one.callback_func, two.callback_func) == ("queue", print, repr)
        assert (one.auto_ack, two.auto_ack) == (False, True)
        assert one.queue_reset is one.exchange_reset is one.queue_exclusive is True
        assert (one.exchange, one.exchange_type) == ("exchange", ExchangeType.topic)
        assert (two.exchange, two.exchange_type) == ("news", ExchangeType.fanout)
        assert two.queue != ""
        hosts = [each.connection_params.virtual_host for each in (one, two)]
        assert hosts == ["/one", "/two"]
        kept = connector.consumer_properties["one"]
        assert kept["restart_attempts"] == -1
        assert kept["properties"]["callback_func"] is print
        shown = {name: kept["properties"][name] for name in ("name", "queue", "auto_ack")}
        assert shown == {"name": "one", "queue": "queue", "auto_ack": False}

    def test_a_name_registered_again_is_kept_if_asked_to(self, connector: Any) -> None:
        connector.register_consumer("one", "/", "queue", print)
        connector.register_subscriber("two", "/", print, exchange="news")
        before = dict(connector.consumers)
        connector.register_consumer("one", "/", "other", print, skip_on_existing=True)
        connector.register_subscriber("two", "/", print, exchange="x", skip_on_existing=True)
        assert connector.consumers == before

    def test_one_that_never_ran_can_be_stopped_and_is_not_healthy(self, connector: Any) -> None:
        connector.register_consumer("one", "/", "queue", print)
        with pytest.raises(KeyError):
            connector.restart_consumer("nobody")
        assert connector.stop_consumers(("nobody",)) is None
        assert connector.check_health() is False
        connector.stop()
        connector.stop()
        assert connector.started is False


class TestRunning:
    @pytest.mark.every_broker
    def test_after_stop_nothing_of_it_is_left(self, connect: Build, run: Build, peer: Peer) -> None:
        connector = connect()
        connector.register_consumer("one", connector.vhost, "input", print)
        connector.register_subscriber("two", connector.vhost, print, exchange="news")
        run(connector, run_sync=True, run_observer=True)
        consumers = list(connector.consumers.values())
        queue = connector.consumers["two"].queue
        peer.wait_for_consumer("input")
        connector.stop()
        connector.stop()
        assert connector.started is False
        assert connector.check_health() is False
        assert list(connector.consumers) == list(connector.consumer_properties) == ["one", "two"]
        assert peer.consumers("input") == 0
        assert not peer.exists(queue)
        for consumer in consumers:
            assert not consumer.is_alive()
            assert not consumer.is_consuming
            assert not consumer.is_consumer_alive

    @pytest.mark.parametrize("names, daemon", [(("one",), False), ("one", True)])
    def test_run_can_start_some_of_the_consumers_as_daemons_or_not(
        self, connect: Build, run: Build, names: Any, daemon: bool
    ) -> None:
        connector = connect()
        for name in ("one", "two"):
            connector.register_consumer(name, connector.vhost, f"input_{name}", print)
        run(connector, consumer_names=names, daemonize_consumers=daemon)
        eventually(lambda: connector.consumers["one"].is_consuming)
        assert connector.consumers["one"].daemon is daemon
        assert not connector.consumers["two"].is_alive()
        connector.stop_consumers(names)
        assert not connector.consumers["one"].is_alive()

    def test_consumers_can_be_started_and_stopped_by_name(
        self, connect: Build, run: Build, peer: Peer
    ) -> None:
        connector = connect()
        for name in ("one", "two"):
            connector.register_consumer(name, connector.vhost, f"input_{name}", print)
        run(connector, run_consumers=False)
        connector.run_consumers(names=("one", "two"), daemon=False)
        peer.wait_for_consumer("input_one")
        peer.wait_for_consumer("input_two")
        assert connector.consumers["one"].daemon is False
        connector.stop_consumers(names=("one",))
        assert peer.consumers("input_one") == 0
        assert peer.consumers("input_two") == 1
        connector.stop_consumers()
        assert peer.consumers("input_two") == 0
        assert connector.started is True
        assert connector.check_health() is False
        connector.run_consumers()
        peer.wait_for_consumer("input_one")
        peer.wait_for_consumer("input_two")
        assert connector.consumers["one"].daemon is True
        healthy(connector)

    def test_consumers_of_several_vhosts_work_side_by_side(
        self, connect: Build, run: Build, peer: Peer, broker: Any, mq_user: Any, vhost: str
    ) -> None:
        inbox = Inbox()
        broker.create_vhost(f"{vhost}_other", users=(mq_user.name,))
        try:
            connector = connect()
            connector.register_consumer("here", vhost, "input", inbox)
            connector.register_consumer("there", f"{vhost}_other", "input", inbox)
            run(connector)
            connector.send_message({"to": "here"}, queue="input")
            connector.send_message({"to": "there"}, vhost=f"{vhost}_other", queue="input")
            inbox.wait(2)
            assert sorted(inbox.values("to")) == ["here", "there"]
            connector.stop()
        finally:
            broker.delete_vhost(f"{vhost}_other")

    def test_what_is_registered_while_it_stops_outlives_that_stop(
        self, connect: Build, run: Build, peer: Peer
    ) -> None:
        inbox, called, go_on = Inbox(), threading.Event(), threading.Event()
        connector = connect()

        def restart(*_: Any) -> None:
            connector.stop()  # ends after the callback
            connector.register_consumer("two", connector.vhost, "other", inbox)
            run(connector)
            called.set()
            go_on.wait(120.0)

        connector.register_consumer("one", connector.vhost, "input", restart)
        run(connector)
        peer.publish({"n": 1}, queue="input")
        assert called.wait(120.0)
        stopping = [each for each in threading.enumerate() if each.name.startswith("mq-stop:")]
        go_on.set()
        for each in stopping:
            each.join(120.0)
        peer.publish({"n": 2}, queue="other")
        inbox.wait()
        healthy(connector)


class TestConsumingOptions:
    @pytest.mark.every_broker
    def test_an_exchange_can_be_declared_anew(
        self, connect: Build, run: Build, peer: Peer, engine: Engine
    ) -> None:
        inbox = Inbox()
        peer.channel.exchange_declare("exchange", "topic")
        connector = connect()
        connector.register_consumer(
            "one",
            connector.vhost,
            "input",
            inbox,
            exchange="exchange",
            exchange_type="fanout",
            exchange_reset=True,
            **engine,
        )
        run(connector)
        peer.wait_for_consumer("input")
        peer.publish({"n": 1}, exchange="exchange", queue="whatever")
        inbox.wait()


class TestHooks:
    def test_all_keyword_arguments_reach_the_hooks(self, connect: Build) -> None:
        seen: dict[str, Any] = {}

        class Service(MQConnector):
            def pre_run(self, **kwargs: Any) -> None:
                seen["pre"] = (self.started, kwargs)

            def post_run(self, **kwargs: Any) -> None:
                seen["post"] = (self.started, kwargs)

        service = connect(Service)
        service.run(run_sync=False, mq_timeout=70, consumer_names=("x",), own="thing", number=3)
        for _, kwargs in seen.values():
            assert kwargs["mq_timeout"] == 70
            assert kwargs["own"] == "thing"
            assert kwargs["number"] == 3
            assert kwargs["consumer_names"] == ("x",)
        assert seen["pre"][0] is False

    def test_a_hook_may_run_twice(self, connect: Build, run: Build, peer: Peer) -> None:
        inbox = Inbox()

        class Service(MQConnector):
            runs = 0

            def pre_run(self, **kwargs: Any) -> None:
                self.runs += 1
                self.register_consumer("one", self.vhost, "input", inbox)
                self.register_subscriber("two", self.vhost, inbox, exchange="news")

        service = connect(Service)
        service.pre_run()
        for number in range(2):
            run(service)
            assert service.runs == 2 + number
            peer.wait_for_consumer("input")
            eventually(lambda: service.consumers["two"].is_consuming)
            peer.publish({"n": number}, queue="input")
            peer.publish({"n": number}, exchange="news")
            inbox.wait(2 * (number + 1))
            healthy(service)
            service.stop()
        assert len(inbox.deliveries) == 4

    def test_an_error_in_a_hook_does_not_hang_the_service(
        self, connect: Build, no_waiting: Any
    ) -> None:
        class Service(MQConnector):
            def pre_run(self, **kwargs: Any) -> None:
                raise ValueError("cannot")

        service = connect(Service)
        with contextlib.suppress(ValueError):
            service.run(run_sync=False)
        assert service.started is False
        assert service.check_health() is False

    def test_the_outer_methods_may_be_overridden_and_call_up(
        self, connect: Build, peer: Peer
    ) -> None:
        calls: list[str] = []

        def noting(name: str) -> Callable[..., Any]:
            def method(self: MQConnector, *args: Any, **kwargs: Any) -> Any:
                calls.append(name)
                return getattr(MQConnector, name)(self, *args, **kwargs)

            return method

        outer = ("run", "stop", "check_health", "sync")
        service = connect(type("Service", (MQConnector,), {name: noting(name) for name in outer}))
        service.sync_period = 0.1
        service.register_consumer("one", service.vhost, "input", print)
        service.run()
        healthy(service)
        eventually(lambda: "sync" in calls)
        service.stop()
        assert set(outer) <= set(calls)


class StoppedAt(MQConnector):
    """Is stopped, as by a signal handler, where it looks at one of its attributes first."""

    moment = ""

    def __getattribute__(self, name: str) -> Any:
        if name == super().__getattribute__("moment"):
            self.moment = ""
            self.stop()
        return super().__getattribute__(name)


class Restarting(MQConnector):
    """Notes which consumers it restarts."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.restarted: list[str] = []

    def restart_consumer(self, name: str) -> None:
        self.restarted.append(name)
        super().restart_consumer(name)


class TestPeriodicThreads:
    @pytest.mark.parametrize("how", ["stop_sync_thread", "stop_observer_thread", "stop"])
    def test_they_run_when_asked_to_and_can_be_stopped(
        self, connect: Build, run: Build, how: str
    ) -> None:
        connector = connect()
        getattr(connector, how)()  # there is none yet
        assert not connector.sync_thread.is_alive()
        assert not connector.observer_thread.is_alive()
        run(connector, run_sync=True, run_observer=True)
        sync, observer = threads = [connector.sync_thread, connector.observer_thread]
        assert all(thread.is_alive() for thread in threads)
        getattr(connector, how)()
        if how == "stop":
            eventually(lambda: not any(thread.is_alive() for thread in threads))
        else:
            ended = sync if how == "stop_sync_thread" else observer
            eventually(lambda: not ended.is_alive())
        getattr(connector, how)()

    @pytest.mark.parametrize(
        "moment", ["settings", "run_consumers", "sync_period", "observe_period"]
    )
    def test_a_stop_while_it_starts_leaves_nothing_running(
        self, connect: Build, run: Build, moment: str
    ) -> None:
        service = connect(StoppedAt)
        service.register_consumer("one", service.vhost, "input", print)
        service.moment = moment
        run(service, run_sync=True, run_observer=True)
        assert service.started is False
        parts = (service.consumers["one"], service.sync_thread, service.observer_thread)
        eventually(lambda: not any(each.is_alive() for each in parts))
        run(service)
        healthy(service)
        service.stop()
        service.moment = "run"
        service.run_forever()  # and returns
        assert service.started is False

    def test_the_observer_restarts_a_dead_consumer_through_the_services_own_method(
        self, connect: Build, run: Build, peer: Peer
    ) -> None:
        service = connect(Restarting)
        service.observe_period = 0.1
        service.register_consumer("one", service.vhost, "input", print)
        service.register_consumer("two", service.vhost, "other", print)
        run(service, run_observer=True)
        peer.wait_for_consumer("input")
        service.consumers["one"].join(120.0)
        eventually(lambda: service.restarted)
        peer.wait_for_consumer("input")
        assert set(service.restarted) == {"one"}
        healthy(service)

    def test_a_consumer_is_restarted_as_often_as_registered_for(
        self, connect: Build, run: Build, peer: Peer
    ) -> None:
        service = connect(Restarting)
        for name, attempts in (("once", 1), ("always", -1)):
            service.register_consumer(name, service.vhost, name, print, restart_attempts=attempts)
        run(service)
        for _ in range(4):
            for consumer in list(service.consumers.values()):
                consumer.join(120.0)
            service.observe_consumers()
        # the published package counted the start too
        assert service.restarted.count("once") in (1, 2)
        assert service.restarted.count("always") == 4
        assert service.check_health() is False


class TestThreadMixin:
    @pytest.fixture(params=["connector first", "thread first"])
    def service_class(self, request: pytest.FixtureRequest) -> Any:
        class Service(MQConnector, threading.Thread):
            def __init__(self, config: dict[str, Any], service_name: str) -> None:
                if request.param == "connector first":
                    MQConnector.__init__(self, config, service_name)
                    threading.Thread.__init__(self, name="the-service", daemon=True)
                else:
                    threading.Thread.__init__(self, name="the-service", daemon=True)
                    MQConnector.__init__(self, config, service_name)
                self.done = threading.Event()

            def run(self, *args: Any, **kwargs: Any) -> None:
                MQConnector.run(self, run_sync=False)
                self.done.wait(240.0)

        return Service

    def test_both_halves_work(self, service_class: Any, connect: Build, peer: Peer) -> None:
        inbox = Inbox()
        service = connect(service_class)
        service.register_consumer("one", service.vhost, "input", inbox)
        assert not service.is_alive()
        assert service.started is False
        service.start()
        peer.wait_for_consumer("input")
        peer.publish({"n": 1}, queue="input")
        inbox.wait()
        assert service.is_alive()
        assert service.daemon is True
        assert service.name == "the-service"
        assert service.service_name == SERVICE
        healthy(service)
        service.stop()
        service.done.set()
        service.join(120.0)
        assert not service.is_alive()

    def test_the_connectors_own_run_may_be_what_the_thread_runs(
        self, connect: Build, peer: Peer
    ) -> None:
        class Service(MQConnector, threading.Thread):
            def __init__(self, config: dict[str, Any], service_name: str) -> None:
                threading.Thread.__init__(self)
                MQConnector.__init__(self, config, service_name)

        service = connect(Service)
        service.register_consumer("one", service.vhost, "input", print)
        service.start()
        service.join(120.0)
        peer.wait_for_consumer("input")
        healthy(service)


class TestBrokerTrouble:
    def test_the_same_connector_runs_once_the_broker_is_up(
        self, connect: Build, broker: Any, peer: Peer, config: dict[str, Any]
    ) -> None:
        inbox = Inbox()
        port = free_port()
        connector = connect(config={**config, "port": port})
        connector.register_consumer("one", connector.vhost, "input", inbox)
        connector.run(mq_timeout=1)
        assert connector.check_health() is False
        with FaultProxy(broker.port, port=port):
            connector.run(mq_timeout=120, run_sync=False)
            assert connector.started is True
            healthy(connector)
            peer.wait_for_consumer("input")
            peer.publish({"n": 1}, queue="input")
            inbox.wait()
            connector.stop()
