"""The pictures of the page that shows the state of a service: ``scripts/pictures`` makes them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from neon_mq_connector.testing import EmbeddedBroker
from tests.docs.pages import ROOT
from tests.support.browser import Browser
from tests.support.watched import broken, healthy

FOLDER = ROOT / "docs" / "images"


def main() -> None:
    """Draw all of them."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, EmbeddedBroker() as broker:
        browser = Browser.find(Path(profile))
        if browser is None:
            sys.exit("there is no Chromium: install the package chromium")
        with healthy(broker) as server:
            browser.draw(server.url, FOLDER / "health-healthy.png", width=1100, height=760)
        with broken(broker) as server:
            url = server.url
            browser.draw(url, FOLDER / "health-broken.png", width=1100, height=900, dark=True)
            browser.draw(url, FOLDER / "health-phone.png", width=500, height=1100)


if __name__ == "__main__":
    main()
