"""Find what a Python source relies on that has changed since earlier releases, or is gone."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from neon_mq_connector.cli.upgrade_names import (
    CHANGED_CLASSES,
    NEW_NAMES,
    PRIVATE_IN_USE,
    REPLACEABLE,
    client_signature,
    instead_of,
    private_names,
    unresolved,
)
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.operations.findings import Finding, error, warning
from neon_mq_connector.topology import check_name

_Named = ast.FunctionDef | ast.AsyncFunctionDef
_Function = _Named | ast.Lambda
_PACKAGE = re.compile(r"neon_mq_connector(\.\w+)+")
_REGISTERING = {"register_consumer", "register_subscriber"}
_SENDING = {"emit_mq_message", "publish_message", "send_message"}
_REPLACING = {"patch", "setattr", "delattr"}
_EVALUATING = {"eval", "exec", "literal_eval", "loads"}

#: Where it is, is added to each finding at the end.
_error, _warning = partial(error, ""), partial(warning, "")


class SourceCheck:
    """Check one source, a file of a name; raises `SyntaxError`, `ValueError` if it is no Python."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._tree = ast.parse(text, name)
        self._functions: dict[str, list[_Named]] = {}
        self._function_of: dict[ast.AST, _Function] = {}
        self._class_of: dict[ast.AST, ast.ClassDef] = {}
        self._tried: set[ast.AST] = set()
        self._own: set[str] = set()

    def findings(self) -> list[Finding]:
        """Return what is found, in the order of the lines."""
        self._index()
        found = {
            (getattr(node, "lineno", 1), finding.message): finding
            for node in ast.walk(self._tree)
            for finding in self._findings_of(node)
        }
        return [
            replace(found[line, text], check=f"{self._name}:{line}") for line, text in sorted(found)
        ]

    def _index(self) -> None:
        for node in ast.walk(self._tree):  # from the outside to the inside: the last one is nearest
            match node:
                case ast.ClassDef():
                    self._class_of.update(dict.fromkeys(ast.walk(node), node))
                case ast.Try(body=body, handlers=[_, *_]):
                    self._tried.update(each for line in body for each in ast.walk(line))
                case ast.Attribute(attr=name, ctx=ast.Store() | ast.Del()):
                    self._own.add(name)
                case ast.Name(id=name, ctx=ast.Store()):
                    self._own.add(name)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                    self._function_of.update(dict.fromkeys(ast.walk(node), node))
                    if not isinstance(node, ast.Lambda):
                        self._functions.setdefault(node.name, []).append(node)
                        self._own.add(node.name)

    def _findings_of(self, node: ast.AST) -> Iterator[Finding]:
        match node:
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from _imported(module, [each.name for each in names])
            case ast.Import(names=names):
                for alias in names:
                    yield from _imported(alias.name, [])
            case ast.Attribute():
                yield from self._attribute(node)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                around = self._class_of.get(node)
                if around is not None and _is_connector(around) and node in around.body:
                    yield from _hidden(name)
            case ast.Call():
                yield from self._call(node)

    # --- names

    def _attribute(self, node: ast.Attribute) -> Iterator[Finding]:
        owner, name = node.value, node.attr
        around = self._class_of.get(node)
        is_ours = _is_connector(around) and ast.unparse(owner) == "self"
        if is_ours and isinstance(node.ctx, ast.Store):
            yield from _hidden(name)
        if name == "Configuration" or ast.unparse(owner) == "Configuration":
            if name in {"from_file", "from_dict", "config_data"}:
                yield _warning(f"Configuration.{name} is deprecated", "use load_neon_mq_config")
            return
        if not name.startswith("_") or name.endswith("__") or name in PRIVATE_IN_USE | self._own:
            return
        is_consumer = isinstance(owner, ast.Subscript) and "consumers" in ast.unparse(owner.value)
        if is_ours or is_consumer or name.startswith("_MQConnector__"):
            yield _warning(
                f"{name} is private, and may not be there",
                "use what is public, such as check_health(), is_consuming or is_consumer_alive",
            )

    # --- calls

    def _call(self, node: ast.Call) -> Iterator[Finding]:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        if name in _REPLACING:
            yield from self._replaced(node)
        yield from self._evaluated(node, name)
        yield from self._bypassing(node, name)
        signature = self._signature(node, name)
        if signature is None:
            return
        arguments, problem = _bound(signature, node)
        if problem:
            yield _error(f"{name}: {problem}", "correct the call")
        for key in arguments.keys() & {"queue", "exchange", "vhost", "target_queue"}:
            match arguments[key]:
                case ast.Constant(str(value)):
                    try:
                        check_name(key, value)
                    except ValueError as wrong:
                        yield _error(str(wrong))
        if name in _REGISTERING:
            of_subscriber = name == "register_subscriber"
            parked = "<service>.<exchange>.dead" if of_subscriber else "<queue>.dead"
            yield from self._registered(arguments, parked)
        elif name in _SENDING and node not in self._tried:
            yield _warning(
                f"{name} raises where the broker has not confirmed the message",
                "catch MQError, if the service can go on without it",
            )

    def _signature(self, node: ast.Call, name: str) -> inspect.Signature | None:
        """Return what a call takes, if it is one of this library's."""
        if name == "send_mq_request":
            return client_signature()
        receiver = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        if name in self._own and receiver != "super()":
            return None
        in_connector = _is_connector(self._class_of.get(node))
        names_it = any(each.arg == "request_data" for each in node.keywords)
        if (name in _REGISTERING and receiver not in {"", "MQConnector"}) or (
            name in _SENDING and ((in_connector and receiver in {"self", "super()"}) or names_it)
        ):
            whole = inspect.signature(getattr(MQConnector, name))
            parameters = [each for each in whole.parameters.values() if each.name != "self"]
            return whole.replace(parameters=parameters)
        return None

    def _registered(self, arguments: dict[str, ast.expr], parked: str) -> Iterator[Finding]:
        yield from self._arity(arguments.get("callback"), 4, "channel, method, properties, body")
        yield from self._arity(arguments.get("on_error"), 2, "thread, exception")
        auto_ack = arguments.get("auto_ack")
        if auto_ack is None or ast.unparse(auto_ack) == "True":
            yield _warning(
                "auto_ack=True: acknowledged when the callback starts; if that raises, the message "
                f"is parked in {parked}",
                "watch that queue; with auto_ack=False it is tried again first",
            )
        elif ast.unparse(auto_ack) == "False":
            yield _warning(
                "auto_ack=False: if the callback raises, the message is tried again, and parked in "
                f"{parked} after the last time",
                "watch that queue",
            )

    def _arity(self, given: ast.expr | None, count: int, names: str) -> Iterator[Finding]:
        function = self._function_named(given)
        if function is None:
            return
        most, least = _positional(function)
        around = self._class_of.get(function)
        if around is not None and function in around.body and not function.decorator_list:
            most, least = most - 1, least - 1
        if not least <= count <= most:
            yield _error(
                f"{function.name} (line {function.lineno}) takes {least} arguments",
                f"have it take {count}: {names}",
            )

    def _function_named(self, given: ast.expr | None) -> ast.FunctionDef | None:
        """Return the function that an argument names, if there is one such and nothing wraps it."""
        match given:
            case ast.Name(name) | ast.Attribute(value=ast.Name("self"), attr=name):
                found = self._functions.get(name, [])
            case _:
                return None
        if len(found) != 1 or not isinstance(found[0], ast.FunctionDef):
            return None
        is_plain = all(ast.unparse(each) == "staticmethod" for each in found[0].decorator_list)
        return found[0] if is_plain else None

    def _replaced(self, node: ast.Call) -> Iterator[Finding]:
        match node.args:
            case [ast.Constant(str(dotted)), *_] if _PACKAGE.fullmatch(dotted):
                pass
            case _:
                return
        if problem := unresolved(dotted):
            yield _error(f"{dotted} is not there: {problem}", instead_of(dotted))
        elif dotted.rpartition(".")[2] not in REPLACEABLE:
            yield _warning(
                f"{dotted} is replaced, which the library may not notice",
                "use the fixtures of the plugin for pytest; see Test your service",
            )

    def _evaluated(self, node: ast.Call, name: str) -> Iterator[Finding]:
        function = self._function_of.get(node)
        if function is None or name.rpartition(".")[2] not in _EVALUATING:
            return
        reads = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        if reads & {"body", "b64decode", "base64"} and "body" in _parameters(function):
            yield _warning(
                f"{name} reads the body by itself; it does not know every format, and eval, exec "
                "and pickle run what a peer sends",
                "read it with b64_to_dict, or declare a typed handler",
            )

    def _bypassing(self, node: ast.Call, name: str) -> Iterator[Finding]:
        """Find what goes over a connection of the service's own, not over a callback's channel."""
        if name not in {"basic_publish", "queue_declare"} or not isinstance(
            node.func, ast.Attribute
        ):
            return
        function = self._function_of.get(node)
        receiver = node.func.value
        if function and isinstance(receiver, ast.Name) and receiver.id in _parameters(function):
            return
        given = {each.arg for each in node.keywords}
        if name == "basic_publish":
            yield _warning(
                "basic_publish on a connection of its own: the message is not confirmed",
                "use send_message(..., queue=...), or return the answer",
            )
        elif not given & {"durable", "exclusive", "passive", None}:
            yield _warning(
                "queue_declare makes a transient queue, which RabbitMQ 4.3 refuses",
                "let send_message declare it, or give durable=True",
            )


