"""Compatibility contract: what goes over the wire, byte for byte.

That old services can declare reply queues of this library before they publish to them is shown with
the clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
from tests.contract.peer import Inbox, Peer, encode
from tests.support.polling import eventually


def test_a_body_is_written_byte_for_byte_as_before_and_read() -> None:
    message = {"a": (1, b"x", None, {2}), 3: 'it\'s "quoted" żółć 🐍'}
    written = dict_to_b64(message)
    assert written == encode(message) == dict_to_b64(message, charset="utf-8")
    assert b64_to_dict(written, "utf-8") == b64_to_dict(written) == message


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
