"""The process that runs a suite's tools: JSON lines in, JSON lines out.

A tool is a function of the file whose name does not begin with `_`, or, where the file has `__all__`, a function that it
names. Its docstring says what it does, its annotations what its arguments are; it is called with arguments that fit them.
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from moevolve.tasks.modules import defined

LONGEST = 1000
"""Characters of a message about a call that failed."""


def functions(file: Path) -> dict[str, Callable[..., Any]]:
    """The tools that a file defines, by name.

    Raises:
        TypeError: it defines none, or `__all__` names what is not there.
    """
    sys.path.insert(0, str(file.resolve().parent))
    space = defined(file)
    named = space.get("__all__")
    if missing := next((name for name in named or () if name not in space), None):
        raise TypeError(f"{file.name}: __all__ names {missing!r}, which is not there")
    found = {
        name: value
        for name, value in space.items()
        if _is_function(value)
        and (name in named if named is not None else name[0] != "_" and value.__module__ == file.stem)
    }
    if not found:
        raise TypeError(
            f"{file.name} defines no tool: a function whose name does not begin with _, or one that __all__ names"
        )
    return found


def _is_function(value: object) -> bool:
    """Whether a value is a function, or one under decorators that say what they wrap, such as `functools.lru_cache`."""
    return callable(value) and not isinstance(value, type) and inspect.isfunction(inspect.unwrap(value))


def described(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """A tool's name, description and the JSON schema of its arguments.

    Raises:
        TypeError: a parameter without a name, or an annotation that JSON has no type for.
    """
    known = _parameters(function)
    schemas, classes = msgspec.json.schema_components(
        [kind for _, kind in known], ref_template="#/$defs/{name}"
    )
    named = zip((parameter.name for parameter, _ in known), schemas, strict=True)
    required = [parameter.name for parameter, _ in known if parameter.default is parameter.empty]
    parameters: dict[str, Any] = {"type": "object", "properties": dict(named), "required": required}
    if classes:
        parameters["$defs"] = classes
    return {"name": name, "description": inspect.getdoc(function) or "", "parameters": parameters}


def called(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """What a tool returns; a coroutine is run to its end.

    Raises:
        ValueError: arguments that do not fit; whatever the tool itself raises.
    """
    known = {parameter.name: kind for parameter, kind in _parameters(function)}
    if unknown := sorted(set(arguments) - set(known)):
        raise ValueError(f"no argument {unknown[0]!r}: there are {', '.join(known)}")
    given = {}
    for name, value in arguments.items():
        try:
            given[name] = msgspec.convert(value, known[name])
        except msgspec.ValidationError as error:
            raise ValueError(f"argument {name!r}: {error}") from None
    inspect.signature(function).bind(**given)
    result = function(**given)
    if inspect.iscoroutine(result):
        from moevolve.tasks.coroutines import ended  # An event loop is half of what a start takes.

        return ended(result)
    return result


def _parameters(function: Callable[..., Any]) -> list[tuple[inspect.Parameter, Any]]:
    hints = typing.get_type_hints(function)
    found: list[tuple[inspect.Parameter, Any]] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{function.__name__} takes {parameter}: a tool's arguments all have names")
        found.append((parameter, hints.get(parameter.name, Any)))
    return found


def serve(begin: Callable[[], tuple[list[dict[str, Any]], Callable[[dict[str, Any]], Any]]]) -> None:
    """Answers calls until stdin ends.

    Args:
        begin: reads a suite's own code; returns the tools that it offers, and what answers a call.
    """
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What a suite's code prints is no answer, and nobody types what it reads.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def say(message: dict[str, Any]) -> None:
        target.write(msgspec.json.encode(message) + b"\n")
        target.flush()

    try:
        offered, answer = begin()
    except Exception:  # noqa: BLE001  a suite's own code: whatever it raises is told
        say({"error": traceback.format_exc()[-LONGEST:]})
        return
    say({"tools": offered})
    for line in source:
        try:
            message: dict[str, Any] = {"result": msgspec.to_builtins(answer(msgspec.json.decode(line)))}
            msgspec.json.encode(message)
        except Exception as error:  # noqa: BLE001  a tool's failure is its answer
            message = {"error": f"{type(error).__name__}: {error}"[:LONGEST]}
        say(message)


def tools() -> tuple[list[dict[str, Any]], Callable[[dict[str, Any]], Any]]:
    """The functions of the files on the command line."""
    known: dict[str, Callable[..., Any]] = {}
    homes: dict[str, str] = {}
    for file in sys.argv[1:]:
        for name, function in functions(Path(file)).items():
            if name in known and known[name] is not function:
                raise TypeError(f"{homes[name]} and {file} both define a tool {name!r}: leave one out")
            known[name], homes[name] = function, file
    offered = [described(name, function) for name, function in sorted(known.items())]
    return offered, lambda call: called(known[call["tool"]], call["arguments"])


if __name__ == "__main__":
    serve(tools)
