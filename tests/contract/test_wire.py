"""Compatibility contract: what goes over the wire, byte for byte.

That old services can declare reply queues of this library before they publish to them is shown with
the clients.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
from tests.contract.peer import Inbox, Peer, encode
from tests.support.polling import eventually

MESSAGES: list[dict[Any, Any]] = [
    {"a": 1},
    {"text": 'it\'s "quoted" \\ and\nbroken'},
    {"unicode": "żółć 漢字 🐍"},
    {"nothing": None, "yes": True, "no": False},
    {"float": 1.5, "big": 10**30, "negative": -7},
    {"tuple": (1, 2, (3,)), "empty": (), "set": {1}},
    {"bytes": b"\x00\xff raw"},
    {1: "int key", None: "none key", False: "false key", (1, 2): "tuple key"},
    {"nested": {"list": [{"deep": [[], {}]}]}},
    {"keyword-like": "None True False 'None'"},
    {"complex": 1 + 2j},
    {},
]


@pytest.fixture(params=MESSAGES, ids=lambda message: str(next(iter(message), "empty")))
def message(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestBodies:
    def test_a_dict_is_written_byte_for_byte_as_before(self, message: dict[Any, Any]) -> None:
        expected = base64.b64encode(json.dumps(repr(message)).encode("utf-8"))
        written = dict_to_b64(message)
        assert isinstance(written, bytes)
        assert written == expected

    def test_a_body_in_the_old_format_is_read(self, message: dict[Any, Any]) -> None:
        read = b64_to_dict(encode(message))
        assert read == message
        assert repr(read) == repr(message)

    def test_the_charset_may_be_named(self) -> None:
        assert b64_to_dict(dict_to_b64({"a": "é"}, "utf-8"), "utf-8") == {"a": "é"}
        assert b64_to_dict(dict_to_b64({"a": "é"}, charset="utf-8"), charset="utf-8") == {"a": "é"}


class TestOnTheBroker:
    def test_what_a_service_sends_first_is_in_the_old_format(
        self, connect: Callable[..., Any], peer: Peer
    ) -> None:
        queue = peer.queue()
        connect().send_message({"a": (1, b"x"), "message_id": "fixed"}, queue=queue)
        assert peer.get(queue).raw == encode({"a": (1, b"x"), "message_id": "fixed"})

    def test_a_callback_gets_the_bytes_that_were_sent(
        self, connect: Callable[..., Any], run: Callable[..., Any], peer: Peer
    ) -> None:
        queue, inbox = peer.queue(), Inbox()
        connector = connect()
        connector.register_consumer("c", connector.vhost, queue, inbox)
        run(connector)
        sent = [b"\x00 any bytes at all", b'{"json": true}']
        for body in sent:
            peer.publish(body, queue=queue)
        eventually(lambda: [body for *_, body in inbox.deliveries] == sent)
        assert all(isinstance(body, bytes) for *_, body in inbox.deliveries)
