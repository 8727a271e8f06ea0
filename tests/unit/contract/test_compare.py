"""Which changes of a contract break callers, and which do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neon_mq_connector.contract.compare import compare
from neon_mq_connector.contract.files import Document, to_json, to_yaml
from tests.unit.cli.conftest import Run

TEXT: dict[str, Any] = {"type": "string"}
NUMBER: dict[str, Any] = {"type": "number"}
INTEGER: dict[str, Any] = {"type": "integer"}
NULL: dict[str, Any] = {"type": "null"}


def model(*required: str, title: str = "Model", **fields: Any) -> dict[str, Any]:
    return {"type": "object", "title": title, "properties": fields, "required": list(required)}


CLOSED = {**model(), "additionalProperties": False}


def contract(
    request: Any = TEXT, answer: Any = TEXT, *, queue: str = "q", stream: bool = False
) -> Document:
    """Make a document with one operation; None for an answer that there is not."""
    operation: dict[str, Any] = {
        "action": "receive",
        "channel": {"$ref": "#/channels/in"},
        "messages": [{"$ref": "#/components/messages/request"}],
    }
    if answer is not None:
        reply = [{"$ref": "#/components/messages/answer"}, {"$ref": "#/components/messages/error"}]
        operation["reply"] = {"messages": reply, "x-neon-stream": stream}
    return {
        "asyncapi": "3.0.0",
        "channels": {"in": {"address": queue}},
        "operations": {"ask": operation},
        "components": {
            "messages": {
                "request": {"payload": {"$ref": "#/components/schemas/Request"}},
                "answer": {"payload": answer or {}},
                "error": {"payload": {}, "x-neon-error": True},
            },
            "schemas": {"Request": request},
        },
    }


def requests(old: Any, new: Any) -> tuple[Document, Document]:
    return contract(old), contract(new)


def field(old: Any, new: Any) -> tuple[Document, Document]:
    """A field of requests that changes."""
    return requests(model(a=old), model(a=new))


def answers(old: Any, new: Any) -> tuple[Document, Document]:
    return contract(answer=old), contract(answer=new)


@pytest.mark.parametrize(
    "documents, where, what",
    [
        ((contract(queue="a"), contract(queue="b")), "queue 'a'", "it is gone"),
        ((contract(), contract(answer=None)), "queue 'q'", "it is not answered any more"),
        ((contract(), contract(stream=True)), "queue 'q'", "in parts now"),
        (requests(model(), model("a", a=TEXT)), "request.a", "a new required field"),
        (requests(model(a=TEXT), model("a", a=TEXT)), "request.a", "the field is required now"),
        (field(NUMBER, INTEGER), "request.a", "number became integer"),
        (field({"anyOf": [TEXT, NULL]}, TEXT), "request.a", "or null became"),
        (field({"enum": ["x", "y"]}, {"enum": ["x"]}), "request.a", '"y" is allowed no more'),
        (field(TEXT, {**TEXT, "enum": ["x"]}), "request.a", 'only "x" now'),
        (field(TEXT, {**TEXT, "maxLength": 3}), "request.a", "maxLength is 3"),
        (field({"minimum": 1}, {"minimum": 2}), "request.a", "minimum 1 became 2"),
        (requests(model(a=TEXT), CLOSED), "request.a", "the field is gone"),
        (field({"items": NUMBER}, {"items": TEXT}), "request.a[]", "number became string"),
        (field({"prefixItems": [TEXT]}, {"prefixItems": [NULL]}), "request.a[0]", "became null"),
        (answers(model("a", a=TEXT), model()), "answer.a", "the field is gone"),
        (answers(model("a", a=TEXT), model(a=TEXT)), "answer.a", "the field is optional now"),
        (answers(model(a=INTEGER), model(a=TEXT)), "answer.a", "integer became string"),
        (answers(model(a=INTEGER), model(a=NUMBER)), "answer.a", "integer became number"),
        (answers(model(a=TEXT), model(a={"anyOf": [TEXT, NULL]})), "answer.a", "became string or"),
    ],
)
def test_what_breaks_callers(documents: tuple[Document, Document], where: str, what: str) -> None:
    found = [each for each in compare(*documents) if each.breaking]
    assert any(where in each.where and what in each.what for each in found), found


@pytest.mark.parametrize(
    "documents",
    [
        (contract(answer=None), contract()),
        requests(model("a", a=TEXT), model(a=TEXT)),
        requests(model(), model(a=TEXT)),
        requests(model(a=TEXT), model()),
        field(INTEGER, NUMBER),
        field(TEXT, {"anyOf": [TEXT, NULL]}),
        field({"const": "x"}, {"enum": ["x", "y"]}),
        field({**TEXT, "maxLength": 3}, TEXT),
        answers(model(), model("a", a=TEXT)),
        answers(model(a=TEXT), model("a", a=TEXT)),
        answers(model(a=NUMBER), model(a=INTEGER)),
        answers(model(a={"enum": ["x", "y"]}), model(a={"enum": ["x"]})),
    ],
)
def test_what_is_compatible_is_listed(documents: tuple[Document, Document]) -> None:
    found = compare(*documents)
    assert found
    assert not [each for each in found if each.breaking], found


def test_another_name_of_a_model_changes_nothing() -> None:
    def named(title: str) -> Document:
        one = model("a", a=TEXT, title=title)
        return contract(model(one=one, maybe={"anyOf": [one, NULL]}, title=title))

    assert compare(named("One"), named("Other")) == []


def test_a_model_that_contains_itself_is_compared() -> None:
    def tree(**more: Any) -> Document:
        node = {"$ref": "#/components/schemas/Request"}
        return contract(model(children={"type": "array", "items": node}, **more))

    assert compare(tree(), tree()) == []
    (change,) = compare(tree(a=TEXT), tree(a=NUMBER))
    assert change.breaking


def test_the_command_ends_with_1_if_callers_break(run: Run, tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.json"
    old.write_text(to_yaml(contract(model("a", a=TEXT))))
    new.write_text(to_json(contract(model("a", "b", a=TEXT, b=TEXT))))
    done = run("contract", str(old), str(new))
    assert done.exit_code == 1
    assert done.stdout == "breaking    queue 'q', request.b: a new required field\n"
    back = run("contract", str(new), str(old), "--json")
    assert back.exit_code == 0
    assert '"breaking":false' in back.stdout


@pytest.mark.parametrize(
    "text, problem",
    [
        ("{", "is neither YAML nor JSON"),
        ("a: b", "is no AsyncAPI document of version 3"),
        ("asyncapi: 2.6.0", "is no AsyncAPI document of version 3"),
        ("asyncapi: 3.0.0\noperations: [1]", "object with a channel"),
        ("asyncapi: 3.0.0\noperations: {ask: {action: receive}}", "object with a channel"),
        ("- a\n- : b: c", "is neither YAML nor JSON"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_document_is_an_error_of_usage(
    run: Run, tmp_path: Path, text: str | None, problem: str
) -> None:
    path = tmp_path / "contract.yaml"
    if text is not None:
        path.write_text(text)
    done = run("contract", str(path), str(path))
    assert done.exit_code == 2
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1
