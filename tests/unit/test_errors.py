"""The tree of errors."""

from __future__ import annotations

import inspect
import pickle

import pytest

from neon_mq_connector import errors
from neon_mq_connector.errors import MQError

EVERY = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if each.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: str(kind.__name__))
def test_each_has_the_one_root_and_stands_in_the_drawing(kind: type[MQError]) -> None:
    assert issubclass(kind, MQError)
    assert kind.__name__ in (errors.__doc__ or "")
    assert kind.__doc__


@pytest.mark.parametrize(
    "kind, builtin",
    [
        (errors.ConfigurationError, ValueError),
        (errors.DecodeError, ValueError),
        (errors.EncodeError, ValueError),
        (errors.BrokerUnreachableError, ConnectionError),
        (errors.AuthenticationError, ConnectionError),
        (errors.VhostAccessError, ConnectionError),
        (errors.VhostAccessError, ValueError),
        (errors.ConnectionLostError, OSError),
        (errors.ChannelShutError, ConnectionError),
        (errors.PublishLostError, ConnectionError),
        (errors.PublishTimeoutError, TimeoutError),
        (errors.UnroutableError, ValueError),
        (errors.RequestTimeoutError, TimeoutError),
        (errors.RequestLostError, ConnectionError),
        (errors.WaitTimeoutError, TimeoutError),
    ],
)
def test_code_that_catches_the_builtin_catches_it(
    kind: type[MQError], builtin: type[Exception]
) -> None:
    assert issubclass(kind, builtin)


def test_an_error_survives_the_way_to_another_process() -> None:
    error = errors.UnroutableError("nowhere", may_have_arrived=False)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_batch_error_keeps_its_failures_on_the_way_to_another_process() -> None:
    failures = {
        3: errors.PublishRejectedError("no", may_have_arrived=False),
        1: errors.PublishLostError("lost", may_have_arrived=True),
    }
    error = errors.PublishBatchError("some failed", failures=failures, message_ids=list("abcd"))
    assert error.may_have_arrived
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "some failed"
    assert again.message_ids == ["a", "b", "c", "d"]
    assert {n: (type(each), str(each)) for n, each in again.failures.items()} == {
        n: (type(each), str(each)) for n, each in failures.items()
    }
