"""The process that environments run in while attempts call them: JSON lines in, JSON lines out.

A line names a world by its attempt's key; the first one of an attempt says of which class it is and what its task is.
"""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

import msgspec

from moevolve.tasks.environment import Environment, World, kinds_in, tools_of
from moevolve.tasks.tools.worker import LONGEST, described


def kinds(file: Path) -> dict[str, type[Environment]]:
    """The environments that a suite's file defines, by name."""
    sys.path.insert(0, str(file.resolve().parent))
    space = runpy.run_path(str(file), run_name=file.stem)
    return {name: kind for name, kind in kinds_in(space).items() if kind.__module__ == file.stem}


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


def main() -> None:
    """Answers calls until stdin ends."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What an environment prints is no answer.

    def say(message: dict[str, Any]) -> None:
        target.write(msgspec.json.encode(message) + b"\n")
        target.flush()

    try:
        found = kinds(Path(sys.argv[1]))
        tools = offered(found)
    except Exception:  # noqa: BLE001  a suite's own code: whatever it raises is told
        say({"error": traceback.format_exc()[-LONGEST:]})
        return
    say({"tools": tools})
    worlds: dict[int, World] = {}
    for line in source:
        call = msgspec.json.decode(line)
        for over in call["over"]:
            worlds.pop(over, None)
        try:
            session = call["session"]
            if session not in worlds:
                worlds[session] = World(found[call["kind"]], call["task"])
            result = worlds[session].call(call["tool"], call["arguments"])
            message: dict[str, Any] = {"result": msgspec.to_builtins(result)}
            msgspec.json.encode(message)
        except Exception as error:  # noqa: BLE001  a world's refusal is its answer
            message = {"error": f"{type(error).__name__}: {error}"[:LONGEST]}
        say(message)


if __name__ == "__main__":
    main()
