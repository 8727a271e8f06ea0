"""The settings of TLS, and the `ssl.SSLContext` that is made from them."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

from pydantic import SecretStr, field_validator
from pydantic_core.core_schema import ValidationInfo

from neon_mq_connector.config.section import File, Section, setting
from neon_mq_connector.config.values import TLS_IDENTITY, configuration_error


class TLSSettings(Section):
    """How to encrypt the connection to the broker and authenticate the broker."""

    enabled: bool = setting(
        True,
        expects="true or false",
        description="Whether connections are encrypted. True once there is a section `tls`.",
    )
    ca_file: File | None = setting(
        None,
        expects="the path of a file",
        description="Certificates of the authorities to trust, in PEM format. Without it, those "
        "that the system trusts.",
    )
    cert_file: File | None = setting(
        None,
        expects="the path of a file",
        description="The client's own certificate with its chain, in PEM format, for a broker "
        "that asks for one. It may hold the private key as well.",
    )
    key_file: File | None = setting(
        None,
        expects="the path of a file",
        description="The private key of `cert_file`, in PEM format, if it is not in that file.",
    )
    key_password: SecretStr | None = setting(
        None,
        expects="a text",
        description="The password of the private key, if it has one.",
    )
    verify: bool = setting(
        True,
        expects="true or false",
        description="Whether the broker's certificate must be valid, come from a trusted "
        "authority and bear the server's name. False accepts any server: for a test bench.",
    )
    server_hostname: str | None = setting(
        None,
        expects="a host name",
        description="The name that the broker's certificate has to bear, if it is another than "
        "the one that is connected to (a tunnel, an address, one certificate for a cluster).",
        min_length=1,
        max_length=253,
    )

    @field_validator("key_file")
    @classmethod
    def _belongs_to_a_certificate(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        # Without its entry in `data` the certificate was given, and has been refused already.
        if path is not None and info.data.get("cert_file", path) is None:
            raise ValueError("a key is of no use without its certificate; name that as cert_file")
        return path


def create_ssl_context(tls: TLSSettings) -> ssl.SSLContext:
    """Make the context for encrypted connections.

    Args:
        tls: the settings; `TLSSettings.enabled` is for the caller to look at.

    Returns:
        A context for clients: TLS 1.2 or later, and with `TLSSettings.verify` the certificate and
        the name in it are checked. Pass ``server_hostname`` (the setting, or else the host) along
        with it.

    Raises:
        ConfigurationError: a certificate or key cannot be used; the message names key and file.
    """
    key_file = tls.key_file or tls.cert_file
    what, remedy = f"tls.ca_file: {tls.ca_file}", "it has to hold certificates in PEM format"
    try:
        # Given at once, and not loaded later, it keeps the system's authorities out.
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            what = f"tls.cert_file: {tls.cert_file} with the key in {key_file}"
            remedy = (
                "they have to be a certificate and its private key in PEM format, and "
                "tls.key_password the password of that key if it has one"
            )
            # An empty password instead of none: OpenSSL would ask at the terminal, and a service
            # hang.
            password = tls.key_password.get_secret_value() if tls.key_password else ""
            context.load_cert_chain(tls.cert_file, key_file, password=password)
    except (OSError, ValueError) as error:
        text = f"{what} cannot be used ({_reason(error)}); {remedy}"
        raise configuration_error(text) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not tls.verify:
        # In this order: ssl refuses to drop the certificate while the name is to be checked.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    files = [
        path and hashlib.sha256(path.read_bytes()).digest()
        for path in (tls.ca_file, tls.cert_file, tls.key_file)
    ]
    setattr(context, TLS_IDENTITY, (tls.verify, *files))
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason.replace("_", " ").lower() if error.reason else "not in PEM format"
    if isinstance(error, OSError):
        return (error.strerror or "unreadable").lower()
    return "unreadable"
