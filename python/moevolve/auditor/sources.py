"""Programs read without being run: whether a `solve` answers with the policy's words or with texts that it computed.

An abstract interpretation of the syntax tree. Every value has labels that say where it may come from; what `solve` may
return decides. It does not follow everything that Python can do, so it finds what a program shows, and proves nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

import msgspec

from moevolve.auditor.calls import Calls, Function
from moevolve.auditor.labels import (
    AGENT,
    CHOSEN,
    COMPUTED,
    CONSTANT,
    NOTHING,
    NUMBER,
    POLICY,
    RAW,
    RECITED,
    TASK,
    TRUTH,
    Labels,
    Value,
    recited,
    union,
)

NO_ANSWERS = ("improve.py", "learn.py", "select_parent.py")
"""Files of a program that answer no task."""
DEEPEST = 24
"""Calls inside one another that are followed."""
ROUNDS = 3
"""Passes over a function's body: a loop's values come round again."""
MOST_PLACES = 6
MOST_STEPS = 1_000_000
"""Expressions that are looked at, over and over; a program that takes more is too tangled to be read."""


class Reading(msgspec.Struct, frozen=True):
    """What a program was found to do."""

    verdict: str
    """`computes`: an answer may be a text that it computed. `chooses`: it picks or confirms the policy's words by a computed
    text. `recites`: an answer may be a constant, or a lesson. `asks`: nothing of these. `unread`: it cannot be read."""
    places: list[str] = []
    """Where, as `file:line: source`."""


def read(files: Mapping[str, str]) -> Reading | None:
    """What a program's `solve` does; None where it is no coroutine, so that it answers by a plan."""
    try:
        reader = _Reader({path: ast.parse(text) for path, text in files.items() if path.endswith(".py")})
        if reader.entry is None:
            return None
        answer = reader.call("solve", [Value(frozenset({TASK})), Value(frozenset({AGENT}))], {})
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Reading("unread", [(str(error) or "it nests deeper than Python reads")[:200]])
    places = list(dict.fromkeys(reader.places))[:MOST_PLACES]
    if COMPUTED in answer.labels:
        return Reading("computes", places)
    if CHOSEN in answer.labels or reader.compared:
        return Reading("chooses", (list(dict.fromkeys(reader.compared)) + places)[:MOST_PLACES])
    if RECITED in answer.labels:
        return Reading("recites", places)
    return Reading("asks")


