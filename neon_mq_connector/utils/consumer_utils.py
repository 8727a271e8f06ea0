"""An import path that services have always used."""

from __future__ import annotations

from neon_mq_connector.consumers.consumer_thread import default_error_handler

__all__ = ["default_error_handler"]
