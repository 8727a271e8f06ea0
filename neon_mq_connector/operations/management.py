"""Calls of the HTTP interface that RabbitMQ's management plugin serves."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.error
import urllib.request
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

import pika

from neon_mq_connector.errors import ConfigurationError, MQError

_PORT = 15672
_TLS_PORT = 15671


class ManagementError(MQError):
    """The management interface refused a call or could not be reached.

    Attributes:
        status: the HTTP status of the refusal, or None when there was no answer at all.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ManagementAPI:
    """Call the management interface of one broker.

    Args:
        url: of the interface, without `/api`.
        username: a user with the tag `management` or a higher one.
        password: of that user.
        timeout: seconds that one call may take.
        context: for `https`; the system's authorities are trusted by default.
    """

    def __init__(
        self,
        url: str,
        username: str,
        password: str,
        *,
        timeout: float = 15.0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.username = username
        self.timeout = timeout
        self._password = password
        self._context = context

    @classmethod
    def of(cls, parameters: pika.ConnectionParameters, url: str | None = None) -> ManagementAPI:
        """Return the interface of the broker that connection parameters lead to.

        Args:
            parameters: whose host, user and TLS context are used.
            url: of the interface; by default port 15672 of the same host, 15671 with TLS.

        Raises:
            ConfigurationError: the URL cannot be used, or there is no password.
        """
        tls = parameters.ssl_options
        if url is None:
            host = f"[{parameters.host}]" if ":" in parameters.host else parameters.host
            url = f"https://{host}:{_TLS_PORT}" if tls is not None else f"http://{host}:{_PORT}"
        _check(url)
        credentials = parameters.credentials
        if not isinstance(credentials, pika.PlainCredentials):
            raise ConfigurationError("the management interface needs a user and a password")
        user, password = str(credentials.username), str(credentials.password)
        return cls(url, user, password, context=None if tls is None else tls.context)

    def call(self, method: str, *path: str, query: str = "", body: object = None) -> Any:
        """Make one call.

        Args:
            method: the HTTP method.
            path: the parts of the path below `/api`, unquoted: names may hold slashes.
            query: what follows the question mark.
            body: sent as JSON; None sends nothing.

        Returns:
            The decoded answer, or None where there is no content.

        Raises:
            ManagementError: refused, or no answer; `status` tells which.
        """
        where = "/".join(quote(part, safe="") for part in path)
        login = base64.b64encode(f"{self.username}:{self._password}".encode()).decode()
        request = urllib.request.Request(
            f"{self.url}/api/{where}{'?' + query if query else ''}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )
        # no proxy from the environment: AMQP goes straight to the broker, too
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._context)
        )
        try:
            with opener.open(request, timeout=self.timeout) as response:
                content = response.read()
            return json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            with error:
                reason = error.read().decode(errors="replace").strip()
            text = f"{method} {where}: {error.code} {reason or error.reason}"
            if error.code == HTTPStatus.UNAUTHORIZED:
                text = (
                    f"the management interface at {self.url} does not accept user "
                    f"{self.username!r}; give the user the tag 'management'"
                )
            raise ManagementError(text, status=error.code) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = getattr(error, "reason", None) or error
            raise ManagementError(
                f"no management interface answers at {self.url}: {str(cause) or repr(cause)}; "
                "enable the plugin rabbitmq_management, or give its address with --management URL"
            ) from error


def _check(url: str) -> None:
    with suppress(ValueError):
        parts = urlsplit(url)
        is_http = parts.scheme in ("http", "https") and bool(parts.hostname)
        if is_http and parts.username is None and parts.port != 0:
            return
    # not quoted: there may be a password in it
    raise ConfigurationError(
        "the address of the management interface cannot be used; write http://host:15672 or "
        "https://host:15671, without user and password"
    )
