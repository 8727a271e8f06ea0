"""An import path that services have always used."""

from __future__ import annotations

from neon_mq_connector.threads.errands import RepeatingTimer

__all__ = ["RepeatingTimer"]
