"""An import path that services have always used."""

from __future__ import annotations

from neon_mq_connector.threads.repeating_timer import RepeatingTimer

__all__ = ["RepeatingTimer"]
