"""Import paths that services have always used. Code lives here only where services patch it."""

from __future__ import annotations

from neon_mq_connector.utils.connection_utils import retry, wait_for_mq_startup
from neon_mq_connector.utils.thread_utils import RepeatingTimer

__all__ = ["RepeatingTimer", "retry", "wait_for_mq_startup"]
