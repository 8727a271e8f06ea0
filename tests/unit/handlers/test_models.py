"""From a dict to what is declared, and back."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import pytest
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from neon_mq_connector.errors import InvalidAnswerError, InvalidRequestError
from neon_mq_connector.handlers.models import MessageType, as_dict

ValueT = TypeVar("ValueT")
ENVELOPE = {"message_id": "m", "routing_key": "r", "context": {"mq": {}}}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    n: int


class Dated(BaseModel):
    on: datetime.date
    tags: set[str] = Field(default_factory=set, alias="labels")


class Enveloped(BaseModel):
    message_id: str
    n: int


@dataclass
class Point:
    n: int


class Boxed(BaseModel, Generic[ValueT]):
    value: ValueT


class Loose(BaseModel):
    value: Any


@dataclass
class Threaded:
    thread: threading.Thread


class Typed(TypedDict):
    n: int


@pytest.mark.parametrize(
    "kind, made",
    [
        (Strict, Strict(n=1)),
        (Point, Point(1)),
        (Typed, {"n": 1}),
        (Enveloped, Enveloped(message_id="m", n=1)),
        (Strict | None, Strict(n=1)),
        (Annotated[Point | Dated, "either"], Point(1)),
        (dict, {"n": "1", **ENVELOPE}),
        (Mapping[str, Any], {"n": "1", **ENVELOPE}),
        (Any, {"n": "1", **ENVELOPE}),
    ],
    ids=str,
)
def test_a_model_gets_what_its_sender_has_written(kind: Any, made: Any) -> None:
    message_type = MessageType(kind)
    request = {"n": "1", **ENVELOPE}
    assert message_type.read(request) == made
    assert request == {"n": "1", **ENVELOPE}
    assert message_type.read(message_type.write(made)) == made


def test_a_model_is_sent_as_it_is_in_json_and_by_its_aliases() -> None:
    dated = Dated(on=datetime.date(2026, 1, 2), labels={"a"})
    assert MessageType(Dated).write(dated) == {"on": "2026-01-02", "labels": ["a"]}
    assert as_dict(dated) == {"on": "2026-01-02", "labels": ["a"]}
    assert as_dict(Point(1)) == {"n": 1}


def test_a_request_that_does_not_fit_says_where() -> None:
    class Order(BaseModel):
        points: list[Point]

    with pytest.raises(InvalidRequestError) as refused:
        MessageType(Order).read({"points": [{"n": 1}, {"n": "many"}]})
    assert [fault["field"] for fault in refused.value.details] == ["points.1.n"]
    assert "does not fit Order: points.1.n: " in str(refused.value)
    assert refused.value.__cause__ is not None


@pytest.mark.parametrize(
    "kind, value",
    [
        (Strict, Point(1)),
        (Strict, {"n": 1}),
        (Strict, None),
        (None, {"n": 1}),
        (Typed, {"n": "many"}),
        (Typed, Strict(n=1)),
        (Any, [1]),
        (dict, "text"),
        (Any, Strict),
        pytest.param(Loose, Loose(value=object()), id="what cannot be dumped"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_no_answer(kind: Any, value: Any) -> None:
    with pytest.raises(InvalidAnswerError):
        MessageType(kind).write(value)


def test_an_answer_may_be_nothing_where_it_is_declared_so() -> None:
    assert MessageType(Strict | None).is_nothing(None)
    assert MessageType(dict).is_nothing({})
    assert not MessageType(Strict).is_nothing(None)
    assert not MessageType(Typed).is_nothing({})
    with pytest.raises(InvalidAnswerError, match=r"^Strict is declared, and the value is None"):
        MessageType(Strict).write(None)


def test_a_generic_model_is_taken_as_what_it_was_made_of_if_its_values_fit() -> None:
    declared = MessageType(Boxed[Boxed[int]])
    assert declared.write(Boxed(value=Boxed(value=1))) == {"value": {"value": 1}}
    with pytest.raises(InvalidAnswerError, match=r"Boxed\[Boxed\[int\]\]: value.value: "):
        declared.write(Boxed(value=Boxed(value="one")))


def test_a_type_that_pydantic_refuses_is_told_in_one_line() -> None:
    with pytest.raises(TypeError, match=r"^pydantic cannot convert to Threaded: [^\n]*$"):
        _ = MessageType(Threaded).adapter


def test_a_union_is_named_by_its_alternatives() -> None:
    kinds = Annotated[Strict | Point | None, Field(description="either")]
    assert str(MessageType(kinds)) == "Strict | Point | None"
