"""The legacy format: base64 of a JSON string that holds the `repr` of a dict."""

from __future__ import annotations

import base64
import json
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings

from neon_mq_connector.codec import WireFormat, b64_to_dict, dict_to_b64, encode_body
from neon_mq_connector.codec.literals import parse_literal
from neon_mq_connector.errors import DecodeError, EncodeError
from tests.unit.codec.oracle import REFUSED, literal_eval, messages, near_literals, same

UTTERANCE = {
    "msg_type": "neon.get_response",
    "data": {"utterances": ["what's the weather like?"], "lang": "en-us", "final": True},
    "context": {
        "client": "mobile",
        "timing": {"stt": 0.213, "total": 1.5, "retries": 3},
        "session": None,
        "mq": {"routing_key": "reply.6c1d", "message_id": "b3f0c2", "stream": False},
    },
    "message_id": "b3f0c2",
}


def body_of(text: str) -> bytes:
    """Put any text where the `repr` belongs."""
    return base64.b64encode(json.dumps(text).encode())


def read(text: str, how: Callable[[str], Any] = lambda text: b64_to_dict(body_of(text))) -> Any:
    """Read any text in the place of a `repr`; `REFUSED` if that is an error."""
    try:
        return how(text)
    except DecodeError:
        return REFUSED


@given(messages)
@example({"a": "it's", "b": 'say "so"', "c": "both ' and \"", "d": "\\", "e": "\\'"})
@example({"None": "None", "True": [True, "True"], "a": "False, None"})
@example({"a": (1,), "b": (), "c": ((),), "(": ")", "d": {1, (2,)}, "e": {}})
@example({None: 1, True: 2, 1.5: 3, b"x": 4, (): 5, 2: {3: {4: 5}}})
@example({"a": b"b'\x00\xff\\\"'", "b": b"", "ab": "b", "c": [b"'", b'"']})
@example({"a": "\ud83d\ude00", "b": "\ud83d", "c": "😀", "d": "\ufdd0", "e": (1,)})
@example({"a": "\x00\x01\x02\x03\x04", "b": (b"\x00\x03", {1}), "\x00": [1], "\ufdd0": [1, 2]})
@example({"a": float("inf"), "b": [-float("inf"), "inf", "nan"], "c": {0.0: -0.0}})
@example({"a": 1j, "b": 1 - 1j, "c": 0j, "d": "Infinity NaN"})
@example({"a": ",)", "b": ("x,)", ",]", ",}"), "c": [(",",)]})
@example({"a/b": "\\/", "c": "a:b", ":": {":": {1: ":"}}})
@example({"é": "あ"})
def test_any_dict_is_written_as_it_always_was_and_comes_back(
    message: dict[Any, Any],
) -> None:
    body = dict_to_b64(message)
    assert body == base64.b64encode(json.dumps(repr(message)).encode())
    assert encode_body(message, WireFormat.LEGACY) == body
    assert same(b64_to_dict(body), message)


@settings(max_examples=200)
@given(near_literals)
@example("{'a': '\x01'}")
@example("{'a': ('\x00', b'\x03a\x04')}")
@example("{'a': (1]}}")
@example("{'a': [1)")
@example("{'a': (1], 'x': [2)}")
@example("{'a': {1: 2: 3, 4}}")
@example("{'a': [1: 2], 3}")
@example("{'a': '''b''', 'c': 'd'}")
@example("{'a': 'b' # it's\n}")
@example("{'a': b'\\u0041', 'c': b'é'}")
@example("{'a': rb'x', 'c': (1,)}")
@example("{'a': 1,}")
@example("{1: [2, 3,],}")
@example("{'a': '\\/', \"b\": 1}")
@example("{'a': (NaN, nan, -Infinity)}")
@example("{(None): (1), 'a': ((2,))}")
@example("{'a': b'\\x0'}")
@example("{'a': 007}")
@example("{[]: 1}")
@example("{'a': '\\'', \"b\": '\\\"'}")
@example("{'k': \"'\\\\\"}")
@example("{'a': 1, 'b': 2, 'a': 3, 1: 'x', True: 'y', 1.0: 'z'}")
def test_what_is_read_is_what_literal_eval_reads(text: str) -> None:
    expected = literal_eval(text)
    lenient = ("true", "false", "null", "nan", "inf", "\x00", "\ud83d", "\n", "\r")
    is_lenient = any(word in text for word in lenient)
    for found in (read(text), read(text, parse_literal)):
        if found is not REFUSED and not is_lenient:
            assert same(found, expected)


