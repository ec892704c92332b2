"""Programs read without being run: whether a `solve` answers with the policy's words or with texts that it computed.

An abstract interpretation of the syntax tree. Every value has labels that say where it may come from; what `solve` may
return decides. It does not follow everything that Python can do, so it finds what a program shows, and proves nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

import msgspec

RAW, NUMBER, COMPUTED, POLICY, CHOSEN, CONSTANT, MEMORY = (
    "task",
    "number",
    "computed",
    "policy",
    "chosen",
    "constant",
    "memory",
)
_TASK, _AGENT = "the task", "the agent"
DEEPEST = 24
"""Calls inside one another that are followed."""
ROUNDS = 3
"""Passes over a function's body: a loop's values come round again."""
MOST_PLACES = 6

_COMPUTING_METHODS = {"translate", "count", "replace", "swapcase", "upper", "lower", "title", "maketrans"}
_COMPUTING_CALLS = {"sorted", "sum", "chr", "ord", "divmod", "pow", "bin", "hex", "eval", "exec", "reversed"}
_PICKING_CALLS = {"max", "min"}
_EMPTY_CALLS = {"len", "range", "bool", "isinstance", "any", "all", "hasattr", "callable", "round"}
_GROWING = {"append", "extend", "add", "insert", "update", "setdefault", "appendleft"}

Labels = frozenset[str]
NOTHING: Labels = frozenset()


class Value(msgspec.Struct, frozen=True):
    """What a value may come from, and which functions it may be."""

    labels: Labels = NOTHING
    functions: frozenset[str] = NOTHING

    def __or__(self, other: Value) -> Value:
        return Value(self.labels | other.labels, self.functions | other.functions)

    def plus(self, *labels: str) -> Value:
        return Value(self.labels | frozenset(labels), self.functions)


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
        answer = reader.call("solve", [Value(frozenset({_TASK})), Value(frozenset({_AGENT}))], {})
    except (SyntaxError, ValueError, RecursionError) as error:
        return Reading("unread", [str(error)[:200]])
    places = list(dict.fromkeys(reader.places))[:MOST_PLACES]
    if COMPUTED in answer.labels:
        return Reading("computes", places)
    if CHOSEN in answer.labels or reader.compared:
        return Reading("chooses", (list(dict.fromkeys(reader.compared)) + places)[:MOST_PLACES])
    if answer.labels & {CONSTANT, MEMORY} and POLICY not in answer.labels:
        return Reading("recites", places)
    return Reading("asks")


class _Reader:
    """One program.

    Args:
        trees: its files' syntax trees.
    """

    def __init__(self, trees: Mapping[str, ast.Module]) -> None:
        self.places: list[str] = []
        self.compared: list[str] = []
        self._functions: dict[str, tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda]] = {}
        self._globals: dict[str, Value] = {}
        self._known: dict[tuple[str, tuple[Value, ...], tuple[tuple[str, Value], ...]], Value] = {}
        self._path = "solve.py"
        self._depth = 0
        self.entry: ast.AsyncFunctionDef | None = None
        for path, tree in trees.items():
            if path in ("improve.py", "learn.py"):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    self._functions.setdefault(node.name, (path, node))
                    if node.name == "solve" and path == "solve.py" and isinstance(node, ast.AsyncFunctionDef):
                        self.entry = node
        for _ in range(2):
            for path, tree in trees.items():
                if path not in ("improve.py", "learn.py"):
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
        node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
        arguments: list[Value],
        keywords: dict[str, Value],
    ) -> Value:
        names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        scope: dict[str, Value] = {}
        for argument, default in zip(names[::-1], node.args.defaults[::-1], strict=False):
            scope[argument] = self._value(default, self._globals)
        scope.update(zip(names, arguments, strict=False))
        rest = arguments[len(names) :]
        if node.args.vararg is not None:
            scope[node.args.vararg.arg] = _union(rest)
        allowed = {*names, *(argument.arg for argument in node.args.kwonlyargs)}
        scope.update({name: value for name, value in keywords.items() if name in allowed})
        if isinstance(node, ast.Lambda):
            return self._value(node.body, scope)
        returned = Value()
        for _ in range(ROUNDS):
            returned |= self._block(node.body, scope, NOTHING)
        return returned

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
                return Value() if value is None else self._chosen(self._value(value, scope), under)
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
                return _union(self._block(part, scope, under) for part in parts)
            case ast.Match(subject=subject, cases=cases):
                matched = self._value(subject, scope)
                for case in cases:
                    for name in _captured(case.pattern):
                        scope[name] = scope.get(name, Value()) | matched
                return _union(self._block(case.body, scope, under | matched.labels) for case in cases)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                scope[node.name] = Value(functions=frozenset({node.name}))
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
            case ast.Starred(value=inner) | ast.Attribute(value=inner):
                self._bind(inner, value, scope)
            case ast.Subscript(value=inner, slice=index):
                self._bind(inner, value | Value(self._value(index, scope).labels & {COMPUTED}), scope)
            case _:
                pass

    # ------------------------------------------------------------------ expressions

    def _value(self, node: ast.expr, scope: dict[str, Value]) -> Value:
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
                return Value(functions=frozenset({called}))
            case ast.JoinedStr(values=values) | ast.BoolOp(values=values):
                return _union(self._value(value, scope) for value in values)
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                return _union(self._value(element, scope) for element in elements)
            case ast.Dict(keys=keys, values=values):
                for key in keys:
                    if key is not None:
                        self._value(key, scope)
                return _union(self._value(value, scope) for value in values)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                either = self._value(body, scope) | self._value(orelse, scope)
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
        return _union(
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
        if _TASK in of.labels:
            return Value() if name in ("verb", "skill", "level", "id") else Value(frozenset({RAW}))
        if _AGENT in of.labels:
            return Value(frozenset({_AGENT}) if name in ("workspace",) else NOTHING)
        return of

    def _combined(self, node: ast.AST, op: ast.operator, left: Value, right: Value) -> Value:
        both = left | right
        arithmetic = NUMBER in both.labels or not isinstance(op, ast.Add | ast.Mod | ast.Mult)
        if arithmetic and both.labels & {RAW, COMPUTED}:
            return self._computed(node, both)
        return both

    def _compare(self, node: ast.Compare, sides: list[Value]) -> Value:
        labels = _union(sides).labels
        said = any(POLICY in side.labels for side in sides)
        worked_out = any(COMPUTED in side.labels and POLICY not in side.labels for side in sides)
        if said and worked_out:
            self.compared.append(self._place(node))
        return Value(labels & {COMPUTED})

    def _subscript(self, node: ast.Subscript, of: Value, index: ast.expr, scope: dict[str, Value]) -> Value:
        if isinstance(index, ast.Slice):
            bounds = _union(
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
            conditions |= _union(self._value(each, inside) for each in generator.ifs)
        element = node.value if isinstance(node, ast.DictComp) else node.elt
        value = self._chosen(self._value(element, inside), conditions.labels)
        filtered = any(generator.ifs for generator in node.generators)
        if filtered and RAW in value.labels and POLICY not in value.labels:
            return self._computed(node, value)
        return value

    # ------------------------------------------------------------------ calls

    def _called(self, node: ast.Call, scope: dict[str, Value]) -> Value:
        arguments = [self._value(argument, scope) for argument in node.args]
        keywords = {
            keyword.arg: self._value(keyword.value, scope) for keyword in node.keywords if keyword.arg
        }
        everything = _union([*arguments, *keywords.values()])
        if isinstance(node.func, ast.Attribute):
            of = self._value(node.func.value, scope)
            found = self._method(node, node.func, of, arguments, everything, scope)
            if found is not None:
                return found
        function = self._value(node.func, scope)
        if function.functions:
            return _union(
                self.call(name, arguments, keywords) for name in function.functions if name in self._functions
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
        if _AGENT in of.labels:
            if name == "gather":
                return Value(everything.labels - {_AGENT})
            if name == "recall":
                return Value(frozenset({MEMORY}))
            if name in ("call", "tools"):
                return self._computed(node, Value(frozenset({COMPUTED})))
            return Value(frozenset({POLICY}))
        if name == "get" and of.functions:
            return Value(functions=of.functions | everything.functions)
        if name in _GROWING:
            self._bind(function.value, everything, scope)
            return of | everything
        if not of.labels and not of.functions and isinstance(function.value, ast.Name):
            module = function.value.id not in scope and function.value.id not in self._globals
            if module:
                return self._foreign(node, everything)
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

    def _builtin(self, node: ast.Call, name: str, arguments: list[Value], everything: Value) -> Value:
        labels = everything.labels
        if name in _EMPTY_CALLS:
            return Value(labels & {COMPUTED})
        if name in ("int", "float", "complex"):
            return everything.plus(NUMBER) if labels & {RAW, COMPUTED} else everything
        if name == "map" and arguments:
            mapped = _union(arguments[1:])
            return self._mapped(node, arguments[0], mapped)
        if name in _COMPUTING_CALLS and labels & {RAW, COMPUTED} and POLICY not in labels:
            return self._computed(node, everything)
        if name in _PICKING_CALLS and NUMBER in labels and POLICY not in labels:
            return self._computed(node, everything)
        if _AGENT in labels:
            # Whoever has the agent may have asked.
            return Value((labels - {_AGENT, _TASK, RAW}) | {POLICY})
        return Value(labels - {_TASK}, everything.functions)

    def _mapped(self, node: ast.Call, function: Value, values: Value) -> Value:
        first = node.args[0]
        if function.functions:
            return _union(self.call(name, [values], {}) for name in function.functions)
        if isinstance(first, ast.Name):
            return self._builtin(node, first.id, [values], values)
        return values

    def _foreign(self, node: ast.Call, everything: Value) -> Value:
        """A function of some module: what it makes of a task's text is computed."""
        if everything.labels & {RAW, COMPUTED, NUMBER} and POLICY not in everything.labels:
            return self._computed(node, everything)
        return Value(everything.labels - {_AGENT, _TASK})

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


def _captured(pattern: ast.pattern) -> list[str]:
    names = []
    for node in ast.walk(pattern):
        if isinstance(node, ast.MatchAs | ast.MatchStar) and node.name is not None:
            names.append(node.name)
    return names


def _union(values: Iterable[Value]) -> Value:
    whole = Value()
    for value in values:
        whole |= value
    return whole
