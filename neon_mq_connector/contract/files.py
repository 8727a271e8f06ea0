"""AsyncAPI documents: what they refer to, and as text: YAML or JSON, which YAML includes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]

#: In the reply of an operation: the answer comes in parts.
STREAM = "x-neon-stream"
#: In a message: it tells that a request has failed.
IS_ERROR = "x-neon-error"


def resolve(document: Document, value: Any) -> Mapping[str, Any]:
    """Follow the references within a document.

    Raises:
        ValueError: one leads nowhere, or out of the document.
    """
    seen = set()
    while isinstance(value, Mapping) and "$ref" in value:
        reference = value["$ref"]
        if not str(reference).startswith("#/") or reference in seen:
            raise ValueError(f"the reference {reference!r} cannot be followed")
        seen.add(reference)
        value = document
        for part in reference[2:].split("/"):
            try:
                value = value[part.replace("~1", "/").replace("~0", "~")]
            except (KeyError, TypeError):
                raise ValueError(f"the reference {reference!r} leads nowhere") from None
    return value if isinstance(value, Mapping) else {}


def read_document(path: str | Path) -> Document:
    """Read an AsyncAPI document.

    Raises:
        ValueError: the file cannot be read, or is no AsyncAPI document of version 3, or one of its
            operations has no channel.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        # a document of ours is JSON in most cases, which json reads ten times as fast
        found = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"{path} is neither YAML nor JSON: {problem}") from error
    if not isinstance(found, Mapping) or not str(found.get("asyncapi", "")).startswith("3."):
        raise ValueError(f"{path} is no AsyncAPI document of version 3")
    operations = found.get("operations") or {}
    listed = operations.values() if isinstance(operations, Mapping) else [operations]
    if not all(isinstance(each, Mapping) and "channel" in each for each in listed):
        raise ValueError(f"{path}: each of its operations has to be an object with a channel")
    return dict(found)


def to_yaml(document: Document) -> str:
    """Write a document as YAML, in the order it has."""
    # a part that occurs twice would be written as an alias
    unshared = json.loads(json.dumps(document))
    text: str = yaml.safe_dump(unshared, sort_keys=False, allow_unicode=True)
    return text


def to_json(document: Document) -> str:
    """Write a document as JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
