"""An AMQP 0-9-1 broker in pure Python, for tests.

Two layers. The broker knows no sockets: `node` has virtual hosts and users, `virtual_host` has
exchanges, queues and bindings, `queue` and `quorum` hold messages, `consumers` says whose turn it
is. The protocol knows no queues: `server` is the thread with the sockets, `connection` cuts bytes
into frames, `channel` turns methods into what the broker does, `publishing` and `consuming` are its
two sides. `broker` is what a test uses.
"""

from __future__ import annotations

from neon_mq_connector.testing.embedded.broker import EmbeddedBroker
from neon_mq_connector.testing.embedded.history import Event

__all__ = ["EmbeddedBroker", "Event"]
