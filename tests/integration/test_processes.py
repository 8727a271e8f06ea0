"""Processes of their own: those that end without having stopped anything, and odd ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from neon_mq_connector.testing import EmbeddedBroker
from tests.integration.conftest import Queues
from tests.support.nodes import free_port
from tests.support.polling import eventually

ROOT = Path(__file__).resolve().parents[2]


def run_script(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_script_with_daemons_ends_and_leaves_no_queue_of_a_subscriber_behind(
    vhost: str, mq_config: dict[str, Any], queues: Queues
) -> None:
    service = next(iter(mq_config["users"]))
    done = run_script(
        f"""
        from neon_mq_connector import MQConnector

        connector = MQConnector({mq_config!r}, {service!r})
        connector.register_subscriber("news", {vhost!r}, print, exchange="news")
        connector.register_consumer("it", {vhost!r}, "it", print, concurrency=3)
        connector.run(run_sync=False, daemonize_consumers=True)
        assert connector.check_health()
        print("ends")
        """
    )
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr

    eventually(lambda: queues() == {"it"}, what="the subscriber's queue is gone")


def test_a_script_that_asked_leaves_no_queue_behind_nor_do_its_workers(
    vhost: str, mq_config: dict[str, Any], queues: Queues
) -> None:
    done = run_script(
        f"""
        from neon_mq_connector.utils.client_utils import _default_mq_config, send_mq_request
        import multiprocessing

        def ask(number):
            return send_mq_request({vhost!r}, {{"a": 1}}, "nobody", timeout=0.2)

        _default_mq_config.update({mq_config!r})
        assert ask(1) == {{}}
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(ask, range(2)) == [{{}}, {{}}]
            pool.close()
            pool.join()
        print("ends")
        """
    )
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr
    eventually(
        lambda: not any(name.startswith("neon.reply.") for name in queues()),
        what="its reply queues are gone",
    )


def test_a_signal_ends_the_wait_for_a_broker() -> None:
    done = run_script(
        """
        import os, signal, sys, threading, time
        from neon_mq_connector import MQConnector

        users = {"s": {"user": "u", "password": "p"}}
        config = {"server": "127.0.0.1", "port": int(sys.argv[1]), "users": users}

        def terminate():
            while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=terminate).start()
        MQConnector(config, "s").run_forever(mq_timeout=600)
        print("ends")
        """,
        str(free_port()),
    )
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr
    assert "not started" not in done.stderr


SERVICE = """
    import signal, threading, time
    # called after what the library has to be called then
    threading._register_atexit(lambda: print("waits for threads", flush=True))
    from neon_mq_connector import MQConnector

    # a shell has what it starts in the background ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    service = MQConnector(None, "service")
    service.register_consumer("it", service.vhost, "it", print)
    service.register_subscriber("news", service.vhost, print, exchange="news")
    """


@pytest.mark.parametrize(
    "code, returns",
    [
        pytest.param(
            "service.post_run = lambda **_: print('ready', flush=True)\nservice.run_forever()",
            True,
            id="forever",
        ),
        pytest.param("service.run()", True, id="consumers alone"),
        pytest.param(
            "service.run(); print('ready', flush=True)\nwhile True: time.sleep(1)",
            False,
            id="a loop",
        ),
        pytest.param(
            "from neon_mq_connector import send_mq_request\nprint('ready', flush=True)\n"
            "send_mq_request('/', {'a': 1}, 'nobody')",
            False,
            id="a client",
        ),
    ],
)
def test_one_ctrl_c_ends_a_service_and_a_client(code: str, returns: bool) -> None:
    program = textwrap.dedent(SERVICE) + code
    with (
        EmbeddedBroker() as broker,
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "NEON_MQ_URL": broker.url()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() in ("ready\n", "waits for threads\n")
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=120)
        finally:
            process.kill()
        if returns:
            assert (process.returncode, said) == (0, "")
        else:  # as Python says it, once; it ends with 1 where an import was interrupted
            assert process.returncode in (-signal.SIGINT, 1)
            assert said.count("Traceback") == 1
            assert said.endswith("KeyboardInterrupt\n")
        assert [queue["name"] for queue in broker.list_queues("/") if queue["name"] != "it"] == []


WITHOUT_EPOLL = """
import select
del select.epoll  # before anything else is imported

import json, sys
from neon_mq_connector import MQConnector

order = json.loads(sys.argv[1])
vhost = order["vhost"]

class Service(MQConnector):
    def answer(self, channel, method, properties, body):
        self.send_message({"message_id": properties.message_id, "text": "here"}, vhost, queue="out")

    async def answer_async(self, channel, method, properties, body):
        self.answer(channel, method, properties, body)

    def take(self, channel, method, properties, body):
        taken.append(properties.message_id)
        if len(taken) == 3:
            all_taken.set()

import threading
taken, all_taken = [], threading.Event()
service = Service(order["config"], "test_service")
service.register_consumer("threaded", vhost, "threaded", service.answer, async_consumer=False)
service.register_consumer("select", vhost, "select", service.answer, async_consumer=True)
service.register_consumer("aio", vhost, "aio", service.answer_async)
service.register_consumer("out", vhost, "out", service.take)
service.run(run_sync=False)
for queue in ("threaded", "select", "aio"):
    service.send_message({"message_id": queue}, vhost, queue=queue)
assert all_taken.wait(120), taken
assert service.check_health(), service.health()
service.stop()
print("ends")
"""


def test_consumers_of_each_kind_work_without_epoll(vhost: str, mq_config: dict[str, Any]) -> None:
    order = {"vhost": vhost, "config": mq_config}  # as under gevent or on macOS
    done = run_script(WITHOUT_EPOLL, json.dumps(order))
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr
