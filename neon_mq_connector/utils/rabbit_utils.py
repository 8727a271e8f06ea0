"""An import path that services have always used."""

from neon_mq_connector.decoded_callback import create_mq_callback as create_mq_callback
