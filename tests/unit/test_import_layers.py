"""Who may import whom: what import-linter's layers (in pyproject.toml) do not say."""

from __future__ import annotations

import re
from pathlib import Path

import neon_mq_connector
from tests.support.programs import python

PACKAGE = Path(neon_mq_connector.__file__).parent
ROOT = PACKAGE.parent

# Where pika connections are opened. The last two open theirs for a moment and for one purpose:
# `probe` asks whether a broker is there, and utils/ keeps legacy functions.
OPENERS = ("link/", "control/probe.py", "utils/")
_OPENS = re.compile(r"^(?!\s*\.\.\. ).*\b(Blocking|Select|Asyncio)Connection\(", re.MULTILINE)


def test_each_module_under_aio_has_its_layer() -> None:
    # what stands there belongs to more than one layer, so they are named one by one
    layers = (ROOT / "pyproject.toml").read_text()
    modules = {path.stem for path in (PACKAGE / "aio").glob("[a-z]*")}
    assert not {name for name in modules if f"(aio.{name})" not in layers}


def test_only_link_and_control_open_pika_connections() -> None:
    openers = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if _OPENS.search(file.read_text())
    }
    assert openers
    assert not {path for path in openers if not path.startswith(OPENERS)}


def test_importing_the_package_brings_no_command_line_and_no_asyncio_client() -> None:
    program = (
        "import sys, ovos_config, ovos_utils, pika\n"
        "before = set(sys.modules)\n"
        "import neon_mq_connector.connector, neon_mq_connector.utils.client_utils\n"
        "from neon_mq_connector.consumers import SelectConsumerThread\n"
        "print(*sorted(name.partition('.')[0] for name in set(sys.modules) - before))\n"
    )
    assert not {"aio_pika", "click", "rich", "rich_click"} & set(python("-c", program).split())
