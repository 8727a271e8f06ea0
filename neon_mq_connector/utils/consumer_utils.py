"""An import path that services have always used."""

from neon_mq_connector.consumers.consumer_thread import (
    default_error_handler as default_error_handler,
)
