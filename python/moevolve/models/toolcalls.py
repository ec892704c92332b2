"""Tool calls as model families write them, read while they arrive.

- `minimax`: a block of `<invoke name="tool">` elements, each with `<parameter name="key">value</parameter>`. Strings stand
  raw, other values as JSON; which one it is, the tool's schema says.
- `hermes` (qwen2, qwen3 and others): one block of JSON a call, `{"name": ..., "arguments": {...}}`.
- Llama's and Mistral's stand in `jsoncalls.py`.

A reader is a generator that bare-yields for more text and leaves its findings in the notes of its turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from typing import Any, Protocol

from moevolve.models.parameters import STRING, Signatures, read_json, read_value
from moevolve.models.scan import Scan, Tags
from moevolve.models.turns import (
    Event,
    MalformedCall,
    ToolCall,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallFailed,
    ToolCallStart,
)

CUT_OFF = "the text ends inside the call"
NO_CALL = "it is not a JSON object with a name and arguments"


class CallNotes:
    """The calls of a turn in the order they were read.

    Args:
        say: takes text that turns out to belong to no call, in order.
    """

    def __init__(self, say: Callable[[str], None] = lambda text: None) -> None:
        self.events: list[Event] = []
        self.calls: list[ToolCall] = []
        self.malformed: list[MalformedCall] = []
        self.say = say
        self.frame = ""
        """What stands around calls and is no text unless what it stands around turns out to be none."""

    @property
    def next_index(self) -> int:
        return len(self.calls) + len(self.malformed)

    def end(self, name: str, arguments: dict[str, Any], given_id: str = "") -> None:
        """Notes a complete call."""
        call = ToolCall(index=self.next_index, name=name, arguments=arguments, given_id=given_id)
        self.frame = ""
        self.calls.append(call)
        self.events.append(ToolCallEnd(call=call))

    def fail(self, text: str, reason: str, name: str | None = None) -> None:
        """Notes what was meant as a call; its text stays what the model said."""
        call = MalformedCall(index=self.next_index, reason=reason, text=text, name=name)
        self.malformed.append(call)
        self.events.append(ToolCallFailed(call=call))
        self.say(f"{self.frame}{text}")
        self.frame = ""


class CallReader(Protocol):
    """How a family writes calls."""

    opening: str
    """The mark in a model's text after which calls stand."""
    bare: bool
    """Whether a turn that begins with a JSON object may be a call without the mark."""

    def read(self, scan: Scan, notes: CallNotes) -> Generator[None, None, None]:
        """Reads one block, from behind its opening mark to behind its closing one or the end of the text."""
        ...

    def begin(self, scan: Scan, notes: CallNotes) -> Generator[None, None, None]:
        """Reads a turn's first JSON object; for readers that are `bare`."""
        ...


class JsonStrings:
    """Follows JSON text as it arrives: whether it has come to stand inside a string."""

    _edge = re.compile(r'["\\\n]')

    def __init__(self) -> None:
        self.inside = False
        self._escaped = False

    def feed(self, text: str) -> None:
        """More of the text. A line break, which no JSON string holds, ends one: the text is no JSON, and its quotes mean
        nothing."""
        at = 0
        while at < len(text):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            found = self._edge.search(text, at)
            if found is None:
                return
            at = found.end()
            match found.group():
                case '"':
                    self.inside = not self.inside
                case "\n":
                    self.inside = False
                case _:
                    self._escaped = self.inside


def noted(
    call: Any, signatures: Signatures, notes: CallNotes, given_id: str = ""
) -> tuple[str | None, str] | None:
    """Notes the call that a JSON object says; the tool's name and the reason where it says none.

    Args:
        call: `{"name": ..., "arguments": {...}}`, or `parameters`; as an object, or as its text.
        signatures: of the tools that were offered.
        notes: of the turn.
        given_id: the call's id, where the family has ids of its own.
    """
    unread = None, NO_CALL
    try:
        if isinstance(call, str):
            call = read_json(call)
        name, arguments = call["name"], call.get("arguments", call.get("parameters", {}))
        if isinstance(arguments, str):
            arguments = read_json(arguments)
    except (ValueError, TypeError, KeyError):
        return unread
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return unread
    if (problem := signatures.problem(name, arguments)) is not None:
        return name, problem
    index = notes.next_index
    notes.events.append(ToolCallStart(index=index, name=name))
    notes.events.append(ToolCallArguments(index=index, json=_json(arguments)))
    notes.end(name, arguments, given_id)
    return None


