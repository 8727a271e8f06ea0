"""A script that asks a service once, prints the answer, and ends."""

from __future__ import annotations

import json
import sys

from neon_mq_connector.utils import client_utils
from neon_mq_connector.utils.client_utils import send_mq_request


def main() -> int:
    config, vhost, queue, request = (json.loads(argument) for argument in sys.argv[1:5])
    client_utils._default_mq_config = config
    answer = send_mq_request(vhost, request, queue, timeout=30)
    print("ANSWER", json.dumps(answer))
    send_mq_request(vhost, {"note": "done"}, f"{queue}_notes", expect_response=False)
    return 0 if answer else 1


if __name__ == "__main__":
    sys.exit(main())
