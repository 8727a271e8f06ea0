"""The types that handlers declare, and the conversion of dicts to them and back.

Models of pydantic, dataclasses and `TypedDict` are converted by pydantic, which is imported when
the first of them is used. In both wire formats a model is sent as it is in JSON, by its aliases.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, get_args, get_origin

from neon_mq_connector.envelope import ENVELOPE
from neon_mq_connector.errors import InvalidAnswerError, InvalidRequestError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

EXPECTED = "a pydantic model with fields, a dataclass, a TypedDict or dict"

#: How many faults an error's text names; all are in its details.
_MAX_FAULTS = 5


class MessageType:
    """A type that a handler declares.

    Args:
        annotation: as it is declared, resolved; `Any` for none.

    Attributes:
        is_dict: whether a message is passed on as a dict.
        is_none: whether there is no message.

    Raises:
        TypeError: no message can be of that type.
    """

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        members = [_member(each) for each in _members(annotation)]
        self._classes = tuple(each.kind for each in members)
        self.is_none = all(each is types.NoneType for each in self._classes)
        self.is_dict = all(each.is_mapping for each in members)
        self._may_be_none = self.is_dict or types.NoneType in self._classes
        self._needs_validation = any(each.is_open for each in members)
        takes_dict = any(each.is_mapping for each in members)
        names = frozenset().union(*(each.names for each in members))
        self._left_out = frozenset() if takes_dict else ENVELOPE - names

    def __str__(self) -> str:
        """Return its name."""
        return name_of_type(self._annotation)

    @functools.cached_property
    def adapter(self) -> TypeAdapter[Any] | None:
        """The adapter of pydantic; None for a dict of any content, and for None.

        Raises:
            TypeError: pydantic cannot convert to it.
        """
        if self.is_dict or self.is_none:
            return None
        try:
            return _adapter_of(self._annotation)
        except Exception as error:
            reason = str(error).partition("\n")[0]  # more about pydantic than about the type
            raise TypeError(f"pydantic cannot convert to {self}: {reason}") from error

    def is_nothing(self, value: Any) -> bool:
        """Whether a value is no answer, and may be: None, or an empty dict of no declared type."""
        if value is None:
            return self._may_be_none
        return self.is_dict and isinstance(value, dict) and not value

    def read(self, data: dict[str, Any]) -> Any:
        """Convert a dict to what is declared.

        Raises:
            InvalidRequestError: the dict does not fit.
        """
        if self.adapter is None:
            return data
        data = data.copy()
        for key in self._left_out:
            data.pop(key, None)
        return validate(self.adapter.validate_python, data, self)

    def write(self, value: Any) -> dict[str, Any]:
        """Convert what is declared to a dict.

        Raises:
            InvalidAnswerError: the value is of another type.
        """
        if self.is_dict:
            return as_dict(value)
        if value is None or not isinstance(value, self._classes) or self.adapter is None:
            raise InvalidAnswerError(f"{self} is declared, and the value is {_describe(value)}")
        try:
            if self._needs_validation:
                value = self.adapter.validate_python(value, from_attributes=True)
            return _dump(self.adapter, value)
        except ValueError as error:
            reason = _text(_faults(error)) or error
            raise InvalidAnswerError(f"the value does not fit {self}: {reason}") from error


def validate(convert: Callable[[dict[str, Any]], Any], data: dict[str, Any], of: object) -> Any:
    """Convert a dict.

    Args:
        convert: does so, with pydantic.
        data: the dict.
        of: the type, for the message of an error.

    Raises:
        InvalidRequestError: it does not fit; the details say what is wrong, by field.
    """
    try:
        return convert(data)
    except ValueError as error:
        faults = _faults(error)
        raise InvalidRequestError(
            f"the message does not fit {of}: {_text(faults) or error}", details=faults
        ) from error


def as_dict(value: Any) -> dict[str, Any]:
    """Make a dict of a mapping, a model or a dataclass, whatever it is declared as.

    Raises:
        InvalidAnswerError: it is something else.
    """
    if type(value) is dict:
        return value
    if isinstance(value, Mapping):
        return dict(value)
    kind: Any = type(value)
    if _is_model(kind):
        return _dump(_adapter_of(kind), value)
    raise InvalidAnswerError(f"{EXPECTED} is expected, and the value is {_describe(value)}")


def name_of_type(annotation: Any) -> str:
    """Return the name of a type, for messages; of a union, the names of its alternatives."""
    return " | ".join(map(_name, _members(annotation)))


def _name(kind: Any) -> str:
    if kind is types.NoneType:
        return "None"
    is_plain = isinstance(kind, type) and get_origin(kind) is None
    return kind.__name__ if is_plain else str(kind)


@functools.lru_cache(maxsize=512)
def _adapter_of(annotation: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # it takes a while

    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    return adapter


def _dump(adapter: TypeAdapter[Any], value: Any) -> dict[str, Any]:
    data = adapter.dump_python(value, mode="json", by_alias=True)
    if type(data) is not dict:
        raise InvalidAnswerError(f"{_describe(value)} becomes {_describe(data)}, not a dict")
    return data


def _faults(error: ValueError) -> list[dict[str, str]]:
    errors: Callable[[], Any] = getattr(error, "errors", list)  # of pydantic's validation
    return [{"field": ".".join(map(str, each["loc"])), "message": each["msg"]} for each in errors()]


def _text(faults: list[dict[str, str]]) -> str:
    texts = [": ".join(filter(None, (x["field"], x["message"]))) for x in faults[:_MAX_FAULTS]]
    more = len(faults) - len(texts)
    return "; ".join([*texts, f"{more} more"] if more else texts)


def _describe(value: Any) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _members(annotation: Any) -> tuple[Any, ...]:
    """List the alternatives of a union; of any other type, itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin is Union or origin is types.UnionType:
        return tuple(each for member in get_args(annotation) for each in _members(member))
    return (types.NoneType if annotation is None else annotation,)


