"""Check whether a server can be reached: its name, its port and its certificate."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pika

from neon_mq_connector.operations.findings import Finding, error, ok, warning

_DAY = 86400.0
_RENEW_WITHIN_DAYS = 30


def check_server(parameters: pika.ConnectionParameters, timeout: float) -> Iterator[Finding]:
    """Check whether a server can be reached, within seconds for each step, up to an error."""
    host, port = parameters.host, parameters.port
    where = f"{host}:{port}"
    try:
        addresses = {row[4][0] for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as failure:
        yield error(
            "name",
            f"{host!r} is not known: {failure.strerror or failure}",
            "correct `server` in the configuration, or the name service of this machine",
        )
        return
    yield ok("name", f"{host} is {', '.join(sorted(map(str, addresses)))}")
    try:
        connected = socket.create_connection((host, port), timeout=timeout)
    except OSError as failure:
        yield error(
            "port",
            f"nothing answers at {where}: {failure.strerror or failure}",
            "start the broker, correct `server` and `port`, or open the port in the firewall",
        )
        return
    with connected:
        yield ok("port", f"{where} takes connections")
        if parameters.ssl_options is None:
            if not _all_local(addresses):
                yield warning(
                    "tls",
                    f"the connection to {where} is not encrypted; passwords can be read on its way",
                    "set `tls` in the configuration, and a TLS listener on the broker",
                )
            return
        yield _check_certificate(connected, parameters.ssl_options, where)


def _all_local(addresses: set[Any]) -> bool:
    return all(ipaddress.ip_address(str(each).partition("%")[0]).is_loopback for each in addresses)


def _check_certificate(sock: socket.socket, options: pika.SSLOptions, where: str) -> Finding:
    try:
        with options.context.wrap_socket(sock, server_hostname=options.server_hostname) as secured:
            certificate: dict[str, Any] = secured.getpeercert() or {}
            version = secured.version()
    except ssl.SSLCertVerificationError as failure:
        return error(
            "tls",
            f"the certificate of {where} is refused: {failure.verify_message}",
            "name its authority with `tls.ca_file`, its name with `tls.server_hostname`, or renew "
            "it",
        )
    except (OSError, ValueError) as failure:
        return error(
            "tls",
            f"no encrypted connection to {where}: {failure}",
            "name the port of the broker's TLS listener (5671 as a rule); where it asks for a "
            "certificate, set `tls.cert_file` and `tls.key_file`",
        )
    if not certificate:
        return warning(
            "tls",
            f"{version}; the certificate of {where} is not verified",
            "remove `tls.verify: false`, and name its authority with `tls.ca_file`",
        )
    days = int((ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / _DAY)
    message = f"{version}; the certificate of {where} is valid for {days} more days"
    if days < _RENEW_WITHIN_DAYS:
        return warning("tls", message, "renew it before then")
    return ok("tls", message)
