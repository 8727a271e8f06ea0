from __future__ import annotations

import json

import pytest
from pika.spec import BasicProperties

from neon_mq_connector.cli.messages import ReceivedMessage, print_message


def received(raw: bytes, **properties: object) -> ReceivedMessage:
    return ReceivedMessage(raw, "news", "key", BasicProperties(**properties), redelivered=False)


def test_a_body_that_cannot_be_read_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_message(received(b"\xff\x00", message_id="m1"), as_json=True)
    line = json.loads(capsys.readouterr().out)
    assert line["body"] is None
    assert line["base64"] == "/wA="
    assert line["error"]
    print_message(received(b"\xff\x00"), as_json=False)
    assert "not readable" in capsys.readouterr().out


def test_a_message_for_a_person_has_no_colour_in_a_pipe_and_no_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = received(b'{"text": "hi"}', content_type="application/json", message_id="m1\x1b")
    print_message(message, as_json=False)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    head, _, body = shown.partition("\n")
    assert "exchange news key" in head
    assert "message_id m1?" in head
    assert json.loads(body) == {"text": "hi"}


def test_headers_are_in_every_line_of_json_and_shown_to_a_person_who_asks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = received(b"{}", headers={"neon-error": "KeyError: 'name'", "raw\x1b": b"\x00\xff"})
    print_message(message, as_json=True)
    assert json.loads(capsys.readouterr().out)["headers"] == {
        "neon-error": "KeyError: 'name'",
        "raw\x1b": {"base64": "AP8="},
    }
    print_message(message, as_json=False)
    assert "KeyError" not in capsys.readouterr().out
    print_message(message, as_json=False, with_headers=True)
    shown = capsys.readouterr().out
    assert shown.splitlines()[1:3] == [
        """  neon-error: "KeyError: 'name'\"""",
        '  raw?: {"base64":"AP8="}',
    ]
    print_message(received(b"{}"), as_json=True)
    assert json.loads(capsys.readouterr().out)["headers"] is None
    print_message(received(b"{}"), as_json=False, with_headers=True)
