"""A client on the published package: it sends requests and says what came back."""

from __future__ import annotations

from typing import Any

# beside this file, where Python looks first when it runs a script of this folder
import lines  # type: ignore[import-not-found]

from neon_mq_connector.utils import client_utils


def main() -> None:
    """Send requests until the test hangs up."""
    settings = lines.setup()
    # what stands there is somebody's server: nothing of ours may ever be sent to it
    client_utils._default_mq_config.clear()
    if settings["config"] is not None:
        client_utils._default_mq_config.update(settings["config"])
    vhost = settings["vhost"]

    def request(target: str, data: dict[str, Any], **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = client_utils.send_mq_request(vhost, data, target, **options)
        return answer

    lines.answer({"request": request}, at_once=True)


if __name__ == "__main__":
    main()
