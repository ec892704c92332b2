"""The process that environments run in while attempts call them: JSON lines in, JSON lines out.

A line names a world by its attempt's key; the first one of an attempt says of which class it is and what its task is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moevolve.tasks.environment import Environment, World, kinds_in, tools_of
from moevolve.tasks.modules import defined
from moevolve.tasks.tools.worker import described, serve

BEGIN = ""
"""Stands where a tool's name stands: a world begins, and nothing is done in it yet."""


def kinds(file: Path) -> dict[str, type[Environment]]:
    """The environments that a suite's file defines, by name."""
    sys.path.insert(0, str(file.resolve().parent))
    return {name: kind for name, kind in kinds_in(defined(file)).items() if kind.__module__ == file.stem}


def offered(found: dict[str, type[Environment]]) -> list[dict[str, Any]]:
    """The tools of all environments, each name once.

    Raises:
        TypeError: two environments have a tool of one name with other arguments, or a method that cannot be a tool.
    """
    tools: dict[str, dict[str, Any]] = {}
    for kind in found.values():
        for name in tools_of(kind):
            tool = described(name, getattr(kind(), name))
            if tools.setdefault(name, tool)["parameters"] != tool["parameters"]:
                raise TypeError(f"two environments have a tool {name!r} with other arguments")
    return [tools[name] for name in sorted(tools)]


def worlds() -> tuple[list[dict[str, Any]], Callable[[dict[str, Any]], Any]]:
    """The environments of the file on the command line, a world for each attempt that calls one."""
    known = kinds(Path(sys.argv[1]))
    there: dict[int, World] = {}

    def answer(call: dict[str, Any]) -> Any:
        for over in call["over"]:
            there.pop(over, None)
        session = call["session"]
        if session not in there:
            there[session] = World(known[call["kind"]], call["task"])
        return None if call["tool"] == BEGIN else there[session].call(call["tool"], call["arguments"])

    return offered(known), answer


if __name__ == "__main__":
    serve(worlds)
