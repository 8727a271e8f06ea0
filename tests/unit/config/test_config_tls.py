from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from neon_mq_connector.config import MQSettings, TLSSettings, create_ssl_context
from neon_mq_connector.errors import ConfigurationError

FILE = "/etc/neon/mq.json"
PASSWORD = "hunter2-correct-horse"
CERTIFICATES = Path(__file__).parents[1] / "link" / "certificates"
#: A certificate that signs itself, with its key.
CERTIFICATE = str(CERTIFICATES / "localhost.pem")
#: The same key under `PASSWORD`.
LOCKED_KEY = str(CERTIFICATES / "locked.key")


def tls_of(value: Any) -> TLSSettings:
    return MQSettings.from_config({"tls": value}, source=FILE).tls


def test_certificate_and_name_are_checked_unless_told_otherwise() -> None:
    context = create_ssl_context(tls_of(True))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2

    lax = create_ssl_context(tls_of({"verify": False}))
    assert lax.verify_mode is ssl.CERT_NONE
    assert not lax.check_hostname


def test_a_named_authority_is_the_only_one_trusted() -> None:
    context = create_ssl_context(tls_of({"ca_file": CERTIFICATE}))
    assert context.cert_store_stats()["x509"] == 1


@pytest.mark.parametrize(
    "key", [{}, {"key_file": CERTIFICATE}, {"key_file": LOCKED_KEY, "key_password": PASSWORD}]
)
def test_a_certificate_with_its_key_is_loaded(key: dict[str, str]) -> None:
    create_ssl_context(tls_of({"cert_file": CERTIFICATE, **key}))


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_locked_key_without_its_password_is_an_error_and_nobody_is_asked(
    password: str | None,
) -> None:
    tls = tls_of({"cert_file": CERTIFICATE, "key_file": LOCKED_KEY, "key_password": password})
    with pytest.raises(ConfigurationError, match="key_password") as caught:
        create_ssl_context(tls)
    assert LOCKED_KEY in str(caught.value)


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
def test_a_file_that_is_not_there_or_holds_no_certificate_is_an_error_that_names_it(
    key: str, tmp_path: Path
) -> None:
    paths = [tmp_path / "missing.pem", tmp_path, tmp_path / ("x" * 300), Path("a\0b")]
    for content in (b"", b"no certificate", b"\xff\0\xfe"):
        paths.append(tmp_path / f"bad{len(content)}.pem")
        paths[-1].write_bytes(content)
    for path in paths:
        with pytest.raises(ConfigurationError, match=f"tls.{key}") as caught:
            create_ssl_context(tls_of({key: str(path)}))
        message = str(caught.value)
        assert str(path) in message or not str(path).isprintable()
        assert len(message.splitlines()) == 1


def test_a_path_is_expanded(home: Path) -> None:
    (home / "ca.pem").touch()
    assert tls_of({"ca_file": "~/ca.pem"}).ca_file == home / "ca.pem"


@pytest.mark.parametrize(
    "section",
    [
        {"key_file": __file__},
        {"ca_file": ""},
        {"server_hostname": ""},
        {"key_password": 5},
        [],
    ],
    ids=str,
)
def test_a_bad_value_is_one_line_that_names_key_and_file(section: Any) -> None:
    with pytest.raises(ConfigurationError, match="tls") as caught:
        tls_of(section)
    assert FILE in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
