"""An import path that services have always used."""

from __future__ import annotations

from neon_mq_connector.threads.on_demand import RepeatingTimer

__all__ = ["RepeatingTimer"]
