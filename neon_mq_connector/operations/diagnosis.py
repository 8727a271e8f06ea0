"""Find out what keeps a service from working, from the name of its broker to its queues."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pika

from neon_mq_connector.api.base import BaseConnector
from neon_mq_connector.envelope import new_id
from neon_mq_connector.errors import AuthenticationError, MQError, VhostAccessError
from neon_mq_connector.handlers.registering import register_handlers
from neon_mq_connector.link import ChannelEvents
from neon_mq_connector.operations.findings import Finding, Level, error, ok, skipped, warning
from neon_mq_connector.operations.management import ManagementAPI, ManagementError
from neon_mq_connector.operations.queues import open_control
from neon_mq_connector.operations.service_queues import check_queues
from neon_mq_connector.operations.trying import Trial
from neon_mq_connector.service.configured import server_parameters
from neon_mq_connector.threads.quiet import quiet_pika

_CAPABILITIES = ("publisher_confirms", "basic.nack", "consumer_cancel_notify", "connection.blocked")
_DAY = 86400.0
_RENEW_WITHIN_DAYS = 30
_PAUSE = 0.5
#: A new connection is listed after some seconds.
_LISTED_WITHIN = 7.0
#: A difference that does not matter, in seconds; opening a connection may take as long.
_CLOCK_DIFFERENCE = 5.0


def diagnose(
    connector: BaseConnector,
    *,
    vhost: str | None = None,
    management: ManagementAPI | str | None = None,
    timeout: float = 10.0,
) -> list[Finding]:
    """Find out what keeps a service from working.

    Nothing of what is tried stays on the broker, and no consumer is started.

    Args:
        connector: an `MQConnector` or `AsyncMQConnector`. Its configuration is checked, and the
            queues of its consumers: those that are registered with it, and the handlers of its
            class, which are registered for that.
        vhost: the virtual host to look at, as it is; that of the connector by default.
        management: the management interface of the broker, or its URL; by default that of the
            setting ``management_url``, or of the usual port of its host.
        timeout: for each step, in seconds.

    Returns:
        What was found, in the order of the checks; see `Finding`. A check that makes no sense after
        the failure of another is a warning that says so.

    Raises:
        ConfigurationError: the configuration cannot be used.
        TypeError, ValueError: a handler cannot work, as it is declared.
    """
    register_handlers(connector)
    with quiet_pika():
        return list(_findings(connector, vhost or connector.vhost, management, timeout))


def _findings(
    service: BaseConnector, vhost: str, management: ManagementAPI | str | None, timeout: float
) -> Iterator[Finding]:
    name = f"neon-mq doctor {new_id()[:12]}"
    servers = server_parameters(
        service,
        vhost,
        client_properties={"connection_name": name},
        socket_timeout=timeout,
        stack_timeout=timeout,
    )
    user = str(service.mq_credentials.username)
    reached = []
    for server in servers:
        found = list(_check_server(server, timeout))
        yield from found
        if all(each.level is not Level.ERROR for each in found):
            reached.append(server)
    if not reached:
        yield skipped("password", "no server can be reached")
        return
    with open_control(reached) as control:
        try:
            control.link.open_channel(ChannelEvents(), timeout=3 * timeout)
        except MQError as failure:
            yield from _refused(failure, user, vhost)
            return
        connected = time.time()
        yield ok("password", f"accepted for user {user!r}")
        yield ok("virtual host", f"{vhost!r} is open to this user")
        yield from _about_the_broker(*control.link.agreed)
        trial = Trial(control, service.service_name, reached[0], timeout)
        yield from trial.alarms()
        if not isinstance(management, ManagementAPI):
            management = ManagementAPI.of(reached[0], management or service.settings.management_url)
            management.timeout = timeout
        clock = _check_clock(management, vhost, name, connected)
        yield clock
    # another connection: an alarm blocks the first one, and would keep its queues
    with open_control(reached) as control:
        again = Trial(control, service.service_name, reached[0], timeout)
        yield from again.permissions(trial.obstacle)
        yield again.transient_queues()
    yield from check_queues(
        service.consumers, reached, management if clock.check == "clock" else None, timeout
    )


def _check_server(parameters: pika.ConnectionParameters, timeout: float) -> Iterator[Finding]:
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


def _refused(failure: Exception, user: str, vhost: str) -> Iterator[Finding]:
    """Return what the broker has refused at the login, with its remedy."""
    if isinstance(failure, VhostAccessError):
        yield ok("password", "accepted")
        yield error(
            "virtual host",
            str(failure),
            f"rabbitmqctl add_vhost '{vhost}', and set_permissions -p '{vhost}' '{user}' "
            "'.*' '.*' '.*'",
        )
    elif isinstance(failure, AuthenticationError):
        yield error(
            "password",
            str(failure),
            f"correct the password, or rabbitmqctl change_password '{user}'",
        )
    else:
        yield error("broker", str(failure), "see that RabbitMQ listens there, and look at its log")
    yield skipped("permissions and queues", "there is no connection")


def _about_the_broker(
    properties: dict[str, Any], agreed: pika.connection.Parameters
) -> Iterator[Finding]:
    broker = f"{properties.get('product', 'unknown')} {properties.get('version', '')}".strip()
    capabilities = properties.get("capabilities") or {}
    missing = [each for each in _CAPABILITIES if not capabilities.get(each)]
    if missing:
        yield error(
            "broker", f"{broker} has no {', '.join(missing)}", "use RabbitMQ 3.8 or a later one"
        )
    else:
        yield ok("broker", f"{broker}, with all that is needed")
    lines = f"frames of {agreed.frame_max} bytes, {agreed.channel_max} channels"
    if agreed.heartbeat:
        yield ok("negotiated", f"heartbeat {agreed.heartbeat} s, {lines}")
    else:
        yield warning(
            "negotiated",
            f"no heartbeat, {lines}; a connection that is cut off is not noticed",
            "set `heartbeat` in the configuration, and on the broker, to 60",
        )


def _check_clock(
    management: ManagementAPI, vhost: str, connection_name: str, connected: float
) -> Finding:
    """Compare the clock of the broker with ours, by when it says that a connection was opened.

    The finding is about ``"management"`` where that does not answer.
    """
    deadline = time.monotonic() + _LISTED_WITHIN
    try:
        while time.monotonic() < deadline:
            for row in management.call("GET", "vhosts", vhost, "connections"):
                if row.get("user_provided_name") == connection_name:
                    ahead = row["connected_at"] / 1000 - connected
                    if abs(ahead) <= _CLOCK_DIFFERENCE:
                        return ok(
                            "clock", f"that of the broker is ours, within {_CLOCK_DIFFERENCE:g} s"
                        )
                    way = "ahead of" if ahead > 0 else "behind"
                    return warning(
                        "clock",
                        f"that of the broker is {abs(ahead):.0f} s {way} ours",
                        "have both machines follow a time server (NTP)",
                    )
            time.sleep(_PAUSE)
    except ManagementError as failure:
        return warning("management", "clock and policies are not checked", str(failure))
    return skipped("clock", "the management interface does not list our connection")
