"""The base class of all sections of the settings, and how a setting is declared.

A setting's type, default, unit, bounds and description stand together. The messages of errors and
the reference page are made from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, cast, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from neon_mq_connector.config.values import expand

LONGEST = 1_000_000.0
"""Seconds, about 11 days: what `poll` can wait at most is 2**31 ms."""


class Section(BaseModel):
    """A frozen section of the settings.

    A key whose value is null counts as left out, unless it may be null. Unknown keys belong to
    the service: they are in `extra`, unchanged. Only their names are in the ``repr``, since their
    values may be secret.
    """

    model_config = ConfigDict(
        frozen=True, extra="allow", hide_input_in_errors=True, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        fields = cls.model_fields.items()
        left_out = {name for name, f in fields if type(None) not in get_args(f.annotation)}
        return {str(k): v for k, v in data.items() if v is not None or str(k) not in left_out}

    @property
    def extra(self) -> dict[str, Any]:
        """The keys that are no settings, for the service to use; a new dict at each call."""
        return dict(self.model_extra or {})

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, field in type(self).model_fields.items():
            if field.repr:
                yield name, getattr(self, name)
        if self.model_extra:
            yield "extra", sorted(self.model_extra)


def setting(
    default: Any,
    *,
    expects: str,
    description: str,
    unit: str = "",
    group: str = "",
    **bounds: Any,
) -> Any:
    """Declare a setting.

    Args:
        default: its value when the configuration says nothing.
        expects: what it has to be; completes the sentence "this value is not ...".
        description: what it does, for the reference page.
        unit: the unit of its value; empty for what has none.
        group: the heading under which the reference page lists it and those that follow.
        bounds: passed to pydantic's `Field`.
    """
    return Field(
        default,
        description=description,
        json_schema_extra={"expects": expects, "unit": unit, "group": group},
        **bounds,
    )


def notes(field: FieldInfo) -> dict[str, str]:
    """Return what a setting is declared with: expects, unit and group."""
    return cast("dict[str, str]", field.json_schema_extra)


def seconds(default: float | None, *, zero: bool = False, **more: Any) -> Any:
    """Declare a setting that is a time span in seconds; see `setting`.

    Args:
        zero: whether 0 is allowed.
    """
    more["ge" if zero else "gt"] = 0.0
    least = "0 or more" if zero else "more than 0"
    return setting(
        default,
        expects=f"a number of seconds, {least} and at most {LONGEST:,.0f}",
        unit="s",
        le=LONGEST,
        **more,
    )


def whole(default: int, *, low: int, high: int, **more: Any) -> Any:
    """Declare a setting that is a whole number from ``low`` to ``high``; see `setting`."""
    return setting(
        default,
        expects=f"a whole number from {low:,} to {high:,}",
        ge=low,
        le=high,
        **more,
    )


# A ValueError of a validator is told with its own text, an AssertionError as "... is not ...", with
# what the setting expects.


def _no_bool(value: Any) -> Any:
    # To Python True is the number 1, and pydantic follows; in a configuration it is a mistake.
    if isinstance(value, bool):
        raise AssertionError
    return value


def _finite(value: float) -> float:
    # By hand: early versions of pydantic 2 know no allow_inf_nan beside other validators.
    if not math.isfinite(value):
        raise AssertionError
    return value


def _file(value: Any) -> Path:
    if not isinstance(value, (str, Path)) or not str(value).strip():
        raise AssertionError
    return expand(str(value).strip())


Number = Annotated[float, BeforeValidator(_no_bool), AfterValidator(_finite)]
Whole = Annotated[int, BeforeValidator(_no_bool)]
File = Annotated[Path, BeforeValidator(_file)]