class _Reader(Calls):
    """One program.

    Args:
        trees: its files' syntax trees.
    """

    def __init__(self, trees: Mapping[str, ast.Module]) -> None:
        super().__init__()
        self._closures: dict[int, dict[str, Value]] = {}
        self._known: dict[tuple[str, tuple[Value, ...], tuple[tuple[str, Value], ...]], Value] = {}
        self._depth = 0
        self._steps = 0
        self.entry: ast.AsyncFunctionDef | None = None
        for path, tree in trees.items():
            if path in NO_ANSWERS:
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    self._functions.setdefault(node.name, (path, node))
                    if node.name == "solve" and path == "solve.py" and isinstance(node, ast.AsyncFunctionDef):
                        self.entry = node
        for _ in range(2):
            for path, tree in trees.items():
                if path not in NO_ANSWERS:
                    self._path = path
                    self._block(
                        [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)],
                        self._globals,
                        NOTHING,
                    )

    def call(self, name: str, arguments: list[Value], keywords: dict[str, Value]) -> Value:
        """What a function may return for such arguments."""
        known = (name, tuple(arguments), tuple(sorted(keywords.items(), key=lambda item: item[0])))
        if known in self._known or self._depth >= DEEPEST:
            return self._known.get(known, Value())
        self._known[known] = Value()
        path, node = self._functions[name]
        before, self._path = self._path, path
        self._depth += 1
        try:
            for _ in range(ROUNDS):
                self._known[known] = self._known[known] | self._run(node, arguments, keywords)
        finally:
            self._path = before
            self._depth -= 1
        return self._known[known]

    def _run(
        self,
        node: Function,
        arguments: list[Value],
        keywords: dict[str, Value],
    ) -> Value:
        names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        scope = dict(self._closures.get(id(node), {}))
        for argument, default in zip(names[::-1], node.args.defaults[::-1], strict=False):
            scope[argument] = self._value(default, self._globals)
        scope.update(zip(names, arguments, strict=False))
        rest = arguments[len(names) :]
        if node.args.vararg is not None:
            scope[node.args.vararg.arg] = union(rest)
        allowed = {*names, *(argument.arg for argument in node.args.kwonlyargs)}
        scope.update({name: value for name, value in keywords.items() if name in allowed})
        if isinstance(node, ast.Lambda):
            return self._value(node.body, scope)
        returned = Value()
        for _ in range(ROUNDS):
            returned |= self._block(node.body, scope, NOTHING)
        return returned

    def _close(self, name: str, scope: dict[str, Value]) -> None:
        """Notes the variables around a function that is made here."""
        if scope is self._globals:
            return
        held = self._closures.setdefault(id(self._functions[name][1]), {})
        for each, value in scope.items():
            held[each] = held.get(each, Value()) | value

    # ------------------------------------------------------------------ statements

    def _block(self, body: Iterable[ast.stmt], scope: dict[str, Value], under: Labels) -> Value:
        """What a block may return; `under` are the labels of the conditions around it."""
        returned = Value()
        for node in body:
            returned |= self._statement(node, scope, under)
        return returned

    def _statement(self, node: ast.stmt, scope: dict[str, Value], under: Labels) -> Value:
        match node:
            case ast.Return(value=value):
                return Value() if value is None else self._chosen(recited(self._value(value, scope)), under)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._bind(target, self._chosen(self._value(value, scope), under), scope)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self._bind(target, self._chosen(self._value(value, scope), under), scope)
            case ast.AugAssign(target=target, op=op, value=value):
                both = self._combined(node, op, self._value(target, scope), self._value(value, scope))
                self._bind(target, self._chosen(both, under), scope)
            case ast.If(test=test, body=body, orelse=orelse) | ast.While(test=test, body=body, orelse=orelse):
                inside = under | self._value(test, scope).labels
                return self._block(body, scope, inside) | self._block(orelse, scope, inside)
            case ast.For() | ast.AsyncFor():
                self._bind(node.target, self._value(node.iter, scope), scope)
                return self._block(node.body, scope, under) | self._block(node.orelse, scope, under)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    if item.optional_vars is not None:
                        self._bind(item.optional_vars, self._value(item.context_expr, scope), scope)
                return self._block(node.body, scope, under)
            case ast.Try():
                parts = [node.body, *(handler.body for handler in node.handlers), node.orelse, node.finalbody]
                return union(self._block(part, scope, under) for part in parts)
            case ast.Match(subject=subject, cases=cases):
                matched = self._value(subject, scope)
                for case in cases:
                    for name in _captured(case.pattern):
                        scope[name] = scope.get(name, Value()) | matched
                return union(self._block(case.body, scope, under | matched.labels) for case in cases)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                scope[node.name] = Value(functions=frozenset({node.name}))
                self._close(node.name, scope)
            case ast.Expr(value=ast.Yield(value=value)) if value is not None:
                return self._chosen(self._value(value, scope), under)
            case ast.Expr(value=value):
                self._value(value, scope)
            case _:
                pass
        return Value()

    def _bind(self, target: ast.expr, value: Value, scope: dict[str, Value]) -> None:
        match target:
            case ast.Name(id=name):
                scope[name] = scope.get(name, Value()) | value
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                for element in elements:
                    self._bind(element, value, scope)
            case ast.Starred(value=inner):
                self._bind(inner, value, scope)
            case ast.Attribute(value=inner):
                self._grow(inner, value, scope)
            case ast.Subscript(value=inner, slice=index):
                self._grow(inner, value | Value(self._value(index, scope).labels & {COMPUTED}), scope)
            case _:
                pass

    def _grow(self, target: ast.expr, value: Value, scope: dict[str, Value]) -> None:
        """Something is put into a container, which may be a module's."""
        shared = isinstance(target, ast.Name) and target.id not in scope and target.id in self._globals
        self._bind(target, value, self._globals if shared else scope)

    # ------------------------------------------------------------------ expressions

    def _value(self, node: ast.expr, scope: dict[str, Value]) -> Value:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise ValueError("it is too tangled to be followed")
        match node:
            case ast.Constant(value=constant):
                return Value(frozenset({CONSTANT})) if isinstance(constant, str) and constant else Value()
            case ast.Name(id=name):
                return self._name(name, scope)
            case ast.Attribute(value=of, attr=name):
                return self._attribute(self._value(of, scope), name)
            case ast.Await(value=inner) | ast.Starred(value=inner) | ast.FormattedValue(value=inner):
                return self._value(inner, scope)
            case ast.UnaryOp(operand=inner):
                return self._value(inner, scope)
            case ast.NamedExpr(target=target, value=inner):
                value = self._value(inner, scope)
                self._bind(target, value, scope)
                return value
            case ast.Lambda():
                called = f"lambda {self._path}:{node.lineno}:{node.col_offset}"
                self._functions.setdefault(called, (self._path, node))
                self._close(called, scope)
                return Value(functions=frozenset({called}))
            case ast.JoinedStr(values=values):
                return union(self._value(value, scope) for value in values)
            case ast.BoolOp(values=values):
                return union(recited(self._value(value, scope)) for value in values)
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                return union(self._value(element, scope) for element in elements)
            case ast.Dict(keys=keys, values=values):
                for key in keys:
                    if key is not None:
                        self._value(key, scope)
                return union(self._value(value, scope) for value in values)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                either = recited(self._value(body, scope)) | recited(self._value(orelse, scope))
                return self._chosen(either, self._value(test, scope).labels)
            case ast.BinOp(left=left, op=op, right=right):
                return self._combined(node, op, self._value(left, scope), self._value(right, scope))
            case ast.Compare(left=left, comparators=others):
                return self._compare(node, [self._value(each, scope) for each in (left, *others)])
            case ast.Subscript(value=of, slice=index):
                return self._subscript(node, self._value(of, scope), index, scope)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self._comprehension(node, scope)
            case ast.Call():
                return self._called(node, scope)
        return union(
            self._value(child, scope) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)
        )

    def _name(self, name: str, scope: dict[str, Value]) -> Value:
        for names in (scope, self._globals):
            if name in names:
                return names[name]
        if name in self._functions:
            return Value(functions=frozenset({name}))
        return Value()

    def _attribute(self, of: Value, name: str) -> Value:
        if TASK in of.labels:
            return Value() if name in ("verb", "skill", "level", "id") else Value(frozenset({RAW}))
        if AGENT in of.labels:
            return Value(frozenset({AGENT}) if name in ("workspace",) else NOTHING)
        return of

    def _combined(self, node: ast.AST, op: ast.operator, left: Value, right: Value) -> Value:
        both = left | right
        arithmetic = NUMBER in both.labels or not isinstance(op, ast.Add | ast.Mod | ast.Mult)
        if arithmetic and both.labels & {RAW, COMPUTED}:
            return self._computed(node, both)
        return both

    def _compare(self, node: ast.Compare, sides: list[Value]) -> Value:
        labels = union(sides).labels
        said = any(POLICY in side.labels for side in sides)
        worked_out = any(COMPUTED in side.labels and POLICY not in side.labels for side in sides)
        if said and worked_out:
            self.compared.append(self._place(node))
        return Value((labels & {COMPUTED}) | ({TRUTH} if labels & {RAW, TRUTH} and not said else set()))

    def _subscript(self, node: ast.Subscript, of: Value, index: ast.expr, scope: dict[str, Value]) -> Value:
        if isinstance(index, ast.Slice):
            bounds = union(
                self._value(each, scope) for each in (index.lower, index.upper) if each is not None
            )
            if index.step is not None and of.labels & {RAW, COMPUTED} and POLICY not in of.labels:
                return self._computed(node, of)
            return self._chosen(of, bounds.labels)
        by = self._value(index, scope).labels
        if by & {RAW, COMPUTED} and of.labels == {CONSTANT}:
            return self._computed(node, of)
        return self._chosen(of, by)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, scope: dict[str, Value]
    ) -> Value:
        inside = dict(scope)
        conditions = Value()
        for generator in node.generators:
            self._bind(generator.target, self._value(generator.iter, inside), inside)
            conditions |= union(self._value(each, inside) for each in generator.ifs)
        element = node.value if isinstance(node, ast.DictComp) else node.elt
        value = self._chosen(self._value(element, inside), conditions.labels)
        filtered = any(generator.ifs for generator in node.generators)
        if filtered and RAW in value.labels and POLICY not in value.labels:
            return self._computed(node, value)
        return value


def _captured(pattern: ast.pattern) -> list[str]:
    names = []
    for node in ast.walk(pattern):
        if isinstance(node, ast.MatchAs | ast.MatchStar) and node.name is not None:
            names.append(node.name)
    return names
