"""`python -m neon_mq_connector.cli` is `neon-mq`."""

from __future__ import annotations

from neon_mq_connector.cli import main

if __name__ == "__main__":
    main()
