"""Write an AsyncAPI document as one HTML page, which loads nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from neon_mq_connector.contract.files import IS_ERROR, STREAM, Document, resolve

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; --accent: #2a7de1; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 small, .soft { font-weight: normal; opacity: .7; }
h2 { border-top: 1px solid var(--line); padding-top: 1rem; }
code { font: .92em ui-monospace, monospace; background: var(--soft); padding: .1em .3em; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; }
tr { border-bottom: 1px solid var(--line); }
nav a { margin-right: 1rem; }
a { color: var(--accent); }
"""


def to_html(document: Document) -> str:
    """Write an AsyncAPI document, of `describe` or `read_document`, as a page."""
    return "\n".join(_Page(document).lines()) + "\n"


class _Page:
    def __init__(self, document: Document) -> None:
        self._document = document

    def lines(self) -> Iterator[str]:
        """Make the page."""
        info = self._document["info"]
        title = escape(str(info["title"]))
        yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
        yield '<meta name="viewport" content="width=device-width">'
        yield f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
        yield f"<h1>{title} <small>{escape(str(info['version']))}</small></h1>"
        yield from _paragraphs(info.get("description", ""))
        for server in self._document.get("servers", {}).values():
            where = f"{server['protocol']}://{server['host']}{server.get('pathname', '')}"
            yield f"<p>Broker: <code>{escape(where)}</code></p>"
        operations = self._document.get("operations", {})
        links = (f'<a href="#{escape(name)}">{escape(name)}</a>' for name in operations)
        yield f"<nav>{''.join(links)}</nav>"
        for name, operation in operations.items():
            yield from self._operation(name, operation)
        schemas = self._document.get("components", {}).get("schemas", {})
        if schemas:
            yield "<h2>Models</h2>"
        for name, schema in schemas.items():
            yield f'<h3 id="model-{escape(name)}">{escape(name)}</h3>'
            yield from _paragraphs(schema.get("description", ""))
            yield from self._fields(schema)
        yield "</body>\n</html>"

    def _operation(self, name: str, operation: Mapping[str, Any]) -> Iterator[str]:
        channel = resolve(self._document, operation["channel"])
        amqp = channel.get("bindings", {}).get("amqp", {})
        kind = "exchange" if amqp.get("is") == "routingKey" else "queue"
        yield f'<h2 id="{escape(name)}">{escape(name)}</h2>'
        yield f"<p>{kind} <code>{escape(str(channel.get('address')))}</code></p>"
        for key in ("summary", "description"):
            yield from _paragraphs(operation.get(key, ""))
        yield from self._messages("Takes", operation)
        reply = operation.get("reply")
        if reply is not None:
            yield from self._messages("Answers in parts" if reply.get(STREAM) else "Answers", reply)

    def _messages(self, title: str, holder: Mapping[str, Any]) -> Iterator[str]:
        for each in holder.get("messages", ()):
            message = resolve(self._document, each)
            payload = message.get("payload", {})
            word = "Or an error" if message.get(IS_ERROR) else title
            yield f"<p><b>{word}</b> {self._type(payload)}</p>"
            if "$ref" not in payload:
                yield from self._fields(payload)

    def _fields(self, schema: Mapping[str, Any]) -> Iterator[str]:
        properties = schema.get("properties", {})
        if not properties:
            if "enum" in schema:
                yield f"<p>One of {escape(', '.join(map(repr, schema['enum'])))}</p>"
            return
        needed = schema.get("required", ())
        yield "<table><tr><th>field</th><th>type</th><th></th><th>meaning</th></tr>"
        for name, each in properties.items():
            need = "required" if name in needed else _default(each)
            yield (
                f"<tr><td><code>{escape(name)}</code></td><td>{self._type(each)}</td>"
                f"<td class=soft>{need}</td><td>{escape(each.get('description', ''))}</td></tr>"
            )
        yield "</table>"

    def _type(self, schema: Any) -> str:
        """Return the type in a few words, models as links."""
        if not isinstance(schema, Mapping):
            return "any"
        if "$ref" in schema:
            name = escape(schema["$ref"].rpartition("/")[2])
            return f'<a href="#model-{name}">{name}</a>'
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                return " or ".join(map(self._type, schema[key]))
        if "enum" in schema or "const" in schema:
            values = schema.get("enum", [schema.get("const")])
            return escape(" or ".join(map(repr, values)))
        kind = schema.get("type", "any")
        if kind == "array":
            return f"list of {self._type(schema.get('items', {}))}"
        if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
            return f"object of {self._type(schema['additionalProperties'])}"
        form = f" ({schema['format']})" if "format" in schema else ""
        name = " or ".join(kind) if isinstance(kind, list) else str(kind)
        return escape(f"{name}{form}")


def _default(schema: Any) -> str:
    has_default = isinstance(schema, Mapping) and "default" in schema
    return escape(f"default {schema['default']!r}") if has_default else "optional"


def _paragraphs(text: str) -> Iterator[str]:
    for part in filter(None, text.split("\n\n")):
        yield f"<p>{escape(part)}</p>"