class _Member(NamedTuple):
    """One alternative of a declared type.

    Attributes:
        kind: the class of its values.
        is_mapping: whether they are dicts of any content.
        is_open: whether a value may be of the class and not fit: a dict, or a generic model.
        names: what a model has in a message.
    """

    kind: type
    is_mapping: bool = False
    is_open: bool = False
    names: frozenset[str] = frozenset()


def _member(annotation: Any) -> _Member:
    kind = get_origin(annotation) or annotation
    is_generic = bool(get_args(annotation))
    if kind is Any:
        return _Member(dict, is_mapping=True, is_open=True)
    if hasattr(kind, "__required_keys__") and hasattr(kind, "__total__"):  # a TypedDict
        return _Member(dict, is_open=True, names=frozenset(kind.__annotations__))
    if isinstance(kind, type):
        if hasattr(kind, "model_validate") and not getattr(kind, "__pydantic_root_model__", False):
            fields: Mapping[str, Any] = getattr(kind, "model_fields", {})
            aliases = (getattr(each, "validation_alias", None) for each in fields.values())
            names = frozenset({*fields, *(each for each in aliases if isinstance(each, str))})
            # a value of a generic model passes for any that is made of it
            origin = getattr(kind, "__pydantic_generic_metadata__", {}).get("origin")
            return _Member(origin or kind, is_open=is_generic or bool(origin), names=names)
        if is_dataclass(kind):
            return _Member(kind, is_open=is_generic, names=frozenset(kind.__dataclass_fields__))
        if issubclass(kind, Mapping):
            return _Member(kind, is_mapping=True, is_open=is_generic or kind is dict)
        if kind is types.NoneType:
            return _Member(kind)
    raise TypeError(f"{name_of_type(annotation)}; {EXPECTED} is expected")


@functools.lru_cache(maxsize=512)
def _is_model(kind: Any) -> bool:
    try:
        member = _member(kind)
    except TypeError:
        return False
    return not member.is_mapping and kind is not types.NoneType
