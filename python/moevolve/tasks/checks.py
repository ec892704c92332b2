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

CARRIED = "moevolve.tasks.verifiers"
"""A check that imports this is made beside the run and sent to the graders: an environment's data lie anywhere."""

_known: dict[str, Check] = {}


class CheckFile(msgspec.Struct, frozen=True):
    """The function `check` of a file, which may read, and import, what stands beside it."""

    file: str

    @property
    def folder(self) -> Path:
        """The suite's."""
        return Path(self.file).parent

    def load(self) -> Check:
        """The function itself.

        Raises:
            UsageError: the file cannot be imported, or defines no such function.
        """
        if self.file not in _known:
            _known[self.file] = _function(imported(Path(self.file)), self.file)
        return _known[self.file]

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
        nodes = list(ast.walk(ast.parse(file.read_bytes(), str(file))))
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{file} cannot be imported: {type(error).__name__}: {error}") from None
    if any(isinstance(node, ast.ImportFrom) and node.module == CARRIED for node in nodes):
        return _function(imported(file), str(file))
    if not any(map(_binds, nodes)):
        raise _none(str(file))
    return CheckFile(str(file.parent.resolve() / file.name))


def check_files(skills: Iterable[Skill]) -> list[CheckFile]:
    """The files that judge tasks of these skills."""
    checks = {
        task.grade.check
        for skill in skills
        if skill.listed is not None
        for tasks in skill.listed.tasks.values()
        for task in tasks
        if isinstance(task.grade, WorkspaceCheck) and isinstance(task.grade.check, CheckFile)
    }
    return sorted(checks, key=lambda check: check.file)


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
