"""The seal of a suite's graders: one hash over the source that decides whether an answer is right."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from moevolve.tasks import folder
from moevolve.tasks.checks import CheckFile
from moevolve.tasks.grader.carried import PACKAGE, installed, names
from moevolve.tasks.suite import Suite

OWN = (
    "tasks/checks.py",
    "tasks/environment.py",
    "tasks/grading.py",
    "tasks/modules.py",
    "tasks/task.py",
    "tasks/skill.py",
    "tasks/grader/carried.py",
    "tasks/grader/worker.py",
)
"""What of this package grades."""


def seal(suite: Suite) -> str:
    """Content hash of a suite's graders: ours, each skill's module, a folder's files where it has a check,
    and the values that a closure of a user's holds."""
    digest = hashlib.blake2b(digest_size=16, person=b"moevolve.seal")
    for name in OWN:
        _add(digest, name, (PACKAGE / name).read_bytes())
    known: dict[int, Any] = {}
    for path, skill in sorted(suite.skills.items()):
        _add(digest, path, repr((skill.levels, skill.verb, skill.alphabet)).encode())
        # Splits are the run's; who grades and by what is the suite's.
        source = skill.generator if skill.listed is None else skill.listed.tasks
        _value(digest, path, source, known)
    return digest.hexdigest()


def _add(digest: hashlib.blake2b, name: str, data: bytes) -> None:
    for part in (name.encode(), data):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)


def _value(digest: hashlib.blake2b, where: str, value: Any, known: dict[int, Any]) -> None:
    if isinstance(value, str | int | float | bool | bytes | None):
        _add(digest, where, repr(value).encode("utf-8", "backslashreplace"))
        return
    if id(value) in known:
        return
    known[id(value)] = value  # Held, so that no other value takes its place.
    if isinstance(value, tuple | list):
        for index, each in enumerate(value):
            _value(digest, f"{where}[{index}]", each, known)
    elif isinstance(value, Mapping):
        for name, each in sorted(value.items(), key=lambda item: repr(item[0])):
            _value(digest, f"{where}[{name!r}]", each, known)
    elif isinstance(value, set | frozenset):
        _value(digest, where, sorted(map(repr, value)), known)
    elif isinstance(value, types.FunctionType):
        _function(digest, where, value, known)
    elif isinstance(value, types.MethodType):
        _value(digest, where, (value.__func__, value.__self__), known)
    elif isinstance(value, functools.partial):
        _value(digest, where, (value.func, value.args, value.keywords), known)
    elif isinstance(value, CheckFile):
        # It may read what stands beside it; what tasks and settings say is in by their values.
        _add(digest, where, folder.digest(value.folder, (folder.TASKS, folder.SETTINGS)).encode())
    elif isinstance(value, msgspec.Struct):
        _value(digest, where, {name: getattr(value, name) for name in value.__struct_fields__}, known)
    else:
        _add(digest, where, f"{type(value).__module__}.{type(value).__qualname__}".encode())
        if hasattr(value, "__dict__") and not isinstance(value, type | types.ModuleType):
            _value(digest, where, vars(value), known)


def _function(
    digest: hashlib.blake2b, where: str, function: types.FunctionType, known: dict[int, Any]
) -> None:
    _add(digest, where, _source(function))
    for cell in function.__closure__ or ():
        try:
            _value(digest, f"{where}.cell", cell.cell_contents, known)
        except ValueError:  # A cell that nothing was put into yet.
            continue
    if installed(function.__module__):
        return  # Its module's whole source is in already.
    for name in dict.fromkeys(names(function.__code__)):
        if name in function.__globals__:
            _value(digest, f"{where}.{name}", function.__globals__[name], known)


def _source(function: types.FunctionType) -> bytes:
    """The text of the function's module; where there is no file, the function's own text or code."""
    held = getattr(sys.modules.get(function.__module__ or ""), "__file__", None)
    for file in (function.__code__.co_filename, held):
        if file is not None and Path(file).is_file():
            return Path(file).read_bytes()
    try:
        return inspect.getsource(function).encode()
    except (OSError, TypeError):
        return _code(function.__code__)


def _code(code: types.CodeType) -> bytes:
    constants = [_code(each) if isinstance(each, types.CodeType) else repr(each) for each in code.co_consts]
    return repr((code.co_code, code.co_names, code.co_varnames, constants)).encode()
