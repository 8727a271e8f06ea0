"""A cluster whose nodes are killed and restarted; `scripts/soak --cluster` does it for longer."""

from __future__ import annotations

import pytest

from tests.soak.cluster import KILL, RESTART, ClusterSoak
from tests.support.certificates import OPENSSL


@pytest.mark.needs_rabbitmq
@pytest.mark.timeout(900)  # nothing here is a matter of time: a slow machine may take its time
@pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificates")
def test_nodes_that_are_killed_and_restarted_cost_no_message_that_was_confirmed() -> None:
    deeds = [(KILL, 0), (RESTART, 1)]
    report = ClusterSoak(deeds, seconds=900.0).run()
    assert report.complaints == []
    assert len(report.silences) == len(deeds)
