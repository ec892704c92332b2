"""Checks of suites' folders: a `check.py` is imported by the process that grades, and by no other."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from moevolve.errors import UsageError
from moevolve.tasks.modules import beside, imported
from moevolve.tasks.skill import Skill
from moevolve.tasks.task import Verdict, WorkspaceCheck

Check = Callable[[dict[str, Any], str, Path | None], "float | Verdict"]

TASKS = "tasks.jsonl"
"""What stands beside a check, and is closed to it."""
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What Python raises of a file that is none; the last two of one that nests too deep."""
CARRIED = "moevolve.tasks.verifiers"
"""A check that imports this is made beside the run and sent to the graders: an environment's data lie anywhere."""


class CheckFile(msgspec.Struct, frozen=True):
    """The function `check` of a file, which may read, and import, what stands beside it."""

    file: str

    @property
    def folder(self) -> Path:
        """The suite's."""
        return Path(self.file).parent

    def load(self) -> Check:
        """The function itself, of what the file holds now.

        Raises:
            UsageError: the file cannot be imported, or defines no such function.
        """
        return _function(imported(Path(self.file)), self.file)

    def __call__(self, task: dict[str, Any], answer: str, workspace: Path | None) -> float | Verdict:
        """What it says of an answer."""
        check = self.load()
        with beside(str(self.folder)):
            return check(task, answer, workspace)


def check_of(file: Path) -> Check | None:
    """The check that a file defines, which is not imported for it; None where there is no such file.

    Raises:
        UsageError: the file is no Python, or defines no function `check`.
    """
    if not file.exists():
        return None
    if not file.is_file():
        raise UsageError(f"{file}: is not a plain file")
    try:
        nodes = _nodes(file)
    except UNREADABLE as error:
        raise UsageError(f"{file} cannot be imported: {type(error).__name__}: {error}") from None
    if any(isinstance(node, ast.ImportFrom) and node.module == CARRIED for node in nodes):
        return _function(imported(file), str(file))
    if not any(map(_binds, nodes)):
        raise _none(str(file))
    return CheckFile(str(file.parent.resolve() / file.name))


def check_by(skill: Skill) -> Check | None:
    """The check of a suite's folder that judges the tasks of a skill; None where none does."""
    if skill.listed is None:
        return None
    tasks = (task for of in skill.listed.tasks.values() for task in of)
    return next((task.grade.check for task in tasks if isinstance(task.grade, WorkspaceCheck)), None)


def check_files(skills: Iterable[Skill]) -> list[CheckFile]:
    """The files that judge tasks of these skills."""
    checks = {check for skill in skills if isinstance(check := check_by(skill), CheckFile)}
    return sorted(checks, key=lambda check: check.file)


def libraries(checks: Iterable[CheckFile]) -> tuple[str, ...]:
    """The modules that checks import, and what stands beside them imports, without what stands beside them."""
    names: set[str] = set()
    for check in checks:
        waiting, known = [Path(check.file)], set()
        while waiting:
            file = waiting.pop()
            if file in known:
                continue
            known.add(file)
            for name in _imports(file):
                beside = check.folder.joinpath(*name.split("."))
                own = [each for each in (beside.with_suffix(".py"), beside / "__init__.py") if each.is_file()]
                waiting += own
                top = check.folder / name.partition(".")[0]
                if not (own or top.is_dir() or top.with_suffix(".py").is_file()):
                    names.add(name)
    return tuple(sorted(names))


def _nodes(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_bytes(), str(file))))


def _imports(file: Path) -> set[str]:
    """The modules that a file names in its imports; none where it is no Python."""
    try:
        nodes = _nodes(file)
    except UNREADABLE:
        return set()
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }


def _function(space: dict[str, Any], file: str) -> Check:
    check = space.get("check")
    if not callable(check):
        raise _none(file)
    return check  # type: ignore[no-any-return]


def _none(file: str) -> UsageError:
    return UsageError(f"{file} defines no function check(task, answer, workspace)")


def _binds(node: ast.AST) -> bool:
    """Whether a piece of source gives something the name `check`, as far as one sees without running it."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name == "check"
    if isinstance(node, ast.alias):
        return (node.asname or node.name) in ("check", "*")
    return isinstance(node, ast.Name) and node.id == "check" and isinstance(node.ctx, ast.Store)