class MarkedCalls:
    """Calls of families that put a mark before each."""

    bare = False

    def begin(self, scan: Scan, notes: CallNotes) -> Generator[None, None, None]:
        """Nothing: without a mark there is no call."""
        yield from ()


class HermesCalls(MarkedCalls):
    """One JSON object a block."""

    opening = "<tool_call>"
    closing = "</tool_call>"
    _end = Tags(closing)

    def __init__(self, signatures: Signatures) -> None:
        self._signatures = signatures

    def read(self, scan: Scan, notes: CallNotes) -> Generator[None, None, None]:
        parts: list[str] = []
        strings = JsonStrings()
        while True:
            text, mark = yield from scan.gather(self._end)
            parts.append(text)
            strings.feed(text)
            if mark is None or not strings.inside:
                break
            # A mark inside an argument closes nothing.
            parts.append(mark)
        whole = "".join(parts)
        if noted(whole, self._signatures, notes) is None:
            return
        # A call that was never closed takes those after it along; each of them may stand alone.
        pieces = f"{whole}{mark or ''}".split(self.opening)
        for place, piece in enumerate(pieces, 1):
            body, closed, after = piece.partition(self.closing)
            problem = noted(body, self._signatures, notes)
            if problem is None:
                notes.say(after)
                continue
            cut_off = place == len(pieces) and not closed
            name, reason = problem
            notes.fail(f"{self.opening}{body}{closed}", CUT_OFF if cut_off else reason, name)
            notes.say(after)


class MinimaxCalls(MarkedCalls):
    """Several invokes a block, values typed by the tools' schemas."""

    opening = "<minimax:tool_call>"
    _closing = "</minimax:tool_call>"
    _in_block = Tags("<invoke", _closing)
    _in_call = Tags("<parameter", "</invoke>", "<invoke", _closing)
    _in_ruins = Tags("</invoke>", "<invoke", _closing)
    _in_value = Tags("</parameter>")
    _in_tag = Tags(">", "<")
    _name = re.compile(r"""\s+name\s*=\s*(?:"([^"]+)"|'([^']+)'|([^\s"']+))\s*""")

    def __init__(self, signatures: Signatures) -> None:
        self._signatures = signatures

    def read(self, scan: Scan, notes: CallNotes) -> Generator[None, None, None]:
        before, calls = notes.next_index, len(notes.calls)
        notes.frame = self.opening
        while True:
            text, mark = yield from scan.gather(self._in_block)
            if mark == "<invoke":
                self._between(text, notes)
                calls = len(notes.calls)
                yield from self._invoke(scan, notes)
                continue
            if notes.next_index == before:
                notes.frame = ""
                if text.strip():
                    reason = "it stands in the tool-call block and is no call"
                else:
                    reason = CUT_OFF if mark is None else "the tool-call block holds no call"
                notes.fail(f"{self.opening}{text}{mark or ''}", reason)
            else:
                self._between(text, notes)
                if len(notes.calls) == calls:
                    notes.say(f"{notes.frame}{mark or ''}")
            notes.frame = ""
            return

    def _between(self, text: str, notes: CallNotes) -> None:
        """Text of a block that stands in none of its calls."""
        if text.strip():
            notes.fail(text, "it stands in the tool-call block and is no call")
        else:
            notes.frame += text

    def _invoke(self, scan: Scan, notes: CallNotes) -> Generator[None, None, None]:
        source = ["<invoke"]
        name = yield from self._attribute(scan, source)
        if name is None:
            text, mark = yield from scan.gather(self._in_ruins)
            source.append(text)
            if mark == "</invoke>":
                source.append(mark)
            elif mark is not None:
                scan.put_back(mark)
            notes.fail("".join(source), CUT_OFF if mark is None else "the invoke names no tool")
            return
        call = _Call(name, notes, self._signatures)
        while True:
            text, mark = yield from scan.gather(self._in_call)
            source.append(text)
            if text.strip():
                call.wrong(f"between its parameters stands {text.strip()[:40]!r}")
            if mark == "<parameter":
                source.append(mark)
                yield from self._parameter(scan, source, call)
                continue
            if mark == "</invoke>":
                source.append(mark)
            elif mark is None:
                call.wrong(CUT_OFF)
            else:
                scan.put_back(mark)
                call.wrong("the invoke is not closed")
            call.end("".join(source))
            return

    def _parameter(self, scan: Scan, source: list[str], call: _Call) -> Generator[None, None, None]:
        name = yield from self._attribute(scan, source)
        if name is None:
            call.wrong("a parameter has no name")
        call.begin(name)
        while True:
            text, mark = scan.take(self._in_value)
            source.append(text)
            call.value(text)
            if mark is not None:
                source.append(mark)
                call.close()
                return
            if scan.ended:
                call.wrong(CUT_OFF)
                return
            yield

    def _attribute(self, scan: Scan, source: list[str]) -> Generator[None, None, str | None]:
        """Reads the rest of a start tag; its `name`, or None where it has none."""
        text, mark = yield from scan.gather(self._in_tag)
        source.append(text)
        if mark == "<":
            scan.put_back(mark)
            return None
        source.append(mark or "")
        found = self._name.fullmatch(text) if mark else None
        return next(group for group in found.groups() if group is not None) if found else None


