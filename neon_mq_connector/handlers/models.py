"""What handlers declare to take and to answer, and the way from a dict to that and back.

Models of pydantic, dataclasses and `TypedDict` are converted by pydantic, which is imported when
the first of them is used. In both wire formats a model is sent as it is in JSON, by its aliases.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from neon_mq_connector.errors import InvalidAnswerError, InvalidRequestError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

EXPECTED = "a pydantic model with fields, a dataclass, a TypedDict or dict"

#: What a message has for its way; a model that does not declare them does not see them.
_ENVELOPE = frozenset(("message_id", "routing_key", "context"))
#: How many faults an error's text names; all are in its details.
_MOST_FAULTS = 5


class MessageType:
    """A type that a handler declares.

    Args:
        annotation: as it is declared, resolved; `Any` for none.

    Attributes:
        is_dict: whether a message is handed over as the dict that it is.
        is_none: whether there is nothing to hand over.

    Raises:
        TypeError: no message can be of that type.
    """

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        members = _members(annotation)
        for each in members:
            if not (_is_mapping(each) or each is types.NoneType or _is_model(each)):
                raise TypeError(f"{name_of_type(each)}; {EXPECTED} is expected")
        self.is_none = all(each is types.NoneType for each in members)
        self.is_dict = all(_is_mapping(each) for each in members)
        self._may_be_none = self.is_dict or types.NoneType in members
        self._classes = tuple(_class_of(each) for each in members)
        # nothing but a look at them tells what is in a dict, or in a generic model
        self._looks_into = dict in self._classes or any(get_args(x) or _origin(x) for x in members)
        names = frozenset().union(*(_field_names(each) for each in members))
        takes_dict = any(_is_mapping(each) for each in members)
        self._left_out = frozenset() if takes_dict else _ENVELOPE - names

    def __str__(self) -> str:
        """Return its name."""
        return name_of_type(self._annotation)

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return _adapter_of(self._annotation)

    @property
    def adapter(self) -> TypeAdapter[Any] | None:
        """What pydantic knows of it; None where nothing is said but that it is a dict, or None."""
        return None if self.is_dict or self.is_none else self._adapter

    def prepare(self) -> None:
        """Do now what the first message would have to wait for.

        Raises:
            TypeError: pydantic cannot convert to it.
        """
        if not (self.is_dict or self.is_none):
            try:
                _ = self._adapter
            except Exception as error:
                reason = str(error).partition("\n")[0]  # more about pydantic than about the type
                raise TypeError(f"pydantic cannot convert to {self}: {reason}") from error

    def is_nothing(self, value: Any) -> bool:
        """Whether a value is no answer, and may be: None, or an empty dict of no declared type."""
        if value is None:
            return self._may_be_none
        return self.is_dict and isinstance(value, dict) and not value

    def read(self, data: dict[str, Any]) -> Any:
        """Make what is declared of a dict.

        Raises:
            InvalidRequestError: the dict does not fit.
        """
        if self.is_dict:
            return data
        data = data.copy()
        for key in self._left_out:
            data.pop(key, None)
        return validate(self._adapter.validate_python, data, self)

    def write(self, value: Any) -> dict[str, Any]:
        """Make a dict of what is declared.

        Raises:
            InvalidAnswerError: the value is of another type.
        """
        if self.is_dict:
            return as_dict(value)
        if value is None or not isinstance(value, self._classes):
            raise InvalidAnswerError(f"{self} is declared, and the value is {_describe(value)}")
        try:
            if self._looks_into:
                value = self._adapter.validate_python(value, from_attributes=True)
            return _dump(self._adapter, value)
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
    errors: Callable[[], Any] | None = getattr(error, "errors", None)
    if errors is None:  # not of pydantic's validation
        return []
    validation: ValidationError = error  # type: ignore[assignment]
    return [
        {"field": ".".join(map(str, each["loc"])), "message": each["msg"]}
        for each in validation.errors()
    ]


def _text(faults: list[dict[str, str]]) -> str:
    texts = [": ".join(filter(None, (x["field"], x["message"]))) for x in faults[:_MOST_FAULTS]]
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


def _class_of(annotation: Any) -> type:
    kind = get_origin(annotation) or annotation
    if kind is Any or _is_typed_dict(kind):
        return dict
    return (_origin(kind) or kind) if isinstance(kind, type) else object


def _origin(kind: Any) -> Any:
    """Return the model that a generic one of pydantic was made of; its values pass for any."""
    return getattr(kind, "__pydantic_generic_metadata__", {}).get("origin")


def _is_mapping(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    if kind is Any:
        return True
    is_class = isinstance(kind, type) and not _is_typed_dict(kind)
    return is_class and issubclass(kind, Mapping) and not _is_model(kind)


def _is_model(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    if not isinstance(kind, type):
        return False
    if hasattr(kind, "model_validate"):
        return not getattr(kind, "__pydantic_root_model__", False)
    return is_dataclass(kind) or _is_typed_dict(kind)


def _is_typed_dict(kind: Any) -> bool:
    return hasattr(kind, "__required_keys__") and hasattr(kind, "__total__")


def _field_names(annotation: Any) -> frozenset[str]:
    """List the members that a model has in a message."""
    kind = get_origin(annotation) or annotation
    fields = getattr(kind, "model_fields", None)
    if isinstance(fields, Mapping):
        aliases = (getattr(each, "validation_alias", None) for each in fields.values())
        return frozenset({*fields, *(alias for alias in aliases if isinstance(alias, str))})
    if isinstance(kind, type) and is_dataclass(kind):
        return frozenset(kind.__dataclass_fields__)
    return frozenset(getattr(kind, "__annotations__", ()) if _is_typed_dict(kind) else ())
