"""Calls in a program that is read: what functions, methods, builtins and modules make of their arguments."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod

from moevolve.auditor.labels import (
    AGENT,
    CHOSEN,
    COMPUTED,
    CONSTANT,
    MEMORY,
    NUMBER,
    POLICY,
    RAW,
    TASK,
    TRUTH,
    Labels,
    Value,
    union,
)

PARTIAL = "partial "
"""Begins the name of a function some of whose arguments are bound."""

_COMPUTING_METHODS = {"translate", "count", "replace", "swapcase", "upper", "lower", "title", "maketrans"}
_COMPUTING_CALLS = {"sorted", "sum", "chr", "ord", "divmod", "pow", "bin", "hex", "eval", "exec", "reversed"}
_PICKING_CALLS = {"max", "min"}
_EMPTY_CALLS = {"len", "range", "bool", "isinstance", "any", "all", "hasattr", "callable", "round"}
_GROWING = {"append", "extend", "add", "insert", "update", "setdefault", "appendleft"}


Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Calls(ABC):
    """What calls may return.

    Attributes:
        places: where a text was computed, as `file:line: source`.
        compared: where the policy's words were compared with such a text.
    """

    def __init__(self) -> None:
        self.places: list[str] = []
        self.compared: list[str] = []
        self._functions: dict[str, tuple[str, Function]] = {}
        self._globals: dict[str, Value] = {}
        self._bound: dict[str, Value] = {}
        self._path = "solve.py"

    @abstractmethod
    def call(self, name: str, arguments: list[Value], keywords: dict[str, Value]) -> Value:
        """What a function of the program may return for such arguments."""

    @abstractmethod
    def _value(self, node: ast.expr, scope: dict[str, Value]) -> Value:
        """What an expression may be."""

    @abstractmethod
    def _grow(self, target: ast.expr, value: Value, scope: dict[str, Value]) -> None:
        """Something is put into a container."""

    # ------------------------------------------------------------------ calls

    def _called(self, node: ast.Call, scope: dict[str, Value]) -> Value:
        arguments = [self._value(argument, scope) for argument in node.args]
        keywords = {
            keyword.arg: self._value(keyword.value, scope) for keyword in node.keywords if keyword.arg
        }
        everything = union([*arguments, *keywords.values()])
        if isinstance(node.func, ast.Attribute):
            of = self._value(node.func.value, scope)
            found = self._method(node, node.func, of, arguments, everything, scope)
            if found is not None:
                return found
        function = self._value(node.func, scope)
        if function.functions:
            return union(
                self.call(name, arguments, keywords) for name in function.functions if name in self._functions
            ) | union(
                self._partly(name, everything) for name in function.functions if name.startswith(PARTIAL)
            )
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        return self._builtin(node, name, arguments, everything)

    def _method(
        self,
        node: ast.Call,
        function: ast.Attribute,
        of: Value,
        arguments: list[Value],
        everything: Value,
        scope: dict[str, Value],
    ) -> Value | None:
        """A method's result; None where it is a function of a module."""
        name = function.attr
        if AGENT in of.labels:
            if name == "gather":
                return Value(everything.labels - {AGENT})
            if name == "recall":
                return Value(frozenset({MEMORY}))
            if name in ("call", "tools"):
                return self._computed(node, Value(frozenset({COMPUTED})))
            return Value(frozenset({POLICY}))
        if name == "get" and of.functions:
            return Value(functions=of.functions | everything.functions)
        if name in _GROWING:
            self._grow(function.value, everything, scope)
            return of | everything
        if not of.labels and not of.functions and isinstance(function.value, ast.Name):
            module = function.value.id not in scope and function.value.id not in self._globals
            if module:
                return self._foreign(node, everything)
        if name in self._functions and not of.functions:
            return self.call(name, [of, *arguments], {})
        text = of.labels & {RAW, COMPUTED} and POLICY not in of.labels
        if name in _COMPUTING_METHODS and text:
            return self._computed(node, of)
        if name == "get" and of.labels == {CONSTANT} and everything.labels & {RAW, COMPUTED}:
            return self._computed(node, of)
        if name == "join":
            return Value(of.labels | everything.labels)
        if name in ("startswith", "endswith", "isdigit", "isalpha", "index", "find", "rindex", "rfind"):
            return self._compare_call(node, of, everything)
        return self._chosen(Value(of.labels, of.functions), everything.labels)

    def _compare_call(self, node: ast.Call, of: Value, everything: Value) -> Value:
        if POLICY in of.labels and COMPUTED in everything.labels:
            self.compared.append(self._place(node))
        return Value((of.labels | everything.labels) & {COMPUTED})

    def _partly(self, name: str, everything: Value) -> Value:
        """A call of a function some of whose arguments came before: which is which is left open."""
        function = self._functions.get(name.removeprefix(PARTIAL))
        bound = self._bound.get(name, Value()) | everything
        count = len(function[1].args.posonlyargs) + len(function[1].args.args) if function else 0
        return self.call(name.removeprefix(PARTIAL), [bound] * count, {}) if function else bound

    def _builtin(self, node: ast.Call, name: str, arguments: list[Value], everything: Value) -> Value:
        labels = everything.labels
        if name in _EMPTY_CALLS:
            return Value(labels & {COMPUTED})
        if name in ("int", "float", "complex") and TRUTH not in labels:
            return everything.plus(NUMBER) if labels & {RAW, COMPUTED} else everything
        if name in ("partial", "partialmethod") and arguments:
            made = frozenset(PARTIAL + each for each in arguments[0].functions)
            for each in made:
                self._bound[each] = self._bound.get(each, Value()) | Value(labels)
            return Value(functions=made)
        if name == "map" and arguments:
            mapped = union(arguments[1:])
            return self._mapped(node, arguments[0], mapped)
        if name in ("sum", "str", "int") and TRUTH in labels:
            return self._computed(node, everything)
        if name in _COMPUTING_CALLS and labels & {RAW, COMPUTED} and POLICY not in labels:
            return self._computed(node, everything)
        if name in _PICKING_CALLS and NUMBER in labels and POLICY not in labels:
            return self._computed(node, everything)
        if AGENT in labels:
            # Whoever has the agent may have asked.
            return Value((labels - {AGENT, TASK, RAW}) | {POLICY})
        return Value(labels - {TASK}, everything.functions)

    def _mapped(self, node: ast.Call, function: Value, values: Value) -> Value:
        first = node.args[0]
        if function.functions:
            return union(self.call(name, [values], {}) for name in function.functions)
        if isinstance(first, ast.Name):
            return self._builtin(node, first.id, [values], values)
        return values

    def _foreign(self, node: ast.Call, everything: Value) -> Value:
        """A function of some module: what it makes of a task's text is computed."""
        if everything.labels & {RAW, COMPUTED, NUMBER} and POLICY not in everything.labels:
            return self._computed(node, everything)
        return Value(everything.labels - {AGENT, TASK})

    # ------------------------------------------------------------------ labels

    def _computed(self, node: ast.AST, value: Value) -> Value:
        self.places.append(self._place(node))
        return Value((value.labels - {RAW}) | {COMPUTED}, value.functions)

    def _chosen(self, value: Value, by: Labels) -> Value:
        """The policy's words, picked by a text that was computed."""
        return value.plus(CHOSEN) if POLICY in value.labels and COMPUTED in by else value

    def _place(self, node: ast.AST) -> str:
        source = " ".join(ast.unparse(node).split())
        return f"{self._path}:{getattr(node, 'lineno', 0)}: {source[:80]}"
