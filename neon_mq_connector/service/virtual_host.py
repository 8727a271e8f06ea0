"""The rule by which the name of a virtual host gets its prefixes."""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=256)
def with_prefix(vhost: str, prefix: str) -> str:
    """Put a prefix before the name of a virtual host.

    Args:
        vhost: the name, with or without its leading ``/``.
        prefix: the prefix; empty for none.

    Returns:
        ``/<prefix>_<name>``; a prefix that is there already is not added again, a trailing ``_`` is
        dropped, a leading ``/`` added.
    """
    name = vhost.lstrip("/") if vhost else ""
    if prefix and name != prefix and not name.startswith(f"{prefix}_"):
        name = f"{prefix}_{name}"
    if name.endswith("_"):
        name = name[:-1]
    return f"/{name}"
