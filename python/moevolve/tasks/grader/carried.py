"""Skills as bytes, for a process that need not import what a user wrote.

Whatever is installed (the standard library, packages, this one) goes by name. Functions and plain classes of a user's own,
enumerations, closures, lambdas and a notebook's cells included, go by value: their code, and of their module what they
name. A class with another metaclass goes by name, from the file of its module.
"""

from __future__ import annotations

import dataclasses
import dis
import enum
import importlib
import io
import marshal
import pickle
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import moevolve
from moevolve.errors import UsageError

PACKAGE = Path(moevolve.__file__).resolve().parent

_spaces: dict[str, dict[str, Any]] = {}
"""In the process that reads: the globals of each module that functions came from."""


def dumps(value: object, what: str) -> bytes:
    """The bytes of `value`.

    Args:
        value: anything that can be pickled, with functions of a user's own in it.
        what: its name, for the error.

    Raises:
        UsageError: something in it cannot be sent; says what.
    """
    target = io.BytesIO()
    try:
        _Pickler(target, protocol=5).dump(value)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{what} cannot be graded in a process of its own: {error}. Make what its generator and check use inside "
            "them, or of values that can be pickled"
        ) from error
    return target.getvalue()


loads = pickle.loads
"""The value of bytes that `dumps` made in a process of ours."""


def installed(name: str | None) -> bool:
    """Whether a module is one that every process here can import."""
    if name is None:
        return False
    root = name.partition(".")[0]
    if name == "__main__" or root in ("__mp_main__",):
        return False
    if root in sys.builtin_module_names or root in sys.stdlib_module_names or root == "moevolve":
        return True
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return False
    path = Path(file).resolve()
    return any(folder in path.parents for folder in package_folders())


def package_folders() -> list[Path]:
    """Where packages are installed for this interpreter, and where this one lies."""
    names = ("purelib", "platlib")
    folders = [Path(sysconfig.get_path(name)).resolve() for name in names]
    return [*dict.fromkeys([PACKAGE.parent, *folders])]


def names(code: types.CodeType) -> Iterator[str]:
    """The globals that a function's code, or code inside it, reads or writes."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names(constant)


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.ModuleType):
            if not installed(obj.__name__):
                raise pickle.PicklingError(f"it uses the whole module {obj.__name__}, which is not installed")
            return importlib.import_module, (obj.__name__,)
        if isinstance(obj, types.FunctionType) and not _found_by_name(obj):
            return _function(obj)
        if isinstance(obj, types.CellType):
            return _cell, ()
        if isinstance(obj, staticmethod | classmethod):
            return type(obj), (obj.__func__,)
        if isinstance(obj, property):
            return property, (obj.fget, obj.fset, obj.fdel, obj.__doc__)
        if isinstance(obj, types.MappingProxyType):
            return types.MappingProxyType, (dict(obj),)
        if type(obj).__module__ == "dataclasses" and (name := _held_by(dataclasses, obj)):
            return getattr, (dataclasses, name)
        if isinstance(obj, type) and obj.__module__ == "builtins" and (name := _held_by(types, obj)):
            return getattr, (types, name)
        if type(obj) is type and obj.__module__ != "builtins" and not _found_by_name(obj):
            return _class(obj)
        if isinstance(obj, enum.EnumMeta) and not _found_by_name(obj):
            return _enum(obj)
        return NotImplemented


def _found_by_name(obj: types.FunctionType | type) -> bool:
    """Whether an import of its module finds this very object, there as here."""
    if not installed(obj.__module__):
        return False
    found: object = sys.modules.get(obj.__module__)
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is obj


def _held_by(module: types.ModuleType, obj: object) -> str | None:
    """The name under which a module of the standard library has this very object."""
    return next((name for name, value in vars(module).items() if value is obj), None)


def _function(function: types.FunctionType) -> Any:
    code = function.__code__
    held = function.__globals__
    state = {
        "globals": {name: held[name] for name in dict.fromkeys(names(code)) if name in held},
        "cells": [_content(cell) for cell in function.__closure__ or ()],
        "defaults": function.__defaults__,
        "kwdefaults": function.__kwdefaults__,
        "dict": function.__dict__,
    }
    parts = (marshal.dumps(code), function.__module__ or "", function.__name__, function.__qualname__)
    return _make_function, (*parts, function.__closure__ or ()), state, None, None, _fill_function


def _cell() -> types.CellType:
    return types.CellType()


def _content(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def _make_function(
    code: bytes, module: str, name: str, qualname: str, cells: tuple[types.CellType, ...]
) -> types.FunctionType:
    space = _spaces.setdefault(module, {"__builtins__": __builtins__, "__name__": module})
    made = types.FunctionType(marshal.loads(code), space, name, None, cells)
    made.__qualname__, made.__module__ = qualname, module
    return made


def _fill_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    for name, value in state["globals"].items():
        function.__globals__.setdefault(name, value)
    for cell, content in zip(function.__closure__ or (), state["cells"], strict=True):
        if content:
            cell.cell_contents = content[0]
    function.__defaults__ = state["defaults"]
    function.__kwdefaults__ = state["kwdefaults"]
    function.__dict__.update(state["dict"])


_MADE = ("__dict__", "__weakref__", "__slots__")
"""Attributes that a class gets when it is made."""


def _class(kind: type) -> Any:
    slots = kind.__dict__.get("__slots__", ())
    slots = (slots,) if isinstance(slots, str) else tuple(slots)
    state = {
        name: value
        for name, value in kind.__dict__.items()
        if name not in _MADE and not isinstance(value, types.MemberDescriptorType)
    }
    head: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    head |= {"__slots__": slots} if "__slots__" in kind.__dict__ else {}
    return type, (kind.__name__, kind.__bases__, head), state, None, None, _fill_class


def _fill_class(kind: type, state: dict[str, Any]) -> None:
    for name, value in state.items():
        setattr(kind, name, value)


def _enum(kind: enum.EnumMeta) -> Any:
    values: dict[str, enum.Enum] = dict(kind.__members__)
    members = [(name, member._value_) for name, member in values.items()]
    rest = {
        name: value
        for name, value in kind.__dict__.items()
        if isinstance(value, types.FunctionType | property | staticmethod | classmethod)
        and getattr(value, "__module__", kind.__module__) == kind.__module__
    }
    head = (kind.__name__, kind.__module__, kind.__qualname__, kind.__bases__)
    return _make_enum, (type(kind), *head, members), rest, None, None, _fill_class


def _make_enum(
    meta: type[enum.EnumMeta],
    name: str,
    module: str,
    qualname: str,
    bases: tuple[type, ...],
    members: list[tuple[str, Any]],
) -> enum.EnumMeta:
    space: Any = meta.__prepare__(name, bases)
    space["__module__"], space["__qualname__"] = module, qualname
    for member, value in members:
        space[member] = value
    return meta(name, bases, space)
