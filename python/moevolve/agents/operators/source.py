"""Edits of a program's source as trees: find, graft, replace, and prove that the result is a program.

Nothing here puts text together: functions are grafted from `stages.py` as syntax trees, and routes are built
from nodes. The text is made once at the end and must parse back to the same tree.
"""

import ast
from functools import lru_cache

ROUTES = "ROUTES"
ROOTS = ("solve", "dispatch")
"""Functions of a program that stay whether anything calls them or not."""
_PREFIX = "route_"


class Inapplicable(Exception):
    """The operator finds no place for its edit in this source."""


@lru_cache(maxsize=1)
def _stages():
    """Name -> tree of every function in `stages.py`."""
    path = __file__.rpartition("/")[0] + "/stages.py"
    with open(path, encoding="utf-8") as file:  # noqa: PTH123  pathlib doubles the sandbox's start-up time
        tree = ast.parse(file.read())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def parse(text):
    """The tree of a file.

    Raises:
        Inapplicable: it is no Python.
    """
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Inapplicable(f"the source does not parse: {error}") from error


def render(tree):
    """The text of a tree, proven to compile and to parse back to it.

    Raises:
        Inapplicable: it does not.
    """
    ast.fix_missing_locations(tree)
    text, before = "", None
    for node in tree.body:
        apart = any(isinstance(n, ast.FunctionDef) for n in (before, node))
        text += ("" if before is None else "\n\n" if apart else "") + ast.unparse(node) + "\n"
        before = node
    again = parse(text)
    if ast.dump(again) != ast.dump(tree):
        raise Inapplicable("the edited source does not read back as it was meant")
    compile(text, "edited", "exec")
    return text


def functions(tree):
    """Names of the functions that a module defines at its top."""
    return {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def table(tree):
    """The dictionary node of the program's routes.

    Raises:
        Inapplicable: there is none.
    """
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == ROUTES:
                    return node, node.value
    raise Inapplicable("the program has no table of routes")


def graft(tree, name):
    """Puts a stage and all that it calls before the table of routes, if they are not there yet."""
    known = _stages()
    if name not in known:
        raise Inapplicable(f"no stage is called {name}")
    wanted, order = [name], []
    while wanted:
        current = wanted.pop()
        if current in order:
            continue
        order.append(current)
        wanted += [n.id for n in ast.walk(known[current]) if isinstance(n, ast.Name) and n.id in known]
    there = functions(tree)
    place = tree.body.index(table(tree)[0])
    missing = [known[stage] for stage in known if stage in order and stage not in there]
    # Parsed anew for each program, so that two trees never share nodes.
    tree.body[place:place] = [ast.parse(ast.unparse(node)).body[0] for node in missing]


def routes(tree):
    """Verb -> (stage, parameters) of every route that has the form the operators build."""
    bodies = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    found = {}
    _, entries = table(tree)
    for verb, value in zip(entries.keys, entries.values, strict=True):
        if isinstance(verb, ast.Constant) and isinstance(value, ast.Name) and value.id in bodies:
            call = _call(bodies[value.id])
            if call is not None:
                found[verb.value] = call
    return found


def _call(function):
    match function.body:
        case [ast.Return(value=ast.Call(func=ast.Name(id=stage), keywords=keywords))]:
            try:
                return stage, {word.arg: ast.literal_eval(word.value) for word in keywords}
            except ValueError:
                return None
    return None


def set_route(tree, verb, stage, parameters):
    """Makes `verb` go through `stage`: a function of its own, an entry in the table, and the stage's
    source."""
    graft(tree, stage)
    name = _PREFIX + "".join(letter if letter.isalnum() else "_" for letter in verb)
    call = ast.Call(
        func=ast.Name(stage, ast.Load()),
        args=[ast.Name("task", ast.Load())],
        keywords=[ast.keyword(arg=word, value=_literal(value)) for word, value in parameters.items()],
    )
    function = ast.FunctionDef(
        name=name,
        args=ast.arguments(
            posonlyargs=[],
            args=[ast.arg("task")],
            kwonlyargs=[],
            kw_defaults=[],
            defaults=[],
        ),
        body=[ast.Return(call)],
        decorator_list=[],
    )
    if "type_params" in ast.FunctionDef._fields:
        function.type_params = []
    tree.body[:] = [n for n in tree.body if not (isinstance(n, ast.FunctionDef) and n.name == name)]
    node, entries = table(tree)
    tree.body.insert(tree.body.index(node), function)
    _forget(entries, verb)
    entries.keys.append(ast.Constant(verb))
    entries.values.append(ast.Name(name, ast.Load()))


def drop_route(tree, verb):
    """Lets `verb` be asked directly again, and removes what nothing calls any more."""
    _, entries = table(tree)
    if not _forget(entries, verb):
        raise Inapplicable(f"there is no route for {verb}")
    prune(tree)


def prune(tree):
    """Removes functions that nothing reaches from `solve` and the table."""
    named = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    roots = [n for n in tree.body if n not in named.values()] + [named[n] for n in ROOTS if n in named]
    reached, wanted = set(), roots
    while wanted:
        node = wanted.pop()
        for name in {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} & named.keys() - reached:
            reached.add(name)
            wanted.append(named[name])
    keep = reached | set(ROOTS)
    tree.body[:] = [n for n in tree.body if getattr(n, "name", None) not in named.keys() - keep]


def _forget(entries, verb):
    for index, known in enumerate(entries.keys):
        if isinstance(known, ast.Constant) and known.value == verb:
            del entries.keys[index], entries.values[index]
            return True
    return False


def _literal(value):
    if isinstance(value, tuple | list):
        return ast.Tuple([_literal(item) for item in value], ast.Load())
    return ast.Constant(value)


class _Constants(ast.NodeTransformer):
    """Replaces the values of module-level constants."""

    def __init__(self, values):
        self.values = values
        self.changed = set()

    def visit_Module(self, node):
        for statement in node.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                name = statement.targets[0].id
                if name in self.values:
                    statement.value = ast.parse(repr(self.values[name]), mode="eval").body
                    self.changed.add(name)
        return node


def constants(tree):
    """Name -> value of the module-level constants in capitals that are literals."""
    found = {}
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id.isupper()
        ):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def set_constants(tree, values):
    """Gives module-level constants new values.

    Raises:
        Inapplicable: one of them is not there.
    """
    transformer = _Constants(values)
    transformer.visit(tree)
    if transformer.changed != set(values):
        raise Inapplicable(f"no constant {sorted(set(values) - transformer.changed)}")
