"""The properties of a parked message: nothing acts on them, they always fit, little is lost."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pika.spec import BasicProperties

from neon_mq_connector.consumers.parking import FORMS, FailedMessage, Form, parked_properties
from neon_mq_connector.envelope import PARKED_CUT, PARKED_ERROR, PARKED_ORIGINAL, PARKED_TRACEBACK
from neon_mq_connector.link.properties import encode_properties
from tests.unit.fakes import make_delivery

#: Of the header of a message: 4,096 bytes without the frame, class, weight and size of the body.
SMALLEST_FRAME = 4_096 - 8 - 12


def boom(text: str = "boom") -> Exception:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def park(
    original: BasicProperties,
    form: Form = FORMS[0],
    *,
    error: BaseException | None = None,
    **delivery: Any,
) -> BasicProperties:
    failed = FailedMessage.of(make_delivery(1, b"", original, **delivery), error or boom(), 1)
    return parked_properties(failed, delivery.get("queue", "q"), form)


def test_a_message_that_was_parked_before_tells_of_the_last_failure_and_of_what_it_was() -> None:
    before = park(BasicProperties(reply_to="r", headers={"mine": 1}), error=boom("old"))
    before.headers[PARKED_CUT] = "much"
    after = park(before, error=boom("new"))
    assert after.headers[PARKED_ERROR] == "ValueError: new"
    assert PARKED_CUT not in after.headers
    assert after.headers["mine"] == 1
    assert after.headers[PARKED_ORIGINAL] == {"headers": {PARKED_ORIGINAL: {"reply_to": "r"}}}


def test_errors_are_cut_by_bytes_at_whole_characters() -> None:
    headers = park(BasicProperties(), error=boom("ä" * 100_000)).headers
    assert headers[PARKED_ERROR].startswith("ValueError: ää")
    assert len(headers[PARKED_ERROR].encode()) <= 1_000
    assert headers[PARKED_TRACEBACK].endswith("ää\n")
    assert len(headers[PARKED_TRACEBACK].encode()) <= 8_000


def test_an_error_that_cannot_be_printed_is_told_by_its_name() -> None:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    headers = park(BasicProperties(), error=UnprintableError()).headers
    assert headers[PARKED_ERROR] == "UnprintableError"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=20), inner),
    max_leaves=30,
)


@settings(max_examples=15)
@given(headers=st.dictionaries(st.text(max_size=80) | st.binary(max_size=255), values))
def test_whatever_there_is_can_be_sent_in_a_bounded_form(headers: dict[Any, Any]) -> None:
    for form in FORMS:
        encoded = encode_properties(park(BasicProperties(headers=headers), form))
        assert len(encoded) <= sum(form) + 1_000
    longest = "ä" * 127
    texts = (
        *("message_id", "type", "app_id", "content_type", "content_encoding", "correlation_id"),
        *("expiration", "reply_to", "user_id", "cluster_id"),
    )
    original = BasicProperties(**dict.fromkeys(texts, longest), timestamp=2**63, headers=headers)
    delivery = make_delivery(1, b"", original, exchange=longest, routing_key=longest)
    failed = FailedMessage.of(delivery, boom(longest * 9), 1)
    for form in FORMS[2:]:
        assert len(encode_properties(parked_properties(failed, longest, form))) <= SMALLEST_FRAME
