"""Certificates made for a test, and the settings of a broker and a client that use them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

OPENSSL = shutil.which("openssl")


class Certificates:
    """The certificates of a server and of its clients.

    Args:
        folder: where they are written.

    Attributes:
        authority: the certificate of the authority that both sides trust.
        stranger: one that signs itself and that nobody trusts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority, _ = self._make("authority")
        self._server = self._make("localhost", "authority")
        self._client = self._make("client", "authority")
        self._stranger = self._make("elsewhere")
        self.stranger = self._stranger[0]

    def _make(self, name: str, authority: str = "") -> tuple[Path, Path]:
        """Make a certificate for a host name and its key; without an authority it signs itself."""
        certificate, key = self._files(name)
        ca, ca_key = map(str, self._files(authority))
        assert OPENSSL is not None
        subprocess.run(
            [
                *(OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
                *("-keyout", str(key), "-out", str(certificate)),
                *(("-CA", ca, "-CAkey", ca_key) if authority else ()),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
        return certificate, key

    def _files(self, name: str) -> tuple[Path, Path]:
        return self._folder / f"{name}.pem", self._folder / f"{name}.key"

    def broker_config(self, port: int, *, demand: bool) -> dict[str, str]:
        """Return a broker's settings: a port for TLS, and whether clients must have a certificate.

        One that a client shows is verified in any case.
        """
        return {
            "listeners.ssl.1": f"127.0.0.1:{port}",
            "ssl_options.cacertfile": str(self.authority),
            "ssl_options.certfile": str(self._server[0]),
            "ssl_options.keyfile": str(self._server[1]),
            "ssl_options.verify": "verify_peer",
            "ssl_options.fail_if_no_peer_cert": str(demand).lower(),
        }

    @property
    def server_only(self) -> dict[str, str]:
        """The section `tls` of a client without a certificate of its own."""
        return {"ca_file": str(self.authority), "server_hostname": "localhost"}

    @property
    def client(self) -> dict[str, str]:
        """The section `tls` of a client that the broker trusts."""
        return {**self.server_only, **self._own(self._client)}

    @property
    def strange_client(self) -> dict[str, str]:
        """The section `tls` of a client whose certificate the broker does not trust."""
        return {**self.server_only, **self._own(self._stranger)}

    @staticmethod
    def _own(files: tuple[Path, Path]) -> dict[str, str]:
        certificate, key = files
        return {"cert_file": str(certificate), "key_file": str(key)}
