"""Pictures of pages: the state of a service, and its contract; see ``scripts/pictures``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from neon_mq_connector.testing import EmbeddedBroker
from tests.docs.pages import ROOT, Page
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
        contract = _contract(Path(profile))
        browser.draw(contract.as_uri(), FOLDER / "asyncapi.png", width=900, height=862)


def _contract(folder: Path) -> Path:
    """Write the page that describes the service which the documentation has for that."""
    page = Page(ROOT / "docs" / "how-to" / "describe-your-service.md")
    program = next(each for each in page.blocks() if each.file_name == "shop.py")
    (folder / "shop.py").write_text(program.text, encoding="utf-8")
    command = ["-m", "neon_mq_connector.cli", "asyncapi", "shop:Shop", "--output", "shop.html"]
    subprocess.run([sys.executable, *command], cwd=folder, check=True, timeout=120)
    return folder / "shop.html"


if __name__ == "__main__":
    main()
