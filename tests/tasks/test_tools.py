"""A suite's tools: described by their annotations, called in a process of their own, each failure an answer."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from moevolve.errors import UsageError
from moevolve.models.parameters import Signatures
from moevolve.tasks.tools.process import CallFailed, ToolProcess

TOOLS = '''
import os, sys, time
from helpers_of_nobody import *

CALLS = [0]

def weather(city: str, days: int = 1) -> list[str]:
    """The weather of some days.

    It is always the same.
    """
    print("noise")
    return [f"sun in {city}"] * days

def count() -> int:
    CALLS[0] += 1
    return CALLS[0]

def pid() -> int:
    return os.getpid()

def fails(text: str):
    raise KeyError(text)

def hangs():
    while True:
        time.sleep(1)

def dies():
    os._exit(3)

def floods():
    return "x" * (2 << 20)

def odd():
    return object()

async def waits(text: str) -> str:
    """Waits for a text."""
    import asyncio
    await asyncio.sleep(0)
    return text

async def refuses():
    raise KeyError("late")

def forks() -> int:
    other = os.fork()
    while other == 0:
        time.sleep(1)
    return other

def _hidden():
    return 1
'''.replace("from helpers_of_nobody import *\n", "")


@pytest.fixture
def tools(tmp_path: Path) -> Iterator[ToolProcess]:
    (tmp_path / "tools.py").write_text(TOOLS)
    process = ToolProcess([tmp_path / "tools.py"], seconds=3.0)
    yield process
    process.close()
    process.close()


def test_functions_are_described_by_their_annotations(tools: ToolProcess) -> None:
    described = {tool.name: tool for tool in tools.tools}
    assert "_hidden" not in described and "time" not in described
    weather = described["weather"]
    assert weather.description.startswith("The weather of some days.")
    assert weather.parameters == {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    }


def test_calls_have_results_and_share_a_process(tools: ToolProcess) -> None:
    assert tools.call("weather", {"city": "Oslo", "days": 2}) == ["sun in Oslo"] * 2
    assert [tools.call("count", {}) for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("fails", {"text": "x"}, "KeyError: 'x'"),
        ("weather", {"city": 3}, "argument 'city': Expected `str`, got `int`"),
        ("weather", {}, "missing a required argument: 'city'"),
        ("weather", {"town": "Oslo"}, "no argument 'town': there are city, days"),
        ("odd", {}, "TypeError"),
    ],
)
def test_a_call_that_fails_says_why_and_ends_nothing(
    tool: str, arguments: dict[str, object], message: str, tools: ToolProcess
) -> None:
    before = tools.call("pid", {})
    with pytest.raises(CallFailed) as failed:
        tools.call(tool, arguments)
    assert message in str(failed.value)
    assert tools.call("pid", {}) == before


@pytest.mark.parametrize(
    ("tool", "message"),
    [("hangs", "said nothing for 3 s"), ("dies", "died"), ("floods", "larger than 1 MiB")],
)
def test_a_call_that_breaks_its_process_harms_no_other(tool: str, message: str, tools: ToolProcess) -> None:
    before = tools.call("pid", {})
    with pytest.raises(CallFailed, match=message):
        tools.call(tool, {})
    assert tools.call("pid", {}) != before
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)


def test_a_coroutine_is_run_to_its_end(tools: ToolProcess) -> None:
    assert tools.call("waits", {"text": "x"}) == "x"
    with pytest.raises(CallFailed, match="KeyError: 'late'"):
        tools.call("refuses", {})


def test_what_a_tool_has_started_holds_up_no_end_and_ends_with_its_process(tools: ToolProcess) -> None:
    other = tools.call("forks", {})
    handle = os.pidfd_open(other)
    tools.close()
    assert select.select([handle], [], [], 60)[0], "it outlives the tools"
    os.close(handle)
    assert isinstance(tools.call("pid", {}), int)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("def many(*args): pass", "a tool's arguments all have names"),
        ("from shutil import which", "defines no tool"),
        ("__all__ = ['missing']", "names 'missing', which is not there"),
        ("import os\nos._exit(1)", "died"),
    ],
)
def test_files_that_cannot_be_tools_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(text)
    with pytest.raises(UsageError, match="the suite's tools cannot be loaded") as refused:
        _ = ToolProcess([tmp_path / "tools.py"]).tools
    assert message in str(refused.value)


RICH = """
from __future__ import annotations

import enum, functools, subprocess, typing
from dataclasses import dataclass
from shutil import which

__all__ = ["take", "rate", "which", "ask", "ordered", "Order"]

class Colour(enum.Enum):
    RED = "red"

class Point(typing.TypedDict):
    x: int

@dataclass
class Item:
    n: int

@dataclass
class Order:
    items: list[Item]
    colour: Colour

def take(order: Order, at: Point, tags: list[str] = [], more: dict[str, list[int]] = {}) -> list:
    return [order.items[0].n, order.colour.value, at["x"], tags]

@functools.lru_cache
def rate(currency: str) -> float:
    return 2.0

def ask() -> str:
    return input()

def ordered() -> str:
    return subprocess.run(["sort"], capture_output=True, text=True).stdout

def helper() -> int:
    return 1
"""


@pytest.fixture
def rich(tmp_path: Path) -> Iterator[ToolProcess]:
    (tmp_path / "rich.py").write_text(RICH)
    process = ToolProcess([tmp_path / "rich.py"], seconds=5.0)
    yield process
    process.close()


def test_classes_are_described_where_references_point(rich: ToolProcess) -> None:
    take = next(tool for tool in rich.tools if tool.name == "take")
    assert take.parameters["properties"]["order"] == {"$ref": "#/$defs/Order"}
    assert take.parameters["properties"]["tags"] == {"type": "array", "items": {"type": "string"}}
    assert take.parameters["required"] == ["order", "at"]
    given = {"order": {"items": [{"n": 3}], "colour": "red"}, "at": {"x": 4}}
    for order, why in ((given, None), ({**given, "order": {"items": [{"n": "3"}], "colour": "red"}}, "n")):
        problem = Signatures([{"name": "take", "parameters": take.parameters}]).problem("take", order)
        assert problem is None if why is None else why in str(problem)
    assert rich.call("take", given) == [3, "red", 4, []]


def test_all_names_tools_where_it_is_there_decorated_and_imported_ones_too(rich: ToolProcess) -> None:
    assert [tool.name for tool in rich.tools] == ["ask", "ordered", "rate", "take", "which"]
    assert rich.call("rate", {"currency": "x"}) == 2.0


def test_what_a_tool_reads_is_empty_and_no_message_to_its_process(rich: ToolProcess) -> None:
    with pytest.raises(CallFailed, match="EOFError"):
        rich.call("ask", {})
    assert rich.call("ordered", {}) == ""
    assert rich.call("rate", {"currency": "x"}) == 2.0


def test_two_files_do_not_offer_tools_of_one_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("def find(): return 1\n")
    with pytest.raises(UsageError, match="both define a tool 'find'"):
        _ = ToolProcess([tmp_path / "one.py", tmp_path / "two.py"]).tools
