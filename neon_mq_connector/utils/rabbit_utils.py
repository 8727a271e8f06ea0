"""An import path that services have always used."""

from __future__ import annotations

from neon_mq_connector.decoded_callback import create_mq_callback

__all__ = ["create_mq_callback"]
