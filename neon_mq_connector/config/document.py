"""Write the reference page on configuration from what the settings say of themselves.

``python -m neon_mq_connector.config.document docs/reference/configuration.md`` writes the page;
with ``--check`` it is only compared, and the exit code is 1 when it is out of date.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from neon_mq_connector.config.problems import notes
from neon_mq_connector.config.section import Section
from neon_mq_connector.config.settings import BROKER, MQSettings
from neon_mq_connector.config.tls import TLSSettings
from neon_mq_connector.config.tuning import CONNECTIONS, CONSUMING, FAILURES, SENDING
from neon_mq_connector.config.users import UserSettings

COMMAND = "python -m neon_mq_connector.config.document docs/reference/configuration.md"

_HEAD = f"""\
<!-- Generated from the settings' own descriptions. Do not edit; run:
     {COMMAND} -->

# Configuration

A service needs to know where its broker is and how to log in there:

```json
{{
  "MQ": {{
    "server": "mq.example",
    "port": 5672,
    "users": {{
      "my_service": {{"user": "my_name", "password": "my_password"}}
    }}
  }}
}}
```

Everything else has a default. Without any configuration the broker is looked for at `localhost`,
port 5672; there are no default credentials.

## Where it is read from

The first of these that exists is used, whole. Nothing is merged, so what one file says is all there
is.

1. The dict passed to the constructor: `MQConnector(config, "my_service")`. An empty one counts as
   none.
2. The JSON file named by the environment variable `NEON_MQ_CONFIG_PATH`.
3. `~/.config/neon/mq_config.json`, or `neon/mq_config.json` under `$XDG_CONFIG_HOME` where that is
   set.
4. `~/.local/share/neon/credentials.json`.
5. The `MQ` section of the configuration of ovos-config.

In each of them the settings may stand at the top or under `MQ`. A file that exists and cannot be
read is an error; the next source is not taken in its stead. Files are JSON in UTF-8.

A key with the value `null` is as good as left out. Keys that are not listed here belong to the
service: they are kept and never cause an error. One that looks like a slip of the pen is logged as
a warning.
"""

_EXAMPLES = """\
## Examples

### From Python

```python
from neon_mq_connector.config import load_settings

settings = load_settings(
    {
        "server": "mq.example",
        "users": {
            "my_service": {
                "user": "my_name",
                "password": "my_password",
                "limits": {"longest_text": 500},
            }
        },
    }
)
assert [str(endpoint) for endpoint in settings.endpoints] == ["mq.example:5672"]
assert settings.heartbeat == 60

login = settings.credentials_for("my_service")
assert (login.username, login.password) == ("my_name", "my_password")
assert "my_password" not in repr(login) + repr(settings)
```

### Properties of a service

Whatever stands beside the credentials of a service is its own. A connector with the `property_key`
`"limits"` reads that group of them.

```python
from neon_mq_connector.config import load_settings

settings = load_settings({"MQ": {"users": {"my_service": {"limits": {"longest_text": 500}}}}})
assert settings.service_properties("my_service", "limits") == {"longest_text": 500}
assert settings.service_properties("my_service", "nothing_here") == {}
```

### A cluster

The servers are tried in shuffled order, at the start and after each loss. A `server` that is given
as well is one more of them, so that a file may serve peers that know no `servers`.

```json
{"MQ": {"server": "mq1", "servers": ["mq1", "mq2:5673", {"server": "mq3", "port": 5674}]}}
```

```python
from neon_mq_connector.config import load_settings

settings = load_settings({"server": "mq1", "servers": ["mq1", "mq2:5673", "[fd00::3]:5674"]})
assert [str(e) for e in settings.endpoints] == ["mq1:5672", "mq2:5673", "[fd00::3]:5674"]

only_servers = load_settings({"port": 5673, "servers": ["mq1", "mq2"]})
assert [str(e) for e in only_servers.endpoints] == ["mq1:5673", "mq2:5673"]
```

### TLS

```json
{
  "MQ": {
    "server": "mq.example",
    "tls": {
      "ca_file": "/etc/ssl/my_authority.pem",
      "cert_file": "~/.config/neon/my_service.pem",
      "key_file": "~/.config/neon/my_service.key",
      "key_password": "my_key_password"
    }
  }
}
```

`"tls": true` is enough where the broker's certificate comes from an authority that the system
trusts. Files that are named have to exist.

```python
import ssl

from neon_mq_connector.config import create_ssl_context, load_settings

settings = load_settings({"server": "mq.example", "tls": True})
assert settings.port == 5671

context = create_ssl_context(settings.tls)
assert context.check_hostname
assert context.verify_mode is ssl.CERT_REQUIRED
```

