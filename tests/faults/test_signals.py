"""A signal handler may stop the service, whatever the main thread is doing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.utils.network_utils import b64_to_dict
from tests.faults.conftest import run
from tests.faults.peer import Peer
from tests.faults.signal_worker import ECHO, SENT

SERVICE = "test_service"
ROOT = Path(__file__).parents[2]

MakeConfig = Callable[..., dict[str, Any]]


@pytest.fixture
def echo(make_mq_config: MakeConfig, vhost: str) -> Iterator[None]:
    """The service that is asked, in another process than the handlers."""
    connector = MQConnector(make_mq_config(SERVICE), SERVICE)
    connector.vhost = vhost

    def answer(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        connector.send_message(
            {"n": request["n"], "message_id": request["message_id"]}, queue=request["routing_key"]
        )

    connector.register_consumer("echo", vhost, ECHO, answer, concurrency=4)
    run(connector)
    yield
    connector.stop()


@pytest.mark.usefixtures("echo")
@pytest.mark.parametrize("seconds, forks", [(2.5, 0), (1.0, 10)], ids=["alone", "and forks"])
def test_a_handler_stops_what_it_has_interrupted(
    make_mq_config: MakeConfig, vhost: str, peer: Peer, tmp_path: Path, seconds: float, forks: int
) -> None:
    config = make_mq_config(SERVICE, publish_timeout=4.0, stop_timeout=3.0)
    file = tmp_path / "mq_config.json"
    file.write_text(json.dumps({"MQ": config}))
    order = {
        "config": config,
        "config_file": str(file),
        "service": SERVICE,
        "vhost": vhost,
        "seconds": seconds,
        "forks": forks,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.signal_worker", json.dumps(order)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["failed"] == []
    assert report["codes"] == [0] * forks, done.stderr[-6000:]
    assert {"acks", "deeds", "handlers"} <= set(report["done"])
    assert report["confirmed"]
    missing = set(report["confirmed"]) - set(peer.ids_in(SENT))
    assert not missing
