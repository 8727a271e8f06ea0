"""Prefixes of virtual hosts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_mq_connector.service.virtual_host import with_prefix

NAMES = st.text("abcxyz0-.", max_size=8)
PREFIXES = st.text("abcxyz0-.", min_size=1, max_size=4)


@pytest.mark.parametrize(
    "vhost, prefix, expected",
    [
        ("/chat", "x", "/x_chat"),
        ("chat", "x", "/x_chat"),
        ("/x_chat", "x", "/x_chat"),
        ("/xchat", "x", "/x_xchat"),
        ("/x", "x", "/x"),
        ("", "x", "/x"),
        ("/", "x", "/x"),
        ("", "", "/"),
        ("/", "", "/"),
        ("chat", "", "/chat"),
        ("/chat_", "", "/chat"),
        ("/chat_", "x", "/x_chat"),
        ("/two_words", "x", "/x_two_words"),
    ],
)
def test_a_prefix_is_put_before_the_name(vhost: str, prefix: str, expected: str) -> None:
    assert with_prefix(vhost, prefix) == expected


@given(name=NAMES, prefix=PREFIXES)
def test_a_prefix_is_added_only_once(name: str, prefix: str) -> None:
    once = with_prefix(f"/{name}", prefix)
    assert with_prefix(once, prefix) == once
    assert once.startswith(f"/{prefix}")
    assert not once.endswith("_")


@given(name=NAMES, prefix=st.one_of(st.just(""), PREFIXES))
def test_the_leading_slash_makes_no_difference(name: str, prefix: str) -> None:
    assert with_prefix(name, prefix) == with_prefix(f"/{name}", prefix)


@given(name=st.text("ab", min_size=1, max_size=5), first=PREFIXES, second=PREFIXES)
def test_the_prefix_of_testing_goes_before_the_other(name: str, first: str, second: str) -> None:
    both = with_prefix(with_prefix(name, first), second)
    assert both.startswith(f"/{second}")
    assert both.endswith(name)
