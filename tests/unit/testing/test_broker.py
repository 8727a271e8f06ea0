"""A private broker that was not started."""

from __future__ import annotations

from pathlib import Path

import pytest

from neon_mq_connector.testing import PrivateBroker, PrivateBrokerError


def test_making_one_starts_nothing(tmp_path: Path) -> None:
    broker = PrivateBroker(directory=tmp_path / "node")
    assert not broker.running
    assert not (tmp_path / "node").exists()
    broker.stop()
    broker.kill()
    broker.close()


@pytest.mark.parametrize("name", ["port", "password", "pid", "management_url", "directory"])
def test_what_is_not_known_before_the_start_says_so(name: str) -> None:
    with pytest.raises(PrivateBrokerError, match=r"call start\(\) first"):
        getattr(PrivateBroker(), name)
    with pytest.raises(PrivateBrokerError, match=r"call start\(\) first"):
        PrivateBroker().rabbitmqctl("status")
