"""An exception out of a signal handler ends the send that it interrupts, and no other one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.peer import Peer

ROOT = Path(__file__).parents[2]
SERVICE = "test_service"


@pytest.mark.timeout(240)
def test_a_service_sends_on_after_hundreds_of_interrupted_sends(
    make_mq_config: Callable[..., dict[str, Any]], vhost: str, peer: Peer
) -> None:
    peer.declare("sent")
    order = {
        "config": make_mq_config(SERVICE, publish_timeout=10),
        "service": SERVICE,
        "vhost": vhost,
        "queue": "sent",
        "interrupts": 300,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.interrupt_worker", json.dumps(order)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report.pop("last") in peer.ids_in("sent")
    assert report == {"bytes": 0, "late": []}
