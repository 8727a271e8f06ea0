"""The reader of Python literals, with `ast.literal_eval` as the oracle."""

from __future__ import annotations

import warnings

import pytest

from neon_mq_connector.codec.literals import parse_literal
from neon_mq_connector.errors import DecodeError
from tests.unit.codec.oracle import REFUSED, literal_eval, same


@pytest.mark.parametrize(
    "text",
    [
        *("'a'", '"it\'s"', "''", "u'a'", "R'\\n'", "rb'\\x'", "Br'\\''", "'a\\\nb'", "'\\\r\na'"),
        *("'\\N{BULLET}'", "'\\177'", "b'\\377'", "'\\q'", "'\\é'", "'\\あ'", "b'\\u0041'"),
        *("'\\ud83d\\ude00'", "'\\U0001f600'", "'\t\x01'", "'#'", "'\\\\'"),
        *("0", "00", "0_0", "-0", "- 1", "+1", "((1))", "0x_fF", "0O17", "0B1_0", "1_000"),
        *("1.", ".5", "1e5", "1E-5", "1_0.0_1e1_0", "09.5", "1e400", "-1e400", "-0.0", "1" * 4300),
        *("1j", "-1j", "01j", "1+2j", "-1 - 2j", "1e400j", "(1+2j)", "[1-1e5j]", "..."),
        *("()", "(1,)", "(1)", "[1,]", "{1,}", "{1: 2,}", "((),)", "set()", "{'a':1}"),
        *("{1: 1, True: 2, 1.0: 3}", "{1, True, 1.0}", "{(1, 'a'): {2}}", "{None: None}"),
        *("\n[1]\n", " \t1", "[\f1 ]", "[1\n,\r\n2]", "( { } , )"),
    ],
)
def test_all_spellings_of_a_value_are_read(text: str) -> None:
    expected = literal_eval(text)
    assert expected is not REFUSED
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # those about unknown escapes
        assert same(parse_literal(text), expected)


@pytest.mark.parametrize(
    "text, value",
    [
        ("[inf, -inf]", "[inf, -inf]"),
        ("(inf-infj)", "(inf-infj)"),
        ("[nan, -nan, (nan+nanj), (1-nanj)]", "[nan, nan, (nan+nanj), (1+nanj)]"),
        ("[true, false, null]", "[True, False, None]"),
    ],
)
def test_what_repr_or_json_writes_beyond_literals_is_read_too(text: str, value: str) -> None:
    assert repr(parse_literal(text)) == value


@pytest.mark.parametrize(
    "text",
    [
        *("'a' 'b'", "('a'\n'b')", "'''a'b'''", '"""a"""', "'\\400'", "b'\\400'"),
        *("-(1)", "(1)+2j", "1+(2j)", "0xe+1j", "set ()", "(set)()"),
        *("[1, # c\n 2]", "# c\n1", "{} # c", "[1,\\\n2]", "1, 2"),
    ],
)
def test_what_repr_never_writes_is_refused(text: str) -> None:
    assert literal_eval(text) is not REFUSED
    with pytest.raises(DecodeError):
        parse_literal(text)


@pytest.mark.parametrize("unit", ["\\\\", "\\'", "a\\n", "\\x41", "\\N{DIGIT ONE}", "あ\\\\", '"'])
def test_a_long_string_is_the_same_wherever_the_pieces_are_cut(unit: str) -> None:
    for length in (63, 64, 65, 4095, 4097, 65534, 65535, 65536, 65537):
        contents = ("a" * (length % 7) + unit * (length // len(unit) + 1)) + "é"
        for text in (f"'{contents}'", f"r'{contents}'"):
            assert same(parse_literal(text), literal_eval(text))


def test_many_keys_of_one_hash_are_refused_before_they_are_compared() -> None:
    modulus = 2**61 - 1
    assert len({hash(k * modulus) for k in range(30_000)}) == 1
    keys = [str(k * modulus) for k in range(30_000)]
    for text in ("{" + ", ".join(keys) + "}", "{" + ": 0, ".join(keys) + ": 0}"):
        with pytest.raises(DecodeError, match="the same hash"):
            parse_literal(text)
    few = "{" + ", ".join(keys[:16]) + "}"
    assert parse_literal(few) == literal_eval(few)


def test_errors_say_where_but_do_not_quote_the_message() -> None:
    with pytest.raises(DecodeError, match="at character 15") as caught:
        parse_literal("{'password': s3cr3t}"[:13] + "  s3cr3t}")
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