class _Call:
    """An invoke under way: tells its arguments as JSON while they arrive."""

    def __init__(self, name: str, notes: CallNotes, signatures: Signatures) -> None:
        self._name = name
        self._notes = notes
        self._signatures = signatures
        self._index = notes.next_index
        self._arguments: dict[str, Any] = {}
        self._problem: str | None = None
        self._key: str | None = None
        self._types: frozenset[str] = STRING
        self._parts: list[str] = []
        notes.events.append(ToolCallStart(index=self._index, name=name))

    def wrong(self, reason: str) -> None:
        """Notes why the call is malformed; the first reason stays, unless the text was cut off."""
        if self._problem is None or reason == CUT_OFF:
            self._problem = reason

    def begin(self, key: str | None) -> None:
        """A parameter opens."""
        self._parts = []
        self._key = key
        if key is None:
            return
        if key in self._arguments:
            self.wrong(f"parameter {key!r} is given twice")
        self._types = self._signatures.types(self._name, key) or STRING
        self._tell(f"{', ' if self._arguments else '{'}{_json(key)}: {self._quote}")

    def value(self, text: str) -> None:
        """More of the open parameter's value."""
        self._parts.append(text)
        if self._key is not None and self._quote and text:
            self._tell(_json(text)[1:-1])

    def close(self) -> None:
        """The open parameter is complete."""
        if self._key is None:
            return
        text = "".join(self._parts)
        try:
            value = read_value(text, self._types)
        except ValueError as error:
            self.wrong(f"parameter {self._key!r} {error}")
            value = text
        self._arguments[self._key] = value
        self._tell(self._quote or _json(value))

    def end(self, source: str) -> None:
        """The call is over, well or not."""
        problem = self._problem or self._signatures.problem(self._name, self._arguments)
        if problem is not None:
            self._notes.fail(source, problem, self._name)
            return
        self._tell("}" if self._arguments else "{}")
        self._notes.end(self._name, self._arguments)

    @property
    def _quote(self) -> str:
        """What stands around a value that can be told before it is complete."""
        return '"' if self._types == STRING else ""

    def _tell(self, text: str) -> None:
        self._notes.events.append(ToolCallArguments(index=self._index, json=text))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
