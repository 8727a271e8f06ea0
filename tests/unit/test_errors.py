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
    "error",
    [
        errors.UnroutableError("nowhere", may_have_arrived=False),
        errors.PublishBatchError(
            "some failed",
            failures={
                3: errors.PublishRejectedError("no", may_have_arrived=False),
                1: errors.PublishLostError("lost", may_have_arrived=True),
            },
            message_ids=list("abcd"),
        ),
        errors.RemoteError("Oops", "no", details=[1], queue="q", message_id="m"),
        errors.RequestRefusedError("no", type="Sorry"),
        errors.VhostAccessError("no such virtual host"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_the_way_to_another_process(error: MQError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
    assert repr(vars(again)) == repr(vars(error))
