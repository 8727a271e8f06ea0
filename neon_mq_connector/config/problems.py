"""Describe pydantic's list of errors in one line that says what to do and repeats no secret."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from neon_mq_connector.config.section import Section, notes
from neon_mq_connector.config.sources import Source
from neon_mq_connector.config.values import kind_of

Steps = tuple[int | str, ...]

#: Python refuses to write a whole number of thousands of digits.
_LARGEST_SHOWN = 10**18


def describe(error: ValidationError, model: type[Section], source: Source) -> str:
    """Describe in one line what is wrong: the first problem in full, with the keys of the others.

    Args:
        error: what pydantic found.
        model: the class that the configuration was validated for.
        source: where the configuration came from.
    """
    errors = error.errors(include_url=False)
    first = errors[0]
    keys = list(dict.fromkeys(_key(item["loc"]) for item in errors))
    key = _key(first["loc"])
    if first["type"] == "value_error":
        what, remedy = str(first["ctx"]["error"]), "correct"
    else:
        shown = _shown(first["input"], key)
        what, remedy = f"{shown} is not {_expected(model, first['loc'])}", "set"
    place = f"{remedy} {source.prefix}{key}" if key else "correct it"
    more = f" (also wrong: {', '.join(keys[1:])})" if len(keys) > 1 else ""
    return f"{key or 'configuration'}: {what}; {place} in {source.name}{more}"


def _key(path: Steps) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _expected(model: type[Section], path: Steps) -> str:
    expectation = "an object"
    section: type[BaseModel] | None = model
    for step in path:
        field = section.model_fields.get(str(step)) if section is not None else None
        if field is not None:
            expectation = notes(field)["expects"]
            section = section_of(field)
        elif section is not None and isinstance(step, str):
            expectation = "an object with user and password"
    return expectation


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the class of the section that a setting holds, or a dict of them; None for others."""
    kind = field.annotation
    for candidate in (kind, *getattr(kind, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _shown(value: Any, key: str) -> str:
    """Return a number, or the kind of another value: a text may be a misplaced password."""
    is_secret = key.startswith("users") or "password" in key
    if is_secret or not isinstance(value, (int, float)) or abs(value) > _LARGEST_SHOWN:
        return kind_of(value)
    return repr(value)


_LOGIN = "how a service logs in stands under users.<service>, or for all under users.default"
_VHOST = "a service sets its virtual host itself, a client passes it; NEON_MQ_URL may name it"
#: What people write at the top, with what they mean.
_MISPLACED = {
    "host": "is it server?",
    "hostname": "is it server?",
    "user": _LOGIN,
    "username": _LOGIN,
    "password": _LOGIN,
    "vhost": _VHOST,
    "virtual_host": _VHOST,
    "mq": "is it MQ?",
    "url": "give the URL in the environment variable NEON_MQ_URL",
}


def unknown_keys(
    section: Section, misplaced: Mapping[str, str] = _MISPLACED, prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Iterate over the unknown keys that look like a setting, each with what may be meant.

    Unknown keys are the service's and no mistake, so a misspelt one would go unnoticed.

    Args:
        section: the settings, or a section of them.
        misplaced: keys that are no settings here, each with what may be meant.
        prefix: the key of the section with a dot behind it.
    """
    known = type(section).model_fields
    for key in section.extra:
        close = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.75)
        meant = misplaced.get(key.lower()) or (f"is it {close[0]}?" if close else "")
        if meant:
            yield f"{prefix}{key}", meant
    for name in known:
        value = getattr(section, name)
        entries = value.items() if isinstance(value, dict) else ()
        within = {name: value, **{f"{name}.{key}": each for key, each in entries}}
        for key, each in within.items():
            if isinstance(each, Section):
                yield from unknown_keys(each, {}, f"{prefix}{key}.")
