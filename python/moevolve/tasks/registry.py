"""Skills of a user's own: one decorated function each."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from moevolve.errors import UsageError
from moevolve.tasks.skill import LEVELS, Generator, Skill, check_path

_registered: dict[str, Skill] = {}
_requires: dict[str, tuple[str, ...]] = {}


def skill(
    path: str,
    *,
    summary: str = "",
    levels: tuple[int, int] = LEVELS,
    alphabet: str | None = None,
    requires: Sequence[str] = (),
) -> Callable[[Generator], Generator]:
    """Registers a function `(rng, level) -> mv.Task` as a skill of the suite `user`.

        @mv.skill("text/rot13")
        def rot13(rng, level):
            plain = "".join(rng.choices(string.ascii_lowercase, k=level + 2))
            return mv.Task(prompt=f"rot13:{plain}=", answer=codecs.encode(plain, "rot13"))

    The function draws from `rng` alone, so that a seed names its task for ever. Defining the same function
    again (a notebook's cell, a reloaded module) replaces it.

    Args:
        path: the skill's place in the tree.
        summary: one line; the first line of the function's docstring when empty.
        levels: the lowest and the highest level that the function knows.
        alphabet: the characters answers are made of; None allows all.
        requires: paths of the skills that its tasks build on.

    Raises:
        UsageError: a path or the levels cannot be used, or another function holds the path.
    """
    for each in (path, *requires):
        check_path(each)
    if not 1 <= levels[0] <= levels[1]:
        raise UsageError(f"skill {path}: levels {levels} must go from 1 or more upwards")

    def register(generator: Generator) -> Generator:
        there = _registered.get(path)
        if there is not None and _name(there.generator) != _name(generator):
            raise UsageError(f"skill {path} is taken by {_name(there.generator)}")
        first_line = (generator.__doc__ or "").strip().partition("\n")[0]
        line = summary or first_line or path.rpartition("/")[2].replace("_", " ")
        _registered[path] = Skill(
            path=path, summary=line, generator=generator, levels=levels, alphabet=alphabet
        )
        _requires[path] = tuple(requires)
        return generator

    return register


def registered() -> list[Skill]:
    """The user's skills, by path."""
    return [_registered[path] for path in sorted(_registered)]


def requires() -> dict[str, tuple[str, ...]]:
    """The user's skills that build on others, with those."""
    return {path: _requires[path] for path in sorted(_registered) if _requires.get(path)}


def source() -> Path | None:
    """The Python file that defines all of the user's skills when it is run by itself; None where there is no such file.

    Skills of a program's main file, of a function, of several files, of a package, or of a file that imports its neighbours
    are those of that program alone.
    """
    modules = {getattr(skill.generator, "__module__", None) for skill in _registered.values()}
    module = sys.modules.get(next(iter(modules)) or "") if len(modules) == 1 else None
    path = getattr(module, "__file__", None)
    if module is None or path is None or not path.endswith(".py") or module.__name__ != Path(path).stem:
        return None
    if any("<locals>" in _name(skill.generator) for skill in _registered.values()):
        return None
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    return None if _neighbours(tree, Path(path).parent) else Path(path)


def _neighbours(tree: ast.AST, folder: Path) -> bool:
    """Whether a file imports what stands beside it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                return True
            names.add((node.module or "").partition(".")[0])
    return any((folder / f"{name}.py").exists() or (folder / name).is_dir() for name in names if name)


def forget(path: str) -> None:
    """Takes a user's skill out again; no error when it is not there."""
    _registered.pop(path, None)


def _name(generator: Generator) -> str:
    return f"{getattr(generator, '__module__', '?')}.{getattr(generator, '__qualname__', repr(generator))}"
