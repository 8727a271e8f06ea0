"""The tree of errors."""

from __future__ import annotations

import pickle

import pytest

from neon_mq_connector import errors
from neon_mq_connector.errors import MQError


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
