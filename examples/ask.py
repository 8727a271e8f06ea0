"""Ask the service of `echo_service.py` and print its answer.

NEON_MQ_CONFIG_PATH=mq.json python examples/ask.py hello
"""

from __future__ import annotations

import sys

from neon_mq_connector import send_mq_request

if __name__ == "__main__":
    text = " ".join(sys.argv[1:]) or "hello"
    answer = send_mq_request("/", {"text": text}, "echo_input", timeout=10)
    if not answer:
        sys.exit("no answer: is examples/echo_service.py running?")
    print(answer["text"])
