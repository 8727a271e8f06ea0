"""How the two formats are told apart, read and written."""

from __future__ import annotations

import base64
import json
from collections import OrderedDict
from collections.abc import Mapping
from datetime import date
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neon_mq_connector import MQConnector
from neon_mq_connector.codec import (
    CONTENT_TYPE_JSON,
    CONTENT_TYPE_LEGACY,
    WireFormat,
    decode_body,
    dict_to_b64,
    encode_body,
)
from neon_mq_connector.errors import DecodeError, EncodeError, MQError
from tests.unit.codec.oracle import json_messages, same

MESSAGE = {"message_id": "b3f0", "data": {"utterances": ['it\'s "so" – あ😀'], "x": None}}


class Colour(str, Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Members(set[int]):
    """A set whose `repr` has its name."""


class Plain(str):
    """A string like any other."""

    __slots__ = ()


@given(json_messages)
@example({"": "", "é": ["\x00\x7f\u2028", "\\/"], "n": [0, -1, 1e300, -0.0, 10**60]})
def test_what_json_can_express_goes_there_and_back(message: dict[str, Any]) -> None:
    body = encode_body(message, WireFormat.JSON)
    assert json.loads(body) == message
    decoded, wire_format = decode_body(body, CONTENT_TYPE_JSON)
    assert same(decoded, message)
    assert wire_format is WireFormat.JSON


@pytest.mark.parametrize("content_type", [None, "", "text/plain", CONTENT_TYPE_JSON, "x/y+json"])
@pytest.mark.parametrize(
    "body,expected",
    [
        (json.dumps(MESSAGE).encode(), WireFormat.JSON),
        (json.dumps(MESSAGE, ensure_ascii=False, indent=1).encode(), WireFormat.JSON),
        (b" \r\n\t" + json.dumps(MESSAGE).encode() + b"\n", WireFormat.JSON),
        (b"\xef\xbb\xbf" + json.dumps(MESSAGE).encode(), WireFormat.JSON),
        (base64.b64encode(json.dumps(MESSAGE).encode()), WireFormat.JSON),
        (base64.encodebytes(b"  " + json.dumps(MESSAGE).encode()), WireFormat.JSON),
        (dict_to_b64(MESSAGE), WireFormat.LEGACY),
        (
            base64.b64encode(b" " + base64.b64decode(dict_to_b64(MESSAGE)) + b"\n"),
            WireFormat.LEGACY,
        ),
        (
            base64.b64encode(json.dumps(repr(MESSAGE), ensure_ascii=False).encode()),
            WireFormat.LEGACY,
        ),
    ],
)
def test_a_format_is_recognised_by_the_body_whatever_its_properties_say(
    body: bytes, expected: WireFormat, content_type: str | None
) -> None:
    assert decode_body(body, content_type) == (MESSAGE, expected)


@pytest.mark.parametrize(
    "body,content_type,what",
    [
        (b"", None, "empty"),
        (b" \n", CONTENT_TYPE_JSON, "empty"),
        (b"[1]", "application/json; charset=utf-8", "must be a dict, not a list"),
        (b'"text"', CONTENT_TYPE_JSON, "must be a dict, not a str"),
        (b"null", "Application/JSON", "must be a dict, not a NoneType"),
        (base64.b64encode(b'"{1}"'), None, "must be a dict, not a set"),
        (b"hello, world", None, "neither JSON nor base64"),
        (b"hello, world", CONTENT_TYPE_JSON, "not JSON: Expecting value at character 0"),
        (b"{'a': 1}", None, "not JSON: .* at character 1"),
        (b'{"a": 1', None, "not JSON: .* at character 7"),
        (b'{"a": 1} {}', None, "more text after the value at character 9"),
        (b'{"a": "\xff"}', None, "not UTF-8 at byte 7"),
        (b'{"a": NaN}', None, "NaN is not JSON"),
        (b'{"a": "\x01"}', None, "not JSON: Invalid control character"),
        (base64.b64encode(b"[1, 2]"), None, "neither of a JSON string"),
        (base64.b64encode(b"\"{'a': \""), None, "not a Python literal: the text ends too early"),
        (base64.b64encode(b'"' + b"\xc3" + b'"'), None, "not UTF-8, at byte 1"),
        (b'{"a": ' + b"1" * 5000 + b"}", None, "5000 digits; the bound is 4300"),
        (b'{"a":' * 201 + b"1" + b"}" * 201, None, "the bound is 200"),
        (b'{"a":' + b"[" * 300, None, "brackets do not match"),
        (b"A" * (16 * 2**20 + 4), None, r"16777220 bytes; the bound is 16777216"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_with_the_reason(
    body: bytes, content_type: str | None, what: str
) -> None:
    with pytest.raises(DecodeError, match=what) as caught:
        decode_body(body, content_type)
    assert isinstance(caught.value, (MQError, ValueError))
    assert caught.value.__cause__ is None


@given(st.binary(max_size=200), st.sampled_from([None, CONTENT_TYPE_JSON, CONTENT_TYPE_LEGACY]))
@example(b"{", None)
@example(b"\xef\xbb\xbf", None)
def test_any_bytes_end_in_a_dict_or_the_documented_error(
    body: bytes, content_type: str | None
) -> None:
    for each in (body, b"{" + body, b'{"' + body + b'"}', base64.b64encode(body)):
        try:
            decoded, _ = decode_body(each, content_type)
        except DecodeError:
            continue
        assert type(decoded) is dict


def test_two_hundred_levels_of_json_are_read() -> None:
    body = b'{"a":' * 200 + b"1" + b"}" * 200
    decoded, _ = decode_body(body)
    assert encode_body(decoded, WireFormat.JSON) == body
    assert decode_body(encode_body(decoded, WireFormat.LEGACY)) == (decoded, WireFormat.LEGACY)


def test_large_json_is_read_within_bounds_and_refused_beyond() -> None:
    message = {f"key{i}": [i, None, 'a, [b] {c}: \\"d\\"'] for i in range(20_000)}
    body = encode_body(message, WireFormat.JSON)
    assert decode_body(body) == (message, WireFormat.JSON)
    with pytest.raises(DecodeError, match="too much memory; the bound is 100663296"):
        decode_body(b'{"a":[' + b"7.5," * 2_500_000 + b"7]}")
    with pytest.raises(DecodeError, match="the bound is 20971520"):
        decode_body(b'{"a":"' + b"a" * 6_000_000 + '😀"}'.encode())
    digits = encode_body({"n": "1" * 9000, "m": [1] * 3000, "k": 10**4000}, WireFormat.JSON)
    assert decode_body(digits)[0]["n"] == "1" * 9000


@pytest.mark.parametrize(
    "value,place,why",
    [
        (b"x", r"message\['a'\]", "JSON has no bytes"),
        ([1, {"b": {2}}], r"message\['a'\]\[1\]\['b'\]", "JSON has no set"),
        ({"b": float("nan")}, r"message\['a'\]\['b'\]", "nan is not a number in JSON"),
        ({(1, 2): 3}, r"message\['a'\]\[\(1, 2\)\]", "keys are strings in JSON, not tuple"),
        ({1: 2}, r"message\['a'\]\[1\]", "keys are strings in JSON, not int"),
        (["\ud83d"], r"message\['a'\]\[0\]", "a lone surrogate is no text in JSON"),
        ({"\udc00": 1}, r"message\['a'\]", "a lone surrogate is no text in JSON"),
        (date(2024, 1, 1), r"message\['a'\]", "JSON has no date"),
    ],
)
def test_what_json_cannot_carry_is_refused_by_place_with_a_remedy(
    value: Any, place: str, why: str
) -> None:
    with pytest.raises(EncodeError, match=f"^{place}.*: {why}; use the legacy format"):
        encode_body({"a": value, "b": 1}, WireFormat.JSON)


@pytest.mark.parametrize(
    "value,name",
    [
        (date(2024, 1, 1), "date"),
        (Colour.RED, "Colour"),
        (OrderedDict(a=1), "OrderedDict"),
        (Members((1,)), "Members"),
    ],
)
def test_what_has_no_literal_is_refused_by_place_with_a_remedy(value: Any, name: str) -> None:
    with pytest.raises(
        EncodeError, match=rf"^message\['a'\]\[0\]: the repr of {name} is no .* convert it to"
    ):
        encode_body({"a": [value]}, WireFormat.LEGACY)


def test_what_stands_for_a_plain_value_is_sent_as_one() -> None:
    message: Mapping[str, Any] = MappingProxyType({"a": Colour.RED, "b": (Level.LOW, Plain("x"))})
    assert encode_body(message, WireFormat.JSON) == b'{"a":"red","b":[1,"x"]}'
    legacy = OrderedDict(a=Plain("x"), b=(True, None))
    assert decode_body(encode_body(legacy, WireFormat.LEGACY))[0] == {"a": "x", "b": (True, None)}


@pytest.mark.parametrize("wire_format", WireFormat)
def test_a_message_that_no_peer_could_read_is_refused(wire_format: WireFormat) -> None:
    deep: dict[str, Any] = {}
    for _ in range(10_000):
        deep = {"a": deep}
    with pytest.raises(EncodeError, match=r"message\['a'\]\['a'\]\['a'\]: more than 200"):
        encode_body(deep, wire_format)
    while deep:
        deep = deep.pop("a")
    endless: dict[str, Any] = {"a": []}
    endless["a"].append(endless)
    with pytest.raises(EncodeError, match="inside itself"):
        encode_body(endless, wire_format)
    wrong: Any
    for wrong in ([], "text", None):
        with pytest.raises(EncodeError, match=f"must be a mapping, not a {type(wrong).__name__}"):
            encode_body(wrong, wire_format)


def test_a_format_that_there_is_not_is_named_with_those_that_there_are() -> None:
    connector = MQConnector({"server": "127.0.0.1", "users": {}}, "asking")
    with pytest.raises(ValueError, match="wire_format='xml' is neither 'json' nor 'legacy'"):
        connector.request({"a": 1}, "queue", wire_format="xml")
