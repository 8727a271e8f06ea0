"""Compatibility contract: what clients use.

Covers `send_mq_request` with services of either age on the other side, `NeonMQHandler`,
`create_mq_callback` called by hand and in consumers, and the helpers that look for a broker.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest
from pydantic import BaseModel

from neon_mq_connector import MQConnector
from neon_mq_connector.testing.proxy import FaultProxy
from neon_mq_connector.utils import client_utils
from neon_mq_connector.utils.client_utils import NeonMQHandler
from neon_mq_connector.utils.connection_utils import (
    SuppressPikaLogging,
    check_rmq_is_available,
    wait_for_mq_startup,
)
from neon_mq_connector.utils.network_utils import check_port_is_open
from neon_mq_connector.utils.rabbit_utils import create_mq_callback
from tests.contract.configurations import CLIENT, SERVICE, make_config
from tests.contract.peer import Errors, Inbox, Peer, decode, encode, send_answer
from tests.support.nodes import free_port
from tests.support.polling import eventually
from tests.support.programs import python

Build = Callable[..., Any]


@pytest.fixture
def send_mq_request(client_config: dict[str, Any], request: pytest.FixtureRequest) -> Any:
    """The function; where a test is marked so, the one for coroutines too, on a loop each call."""
    if getattr(request, "param", "threads") == "threads":
        return client_utils.send_mq_request
    return lambda *args, **kwargs: asyncio.run(client_utils.send_mq_request_async(*args, **kwargs))


IN_BOTH_WAYS = pytest.mark.parametrize("send_mq_request", ["threads", "asyncio"], indirect=True)


def with_context(request: dict[str, Any], **answer: Any) -> dict[str, Any]:
    return {**answer, "context": {"mq": {"message_id": request["message_id"]}}}


class TestRequests:
    @pytest.mark.every_broker
    @IN_BOTH_WAYS
    def test_an_old_service_answers(
        self, send_mq_request: Any, vhost: str, old_service: Build
    ) -> None:
        service = old_service("input")
        asked: dict[str, Any] = {"question": (1, b"x", None)}
        answer = send_mq_request(vhost, asked, "input", timeout=120)
        assert answer["echo"]["question"] == (1, b"x", None)
        (request,) = service.requests
        assert request["message_id"]
        assert asked["routing_key"] == request["routing_key"]  # the caller's dict gets it
        assert answer["context"]["mq"]["message_id"] == request["message_id"]

    @IN_BOTH_WAYS
    def test_the_reply_queue_can_be_chosen(
        self, send_mq_request: Any, vhost: str, old_service: Build
    ) -> None:
        service = old_service("input")
        assert send_mq_request(vhost, {"n": 1}, "input", "chosen", 120)["echo"]["n"] == 1
        assert service.requests[0]["routing_key"] == "chosen"

    @pytest.mark.parametrize(
        "given",
        [{"message_id": "mine"}, {"context": {"mq": {"message_id": "mine"}, "user": "ann"}}],
        ids=["at the top", "in the context"],
    )
    def test_an_id_that_is_given_is_used(
        self, send_mq_request: Any, vhost: str, old_service: Build, given: dict[str, Any]
    ) -> None:
        service = old_service("input")
        assert send_mq_request(vhost, {"n": 1, **given}, "input", timeout=120)
        assert service.requests[0]["message_id"] == "mine"
        users = [each.get("context", {}).get("user") for each in (service.requests[0], given)]
        assert users in ([None, None], ["ann", "ann"])

    @pytest.mark.parametrize(
        "noise",
        [
            {"message_id": "foreign"},
            {"no": "id at all"},
            {"context": None},
            {"context": {"mq": None}},
            # the context counts before the id at the top, which is the request's
            {"context": {"mq": {"message_id": "foreign"}}, "message_id": "its own"},
            b"garbage",
        ],
        ids=str,
    )
    def test_what_is_no_answer_to_the_request_is_passed_over(
        self, send_mq_request: Any, vhost: str, old_service: Build, noise: Any
    ) -> None:
        def answer(channel: Any, request: dict[str, Any]) -> None:
            channel.queue_declare(queue=request["routing_key"])
            own = {"message_id": request["message_id"]} if "its own" in str(noise) else {}
            raw = noise if isinstance(noise, bytes) else encode({**noise, **own})
            channel.basic_publish("", request["routing_key"], raw)
            send_answer(channel, request, with_context(request, right=True, message_id="foreign"))

        old_service("input", answer)
        assert send_mq_request(vhost, {"n": 1}, "input", timeout=120)["right"] is True


class TestWithoutAnAnswer:
    @IN_BOTH_WAYS
    def test_nothing_is_waited_for(self, send_mq_request: Any, vhost: str, peer: Peer) -> None:
        queue = peer.queue()
        request: dict[str, Any] = {"n": 1}
        assert send_mq_request(vhost, request, queue, timeout=600, expect_response=False) == {}
        body = peer.get(queue).body
        assert "routing_key" not in body
        assert "routing_key" not in request
        assert body["n"] == 1
        assert body["message_id"]


class TestFailures:
    @IN_BOTH_WAYS
    def test_no_answer_in_time_is_an_empty_dict_and_a_line_in_the_log(
        self, send_mq_request: Any, vhost: str, peer: Peer, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue = peer.queue()
        began = time.monotonic()
        with caplog.at_level(logging.INFO, logger="neon_mq_connector"):
            assert send_mq_request(vhost, {"n": 1}, queue, timeout=1) == {}
        assert time.monotonic() - began >= 0.9
        # a busy machine may not have sent it by then
        assert "no answer within 1 s" in caplog.text or "not sent" in caplog.text

    @IN_BOTH_WAYS
    def test_an_empty_dict_is_a_request(
        self, send_mq_request: Any, vhost: str, old_service: Build
    ) -> None:
        service = old_service("input")
        request: dict[str, Any] = {}
        answer = send_mq_request(vhost, request, "input", timeout=120)
        (asked,) = service.requests
        assert set(asked) == {"message_id", "routing_key"}
        assert answer["echo"] == asked
        assert request["routing_key"] == asked["routing_key"]

    @IN_BOTH_WAYS
    def test_a_vhost_that_is_unknown_or_refused_is_a_value_error(
        self, send_mq_request: Any, client_config: dict[str, Any], broker: Any, vhost: str
    ) -> None:
        user, refused = client_config["users"][CLIENT]["user"], f"{vhost}_other"
        broker.create_vhost(refused)
        try:
            for where in ("/nowhere", refused):
                for expects in (True, False, True, False, False, True):
                    with pytest.raises(ValueError, match="not a valid endpoint") as raised:
                        send_mq_request(
                            where, {"n": 1}, "input", timeout=120, expect_response=expects
                        )
                    assert str(raised.value) == f"{where} is not a valid endpoint for {user}"
        finally:
            broker.delete_vhost(refused)

    @IN_BOTH_WAYS
    def test_a_vhost_that_was_deleted_is_a_value_error_each_time(
        self, send_mq_request: Any, client_config: dict[str, Any], broker: Any, vhost: str
    ) -> None:
        other = f"{vhost}_other"
        broker.create_vhost(other, users=[client_config["users"][CLIENT]["user"]])
        try:
            send_mq_request(other, {"n": 1}, "input", expect_response=False)
            assert [each["name"] for each in broker.list_queues(other)] == ["input"]
            assert send_mq_request(other, {"n": 2}, "input", timeout=0.5) == {}
        finally:
            broker.delete_vhost(other)
        for expects in (True, True, False, False, True):
            with pytest.raises(ValueError, match="not a valid endpoint"):
                send_mq_request(other, {"n": 1}, "input", timeout=120, expect_response=expects)

    @pytest.mark.parametrize("is_configured", [True, False])
    def test_a_broker_that_is_down_and_a_client_without_a_user_give_an_empty_dict(
        self, monkeypatch: pytest.MonkeyPatch, dead_config: dict[str, Any], is_configured: bool
    ) -> None:
        if not is_configured:
            del dead_config["users"][CLIENT]
        monkeypatch.setattr(client_utils, "_default_mq_config", dead_config)
        assert client_utils.send_mq_request("/", {"n": 1}, "input", timeout=1) == {}

    @IN_BOTH_WAYS
    def test_a_wrong_password_is_an_empty_dict(
        self, send_mq_request: Any, client_config: dict[str, Any], vhost: str
    ) -> None:
        client_config["users"][CLIENT]["password"] = "wrong"
        assert send_mq_request(vhost, {"n": 1}, "input", timeout=2) == {}

    @pytest.mark.parametrize("request_data", [None, [1], "text", 5], ids=str)
    def test_a_request_that_is_no_dict_is_an_empty_dict(
        self, send_mq_request: Any, vhost: str, request_data: Any
    ) -> None:
        assert send_mq_request(vhost, request_data, "input", timeout=1) == {}


class TestStreaming:
    @pytest.mark.parametrize(
        "final",
        [
            lambda value: {"is_final": value},
            lambda value: {"_is_final": value},
            lambda value: {"in_context": {"is_final": value}},
            lambda value: {"in_context": {"_is_final": value}},
        ],
        ids=["is_final", "_is_final", "is_final in the context", "_is_final in the context"],
    )
    @IN_BOTH_WAYS
    def test_parts_are_passed_on_and_the_last_one_is_returned(
        self, send_mq_request: Any, vhost: str, old_service: Build, final: Any
    ) -> None:
        def answer(channel: Any, request: dict[str, Any]) -> None:
            for part in range(4):
                body = with_context(request, part=part, **final(part == 3))
                body["context"]["mq"].update(body.pop("in_context", {}))
                if part == 1:  # a context may be anything
                    body.update(context="nonsense", message_id=request["message_id"])
                send_answer(channel, request, body)

        old_service("input", answer)
        parts: list[Any] = []
        last = send_mq_request(vhost, {"n": 1}, "input", timeout=120, stream_callback=parts.append)
        assert last["part"] == 3
        numbers = [part["part"] for part in parts]
        assert numbers[:3] == [0, 1, 2]
        assert numbers[3:] in ([], [3])

    def test_a_callback_that_fails_does_not_lose_the_answer(
        self, send_mq_request: Any, vhost: str, old_service: Build
    ) -> None:
        def answer(channel: Any, request: dict[str, Any]) -> None:
            for part in range(2):
                send_answer(channel, request, with_context(request, part=part, is_final=part == 1))

        def fail(_part: dict[str, Any]) -> None:
            raise ValueError("kaput")

        old_service("input", answer)
        last = send_mq_request(vhost, {"n": 1}, "input", timeout=120, stream_callback=fail)
        assert last in ({}, {**last, "part": 1})


class TestClientConfiguration:
    @pytest.mark.parametrize("how", ["replaced", "wrapped", "changed in place"])
    def test_the_module_global_is_looked_up_when_called(
        self,
        monkeypatch: pytest.MonkeyPatch,
        config: dict[str, Any],
        vhost: str,
        peer: Peer,
        how: str,
    ) -> None:
        queue = peer.queue()
        if how == "changed in place":
            for key, value in config.items():
                monkeypatch.setitem(client_utils._default_mq_config, key, value)
        else:
            new = {"MQ": config} if how == "wrapped" else config
            monkeypatch.setattr(client_utils, "_default_mq_config", new)
        client_utils.send_mq_request(vhost, {"n": 1}, queue, expect_response=False)
        assert peer.get(queue).body["n"] == 1

    def test_the_default_names_no_host_but_localhost_and_no_password(self) -> None:
        program = (
            "import json;"
            "from neon_mq_connector.utils.client_utils import _default_mq_config as c;"
            "print('CONFIG', json.dumps(c))"
        )
        default = json.loads(python("-c", program).split("CONFIG ")[-1])
        assert default.get("server", "localhost") in ("localhost", "127.0.0.1")
        for user in default.get("users", {}).values():
            assert not user.get("password")

    def test_the_section_of_ovos_config_goes_before_the_global(
        self, tmp_path: Path, config: dict[str, Any], vhost: str, peer: Peer
    ) -> None:
        queue = peer.queue()
        folder = tmp_path / "config" / "mycroft"
        folder.mkdir(parents=True)
        (folder / "mycroft.conf").write_text(json.dumps({"MQ": config}))
        unused = make_config("127.0.0.1", free_port(), "u", "p")
        program = (
            "from neon_mq_connector.utils import client_utils as c;"
            f"c._default_mq_config = {unused!r};"
            f"c.send_mq_request({vhost!r}, {{'n': 1}}, {queue!r}, expect_response=False)"
        )
        python("-c", program, env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config")})
        assert peer.get(queue).body["n"] == 1


class TestHandler:
    @pytest.fixture
    def handler(self, config: dict[str, Any], vhost: str, endings: Any) -> Any:
        handler = NeonMQHandler(config, CLIENT, vhost)

        def end() -> None:
            if handler.connection.is_open:
                handler.shutdown()

        endings.callback(end)
        return handler

    def test_it_is_a_connector_with_an_open_connection(self, handler: Any, vhost: str) -> None:
        assert issubclass(type(handler), MQConnector)
        assert isinstance(handler.connection, pika.BlockingConnection)
        assert handler.connection.is_open
        assert handler.connection is handler.connection
        assert handler.vhost == vhost
        assert handler.service_name == CLIENT
        connection = handler.connection
        handler.shutdown()
        assert connection.is_closed

    def test_one_lives_in_a_callback_of_another_connector_as_gateways_have_it(
        self,
        connect: Build,
        run: Build,
        config: dict[str, Any],
        vhost: str,
        old_service: Build,
        broker: Any,
        send_mq_request: Any,
    ) -> None:
        old_service("backend")

        def on_request(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
            request, reply = decode(body), f"gateway_reply_{MQConnector.create_unique_id()}"
            answers = Inbox(lambda its, *_: its.queue_delete(reply))
            handler = NeonMQHandler(config, CLIENT, vhost)
            handler.register_consumer("answer", vhost, reply, answers)
            handler.run_consumers()
            asked = {"n": request["n"], "routing_key": reply}
            handler.emit_mq_message(handler.connection, asked, queue="backend", expiration=600_000)
            answer = with_context(request, backend=answers.wait()[0]["echo"]["n"])
            handler.stop()
            handler.shutdown()
            gateway.emit_mq_message(channel.connection, answer, queue=request["routing_key"])
            channel.basic_ack(method.delivery_tag)

        gateway = connect()
        gateway.register_consumer("front", vhost, "gateway", on_request, auto_ack=False)
        run(gateway)
        for number in range(2):
            answer = send_mq_request(vhost, {"n": number}, "gateway", timeout=120)
            assert answer["backend"] == number
        assert gateway.check_health()
        names = [queue["name"] for queue in broker.list_queues(vhost)]
        assert not [name for name in names if name.startswith("gateway_reply")]

    def test_a_broker_that_is_down_is_an_error(
        self, dead_config: dict[str, Any], no_waiting: Any
    ) -> None:
        with pytest.raises(Exception):  # noqa: B017, PT011 - pika's or ours
            _ = NeonMQHandler(dead_config, CLIENT, "/").connection


class Question(BaseModel):
    number: int
    text: str = "default"


class TestCallbacksByHand:
    """No broker: services test their handlers this way."""

    @pytest.mark.parametrize("encoded", [True, False])
    def test_functions_methods_and_static_methods(self, encoded: bool) -> None:
        @create_mq_callback
        def plain(body: dict[str, Any]) -> Any:
            return body

        class Holder:
            @create_mq_callback()
            def method(self, body: dict[str, Any]) -> Any:
                return self, body

            @staticmethod
            @create_mq_callback()
            def static(body: dict[str, Any]) -> Any:
                return body

            @create_mq_callback(include_callback_props=("body",), request_model=Question)
            def modelled(self, body: Question) -> Any:
                return self, body.number

        holder = Holder()
        body = encode({"number": 4}) if encoded else {"number": 4}
        for function in (plain, holder.static, Holder.static):
            assert function(None, None, None, body) == {"number": 4}
        assert holder.method(None, None, None, body) == (holder, {"number": 4})
        assert holder.modelled(None, None, None, body) == (holder, 4)
        assert (plain.__name__, holder.method.__name__) == ("plain", "method")

    def test_the_arguments_that_were_asked_for_come_as_keywords(self) -> None:
        every = {"channel": 1, "method": 2, "properties": 3, "body": {"n": 1}}
        for names in (("channel", "method", "properties", "body"), ("body",), ()):

            @create_mq_callback(include_callback_props=names)
            def handle(**kwargs: Any) -> Any:
                return kwargs

            assert handle(1, 2, 3, encode({"n": 1})) == {name: every[name] for name in names}

    def test_a_body_is_validated_by_the_model(self) -> None:
        @create_mq_callback(include_callback_props=("body",), request_model=Question)
        def handle(body: Question) -> Any:
            return body

        for body in ({"number": "3", "message_id": "m", "routing_key": "r"}, {"number": 3}):
            for given in (body, encode(body)):
                answer = handle(None, None, None, given)
                assert answer == Question(number=3, text="default")
                assert isinstance(answer, Question)

    @pytest.mark.parametrize(
        "body", [b"garbage", b"", encode({"number": "x"}), {"number": "x"}, {}, None, 5], ids=str
    )
    def test_a_bad_request_is_no_error_but_a_line_in_the_log(
        self, caplog: pytest.LogCaptureFixture, body: Any
    ) -> None:
        calls: list[Any] = []

        @create_mq_callback(include_callback_props=("body",), request_model=Question)
        def handle(body: Question) -> Any:
            calls.append(body)
            return "handled"

        with caplog.at_level(logging.INFO, logger="neon_mq_connector"):
            assert handle(None, None, None, body) is None
        assert calls == []
        assert caplog.records

    def test_a_function_that_fails_gives_none(self) -> None:
        @create_mq_callback()
        def handle(body: Any) -> Any:
            raise ValueError("kaput")

        assert handle(None, None, None, {"n": 1}) is None

    def test_a_dict_returned_without_a_routing_key_goes_nowhere(
        self, dead_config: dict[str, Any]
    ) -> None:
        class Service(MQConnector):
            @create_mq_callback()
            def handle(self, body: dict[str, Any]) -> Any:
                return {"answer": body["n"]}

        service = Service(dead_config, SERVICE)
        answer = service.handle(None, None, None, {"n": 1})
        assert answer["answer"] == 1


class TestCallbacksInConsumers:
    @pytest.fixture
    def service(self, connect: Build, run: Build, vhost: str) -> Any:
        class Service(MQConnector):
            def pre_run(self, **kwargs: Any) -> None:
                self.register_consumer("plain", vhost, "plain", self.plain, self.errors)
                self.register_consumer("model", vhost, "model", self.model, self.errors)
                self.register_consumer("settling", vhost, "settling", self.settling, auto_ack=False)

            errors = Errors()

            @create_mq_callback()
            def plain(self, body: dict[str, Any]) -> Any:
                return body.get("return")

            @create_mq_callback(include_callback_props=("body",), request_model=Question)
            def model(self, body: Question) -> dict[str, Any]:
                return {"doubled": body.number * 2}

            @create_mq_callback(include_callback_props=("channel", "method", "body"))
            def settling(self, channel: Any, method: Any, body: dict[str, Any]) -> Any:
                channel.basic_ack(method.delivery_tag)
                return {"settled": body["n"]}

        return run(connect(Service))

    @pytest.mark.every_broker
    def test_a_dict_is_sent_to_the_routing_key(self, service: Any, peer: Peer) -> None:
        reply = "new_reply"
        peer.publish(
            {
                "return": {"answer": 1, "context": {"user": "ann"}},
                "routing_key": reply,
                "message_id": "m1",
            },
            queue="plain",
        )
        body = peer.get(reply).body
        assert body["answer"] == 1
        assert body["context"]["mq"]["message_id"] == "m1"
        assert body["context"]["user"] == "ann"
        assert body["message_id"] == "m1"

    @IN_BOTH_WAYS
    def test_requests_get_their_answers(
        self, service: Any, vhost: str, send_mq_request: Any
    ) -> None:
        answer = send_mq_request(vhost, {"number": 21}, "model", timeout=120)
        assert answer["doubled"] == 42
        assert send_mq_request(vhost, {"n": 5}, "settling", timeout=120)["settled"] == 5

    @pytest.mark.parametrize("returned", [None, [1]], ids=str)
    def test_what_is_no_dict_is_not_sent(self, service: Any, peer: Peer, returned: Any) -> None:
        reply = peer.queue("reply")
        peer.publish({"return": returned, "routing_key": reply, "message_id": "no"}, queue="plain")
        peer.publish({"return": {"a": 1}, "routing_key": reply, "message_id": "yes"}, queue="plain")
        assert peer.get(reply).body["message_id"] == "yes"


class TestIsTheBrokerThere:
    def test_an_open_port_is_seen_and_a_closed_one_is_not(self, broker: Any) -> None:
        assert check_port_is_open(broker.host, broker.port) is True
        assert check_port_is_open(addr="127.0.0.1", port=free_port()) is False

    def test_being_refused_counts_as_up_on_the_root_vhost_alone(
        self, broker: Any, mq_user: Any, connection_params: pika.ConnectionParameters
    ) -> None:
        assert check_rmq_is_available(connection_params) is True
        assert check_rmq_is_available(parameters_for(broker, mq_user, "/")) is True
        with pytest.raises(Exception):  # noqa: B017, PT011 - pika's or ours
            check_rmq_is_available(parameters_for(broker, mq_user, "/nowhere"))

    def test_waiting_for_a_broker_that_is_up(
        self, broker: Any, connection_params: pika.ConnectionParameters
    ) -> None:
        assert wait_for_mq_startup(broker.host, broker.port) is True
        assert wait_for_mq_startup(broker.host, broker.port, 120, connection_params) is True
        where: dict[str, Any] = {"addr": broker.host, "port": broker.port, "timeout": 120}
        assert wait_for_mq_startup(**where, connection_params=connection_params) is True

    def test_waiting_for_a_broker_that_stays_away(self) -> None:
        began = time.monotonic()
        assert wait_for_mq_startup("127.0.0.1", free_port(), timeout=1) is False
        assert time.monotonic() - began > 0.5

    def test_waiting_for_a_broker_that_comes(self, broker: Any, vhost: str) -> None:
        port = free_port()
        answers: list[bool] = []
        waiter = threading.Thread(
            target=lambda: answers.append(wait_for_mq_startup("127.0.0.1", port, timeout=120)),
            daemon=True,
        )
        waiter.start()
        with FaultProxy(broker.port, port=port):
            waiter.join(120.0)
        eventually(lambda: answers == [True])

    def test_pikas_logging_can_be_silenced(self) -> None:
        logger = logging.getLogger("pika")
        with SuppressPikaLogging():
            assert logger.level == logging.CRITICAL
        assert logger.isEnabledFor(logging.ERROR)


def parameters_for(broker: Any, user: Any, vhost: str) -> pika.ConnectionParameters:
    return pika.ConnectionParameters(
        broker.host, broker.port, vhost, pika.PlainCredentials(user.name, user.password)
    )
