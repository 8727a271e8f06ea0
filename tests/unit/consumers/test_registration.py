"""What can be registered, and what is refused at once."""

from __future__ import annotations

from typing import Any

import pytest

from neon_mq_connector.consumers.registration import AckMode, Registration, Retry
from neon_mq_connector.topology import Queue


@pytest.mark.parametrize("field", ["prefetch_count", "concurrency"])
@pytest.mark.parametrize("value", [0, -1, 65_536, 1.5, "3", None])
def test_a_number_out_of_range_is_refused_naming_queue_and_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"queue 'q': {field}={value!r}"):
        Registration(Queue("q"), **{field: value})


@pytest.mark.parametrize("value", [1, 50, 65_535])
def test_any_prefetch_that_amqp_has_is_taken(value: int) -> None:
    assert Registration(Queue("q"), prefetch_count=value).prefetch_count == value


def test_what_is_not_said_is_as_services_expect() -> None:
    registration = Registration(Queue("q"))
    assert registration.ack is AckMode.ON_RECEIPT
    assert registration.concurrency == 1
    assert registration.restart_attempts == -1
    assert registration.retry == Retry()
    assert Retry().attempts == 3
    assert Retry().park


@pytest.mark.parametrize("attempts", [0, -1])
def test_a_message_is_tried_at_least_once(attempts: int) -> None:
    with pytest.raises(ValueError, match="at least one attempt"):
        Retry(attempts=attempts)


@pytest.mark.parametrize("mode", list(AckMode))
def test_an_ack_mode_can_be_given_by_its_value(mode: AckMode) -> None:
    assert AckMode(mode.value) is mode
