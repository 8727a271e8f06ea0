"""A node ends with the process that has started it, whatever it is doing then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from neon_mq_connector.testing.ports import free_ports
from neon_mq_connector.testing.process import NodeProcess
from tests.support.polling import eventually

#: A node that never gets ready, and has started another program.
_WAITING = "#!/bin/sh\nsleep 600 &\nsleep 600\n"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "node.sh"
    path.write_text(_WAITING)
    path.chmod(0o755)
    return path


def group_of(leader: int) -> list[int]:
    """Return the processes of a node's session: itself, what it has started, and its watcher."""
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_a_node_that_is_still_starting_ends_with_a_parent_that_is_killed(
    program: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    script = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from neon_mq_connector.testing.process import NodeProcess\n"
        "folder, program, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])\n"
        "node = NodeProcess(program, os.environ, folder / 'log', epmd_port=port,"
        " remove_with_parent=folder)\n"
        "print(node.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    (port,) = free_ports(1)
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), str(program), str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        node = int(parent.stdout.readline())
        try:
            eventually(lambda: len(group_of(node)) == 4, what="the node has started")
            parent.send_signal(signal.SIGKILL)
            eventually(lambda: not group_of(node), what="all of it has ended")
            eventually(lambda: not folder.exists(), what="its folder is gone")
        finally:
            parent.kill()


@pytest.mark.parametrize("ended_by", ["kill", "a crash"])
def test_a_node_that_has_ended_leaves_its_folder_for_the_next_start(
    ended_by: str, program: Path, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    node = NodeProcess(
        program, os.environ, tmp_path / "log", epmd_port=port, remove_with_parent=tmp_path
    )
    eventually(lambda: len(group_of(node.pid)) == 4, what="the node has started")
    if ended_by == "a crash":
        os.kill(node.pid, signal.SIGKILL)
        eventually(lambda: node.exit_code is not None)
        assert node._popen.stdin is not None
        node._popen.stdin.close()  # as when another takes its place
    node.kill()
    eventually(lambda: len(group_of(node.pid)) == 2, what="its watcher has ended")
    assert program.exists()
    os.killpg(node.pid, signal.SIGKILL)  # what it had started
