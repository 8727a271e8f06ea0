"""The JSON Schemas of what handlers declare, under the names of their models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from neon_mq_connector.contract.schemas import Document
from neon_mq_connector.handlers.models import MessageType
from neon_mq_connector.handlers.signature import Types

_REFERENCE = "#/components/schemas/{model}"
_Mode = Literal["validation", "serialization"]


class Models:
    """The schemas of all types of a service.

    A model whose schema is another one as a request than as an answer, as one with computed fields
    has, is there twice.

    Args:
        types: what the handlers take and answer.

    Attributes:
        schemas: those with a name, for ``components/schemas``.
    """

    def __init__(self, types: Iterable[Types]) -> None:
        inputs: dict[tuple[int, _Mode], Any] = {}
        for each in types:
            if each.request.adapter is not None:
                inputs[(id(each.request), "validation")] = each.request.adapter
            if each.answer.adapter is not None:
                inputs[(id(each.answer), "serialization")] = each.answer.adapter
        self._schemas: dict[tuple[Any, Any], Any] = {}
        self.schemas: Document = {}
        if inputs:
            from pydantic import TypeAdapter

            self._schemas, definitions = TypeAdapter.json_schemas(
                [(key, mode, adapter) for (key, mode), adapter in inputs.items()],
                ref_template=_REFERENCE,
            )
            self.schemas = dict(definitions.get("$defs", {}))

    def request(self, declared: MessageType) -> Document:
        """Return the schema of a request."""
        return self._schema(declared, "validation")

    def answer(self, declared: MessageType) -> Document:
        """Return the schema of an answer, or of a part of one."""
        return self._schema(declared, "serialization")

    def _schema(self, declared: MessageType, mode: _Mode) -> Document:
        schema: Document = self._schemas.get((id(declared), mode), {"type": "object"})
        return schema