def _imported(module: str, names: list[str]) -> Iterator[Finding]:
    if module.split(".")[0] != "neon_mq_connector":
        return
    for dotted in [f"{module}.{name}" for name in names if name != "*"] or [module]:
        if problem := unresolved(dotted):
            yield _error(f"{dotted} cannot be imported: {problem}", instead_of(dotted))
    for name in CHANGED_CLASSES.keys() & set(names):
        change, remedy = CHANGED_CLASSES[name]
        yield _warning(f"{name}: {change}", remedy)


def _hidden(name: str) -> Iterator[Finding]:
    """Find out whether an attribute or method of a connector has a name of MQConnector's."""
    if name in private_names() or name == "settings":
        yield _error(f"{name} is an attribute of MQConnector, too", "give it another name")
    elif name in NEW_NAMES:
        yield _warning(
            f"{name} hides MQConnector.{name}, which is new",
            "give it another name, if you want to use that",
        )


def _is_connector(node: ast.ClassDef | None) -> bool:
    bases = [] if node is None else node.bases
    return any(ast.unparse(base).endswith(("MQConnector", "NeonMQHandler")) for base in bases)


def _parameters(function: _Function) -> set[str]:
    given = function.args
    return {each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)}


def _positional(function: _Function) -> tuple[float, int]:
    """Return how many positional arguments a function takes at most, and at least."""
    count = len(function.args.posonlyargs) + len(function.args.args)
    most = float("inf") if function.args.vararg else count
    return most, count - len(function.args.defaults)


def _bound(signature: inspect.Signature, call: ast.Call) -> tuple[dict[str, ast.expr], str]:
    """Return the arguments of a call by parameter, and what is wrong with them."""
    named = {each.arg: each.value for each in call.keywords if each.arg}
    if any(isinstance(each, ast.Starred) for each in call.args):
        return named, ""
    try:
        return dict(signature.bind_partial(*call.args, **named).arguments), ""
    except TypeError as problem:
        unknown = named.keys() - signature.parameters.keys()
        close = [difflib.get_close_matches(each, signature.parameters, n=1) for each in unknown]
        meant = [each[0] for each in close if each]
        return named, f"{problem}{'; did you mean ' + ', '.join(meant) + '?' if meant else ''}"