def test_strings_and_mime_line_breaks_are_accepted() -> None:
    body = dict_to_b64(UTTERANCE)
    assert b64_to_dict(body.decode()) == UTTERANCE
    assert b64_to_dict(base64.encodebytes(base64.b64decode(body))) == UTTERANCE
    assert b64_to_dict(base64.b64encode(json.dumps(UTTERANCE).encode())) == UTTERANCE
    with pytest.raises(DecodeError, match="not ASCII"):
        b64_to_dict("é")


@pytest.mark.parametrize("damage", [b"*", b"\x00", b"=", "é".encode()])
def test_characters_that_are_not_base64_are_not_skipped(damage: bytes) -> None:
    body = dict_to_b64(UTTERANCE)
    with pytest.raises(DecodeError, match="base64"):
        b64_to_dict(body[:40] + damage * 4 + body[40:])


@pytest.mark.parametrize("pair", ["[]", "()", "{1:}", "{'b':}", "[{'c':}]", "{2:[(({3:},),)]}"])
@pytest.mark.parametrize("rest", ["", ", 'x': {1}"], ids=["json", "a set"])
def test_a_message_as_deep_as_the_bound_is_read_and_a_deeper_one_is_not(
    pair: str, rest: str
) -> None:
    opener, closer = re.split(r"(?<=[(:\[])(?=[,)}\]])", pair)
    levels = sum(pair.count(bracket) for bracket in "[{(")
    for depth in (200, 201):
        times, left = divmod(depth - 1, levels)
        text = "[" * left + opener * times + "1" + closer * times + "]" * left
        text = f"{{'a': {text}{rest}}}"
        if depth == 200:
            assert same(read(text), literal_eval(text))
        else:
            with pytest.raises(DecodeError, match="the bound is 200"):
                b64_to_dict(body_of(text))


def test_a_stack_that_is_nearly_used_up_is_no_reason_to_fail() -> None:
    message = {"a": json.loads("[" * 150 + "]" * 150)}
    body = dict_to_b64(message)

    def dive(frames: int) -> Any:
        return dive(frames - 1) if frames else b64_to_dict(body)

    limit = sys.getrecursionlimit()
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(dive(limit - 120)))
    thread.start()
    thread.join(120.0)
    assert results == [message]


@pytest.mark.parametrize(
    "message",
    [
        {"a": "x" * 5_000_000},
        {f"key{i}": {"id": i, "name": "it's", "ok": True, "x": None} for i in range(80_000)},
        {
            f"key{i}": {"n": i, "f": i / 8, "t": (i, 2), "b": b"x\x00", 3: {4, "é"}}
            for i in range(30_000)
        },
    ],
    ids=["text", "records", "mixed records"],
)
def test_five_megabytes_of_a_legitimate_dict_are_read(message: dict[Any, Any]) -> None:
    assert 2_000_000 < len(repr(message)) < 7_000_000
    assert b64_to_dict(dict_to_b64(message)) == message


@pytest.mark.parametrize("text", ["{'a': %s}", "{1: %s}", '{"a": 0x%s}'])
def test_an_integer_has_no_more_digits_than_python_reads(text: str) -> None:
    with pytest.raises(DecodeError, match="the bound is 4300"):
        b64_to_dict(body_of(text % ("1" * 4301)))


def test_a_dict_without_a_repr_is_refused_when_it_is_written() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(EncodeError, match="too deep"):
        dict_to_b64({"a": deep})
    if hasattr(sys, "get_int_max_str_digits"):
        with pytest.raises(EncodeError, match="digits"):
            dict_to_b64({"a": 10**5000})
    while deep:
        deep = deep.pop()


@pytest.mark.parametrize(
    "text",
    [
        "__import__('pathlib').Path('executed').touch()",
        "{'a': __import__('os').system('touch executed')}",
        "{'a': [c for c in ().__class__.__base__.__subclasses__()], 'b': open('executed', 'w')}",
        "{f\"{open('executed', 'w')}\": 1}",
        "{'a': (lambda: 1)()}",
    ],
)
def test_nothing_in_a_message_is_executed(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(text) is REFUSED
    assert not (tmp_path / "executed").exists()