### JSON on the wire, and other times

```json
{"MQ": {"wire_format": "json", "request_timeout": 5, "prefetch_count": 200}}
```

### A file

```python
import json
import os
import tempfile
from pathlib import Path

from neon_mq_connector.config import load_neon_mq_config, load_settings

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "mq.json")
    path.write_text(json.dumps({"MQ": {"server": "mq.example"}}))
    os.environ["NEON_MQ_CONFIG_PATH"] = str(path)
    try:
        assert load_settings().server == "mq.example"
        assert load_settings().source == str(path)
        assert load_neon_mq_config() == {"server": "mq.example"}
    finally:
        del os.environ["NEON_MQ_CONFIG_PATH"]
```

### A mistake

Every mistake is one `ConfigurationError` (which is a `ValueError`) with one line that names the
key, the source and what would make it work. No secret is repeated in it.

```python
from neon_mq_connector.config import load_settings
from neon_mq_connector.errors import ConfigurationError

try:
    load_settings({"MQ": {"port": 70000}})
except ConfigurationError as error:
    said = str(error)
assert said == (
    "port: 70000 is not a port (1-65535); set MQ.port in the dict passed to the constructor"
)
```

An entry under `users` may lack `user` and `password`, for a service that keeps only properties
there. That is an error when the service logs in, and it names the service.
"""

_ENVIRONMENT = """\
## Environment variables

- `NEON_MQ_CONFIG_PATH`: the path of a JSON file to read the configuration from. A leading `~` is
  expanded. A file that is missing is an error.
- `MQ_ASYNC_CONSUMERS`: a boolean; whether callbacks that are functions have a
  `SelectConsumerThread` where their registration does not say.
- `MQ_TESTING`, or `<SERVICE>_TESTING` for one service: a boolean; in testing mode virtual hosts get
  a prefix.
- `MQ_TESTING_PREFIX`, or `<SERVICE>_TESTING_PREFIX`: that prefix.

Booleans are `1`, `true`, `yes`, `on`, or `0`, `false`, `no`, `off` and the empty text, in upper or
lower case. Anything else is a `ConfigurationError` that names the variable.

```python
import os

from neon_mq_connector.config import env_flag

os.environ["MQ_TESTING"] = "false"
assert env_flag("MQ_TESTING") is False
del os.environ["MQ_TESTING"]
assert env_flag("MQ_TESTING", default=True) is True
```
"""


def render() -> str:
    """Make the page.

    Returns:
        Markdown, ending in one newline.
    """
    parts = [_HEAD, "## The keys\n"]
    for group in (BROKER, CONNECTIONS, CONSUMING, SENDING, FAILURES):
        parts.append(f"### {group}\n\n{_table(MQSettings, group)}")
    parts.append(f"### `users.<service>`\n\n{_sentence(UserSettings)}\n\n{_table(UserSettings)}")
    parts.append(f"### `tls`\n\n{_sentence(TLSSettings)}\n\n{_table(TLSSettings)}")
    parts += [_ENVIRONMENT, _EXAMPLES]
    return "\n".join(parts)


def _sentence(section: type[Section]) -> str:
    return (section.__doc__ or "").splitlines()[0]


def _table(section: type[Section], group: str = "") -> str:
    rows = ["| key | value | default | unit | meaning |", "|---|---|---|---|---|"]
    rows += _rows(section, group)
    return "\n".join(rows) + "\n"


def _rows(section: type[Section], group: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        said = notes(field)
        if said["group"] == group:
            cells = (f"`{name}`", said["expects"], _default(field), said["unit"])
            yield f"| {' | '.join((*cells, field.description or ''))} |"


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, TLSSettings):
        value = value.enabled
    return f"`{value:.12g}`" if isinstance(value, float) else f"`{json.dumps(value)}`"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or compare it.

    Args:
        arguments: the command line; None for that of the process.

    Returns:
        The exit code: 0, or 1 when ``--check`` finds a page that is out of date.
    """
    parser = argparse.ArgumentParser(description="Write the reference page on configuration.")
    parser.add_argument("path", type=Path, help="the page, e.g. docs/reference/configuration.md")
    parser.add_argument(
        "--check", action="store_true", help="compare only; exit with 1 if it differs"
    )
    options = parser.parse_args(arguments)
    page = render()
    if not options.check:
        options.path.parent.mkdir(parents=True, exist_ok=True)
        options.path.write_text(page, encoding="utf-8")
        return 0
    if options.path.is_file() and options.path.read_text(encoding="utf-8") == page:
        return 0
    print(f"{options.path} is out of date; run: {COMMAND}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
