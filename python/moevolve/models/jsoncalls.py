"""Tool calls that are JSON without an end mark: those of Llama 3 and of Mistral. Where one ends, its brackets say.

- `llama`: the turn is one object, `{"name": ..., "parameters": {...}}`, by itself or behind `<|python_tag|>`; some models
  write several, with `;` between them.
- `mistral`: `[TOOL_CALLS]` and a list of `{"name": ..., "arguments": {...}}`; newer models write
  `[TOOL_CALLS]name[ARGS]{...}`, with `[CALL_ID]` and an id behind the name or without.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from typing import Any

from moevolve.models.parameters import Signatures, read_json
from moevolve.models.scan import Scan, Tags
from moevolve.models.toolcalls import CUT_OFF, NO_CALL, CallNotes, MarkedCalls, noted
from moevolve.protocol.functions import short_id

_SOLID = re.compile(r"\S")


class JsonText:
    """Follows the text of one object or list: where it ends."""

    _edge = re.compile(r'["\\\[\]{}]')

    def __init__(self) -> None:
        self._depth = 0
        self._inside = False
        self._escaped = False

    def end(self, text: str, at: int) -> int | None:
        """The place behind the value's last character, looking from `at` on; None where it goes on."""
        while at < len(text):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            found = self._edge.search(text, at)
            if found is None:
                return None
            at = found.end()
            match found.group():
                case "\\":
                    self._escaped = self._inside
                case '"':
                    self._inside = not self._inside
                case letter if not self._inside:
                    self._depth += 1 if letter in "[{" else -1
                    if self._depth <= 0:
                        return at
        return None


class LlamaCalls:
    """One object a call, at the beginning of the turn or behind the mark.

    Args:
        signatures: of the tools that were offered.
        offered: whether there were any; without them a turn that is an object is an answer.
    """

    opening = "<|python_tag|>"
    _call = re.compile(r'\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*"')

    def __init__(self, signatures: Signatures, offered: bool) -> None:
        self._signatures = signatures
        self.bare = offered

    def read(self, scan: Scan, notes: CallNotes) -> Generator[None, None, None]:
        """As of `CallReader`. What stands behind the mark and is no object is code for an interpreter that is not here."""
        blanks = yield from _blanks(scan)
        if scan.next != "{":
            notes.fail(f"{self.opening}{blanks}", CUT_OFF if scan.ended and not scan.next else NO_CALL)
            return
        yield from self._objects(scan, notes, f"{self.opening}{blanks}")

    def begin(self, scan: Scan, notes: CallNotes) -> Generator[None, None, None]:
        """Reads a turn that begins with an object: one that says no call is the answer."""
        blanks = yield from _blanks(scan)
        if scan.next == "{":
            yield from self._objects(scan, notes, "", blanks)
        else:
            notes.say(blanks)

    def _objects(
        self, scan: Scan, notes: CallNotes, mark: str, before: str = ""
    ) -> Generator[None, None, None]:
        while True:
            text, whole = yield from _value(scan)
            if mark or self._is_call(text, whole):
                problem = noted(text, self._signatures, notes)
                if problem is not None:
                    name, reason = problem
                    notes.fail(f"{before}{mark}{text}", reason if whole else CUT_OFF, name)
                    return
            else:
                notes.say(f"{before}{text}")
                return
            before = yield from _blanks(scan)
            if scan.next == ";":
                before += scan.until(lambda text, at: at + 1)[0]
                before += yield from _blanks(scan)
            mark = ""
            if scan.next != "{":
                notes.say(before)
                return

    def _is_call(self, text: str, whole: bool) -> bool:
        if self._call.match(text) is None:
            return False
        return not whole or '"parameters"' in text or '"arguments"' in text


class MistralCalls(MarkedCalls):
    """A list of calls behind the mark, or the tool's name and its arguments."""

    opening = "[TOOL_CALLS]"
    ids = "[CALL_ID]"
    arguments = "[ARGS]"
    _head = Tags(ids, arguments, "{")

    def __init__(self, signatures: Signatures) -> None:
        self._signatures = signatures

    def read(self, scan: Scan, notes: CallNotes) -> Generator[None, None, None]:
        """As of `CallReader`."""
        blanks = yield from _blanks(scan)
        if scan.next in ("[", "{"):
            yield from self._list(scan, notes, f"{self.opening}{blanks}")
        else:
            yield from self._named(scan, notes, blanks)

    def _list(self, scan: Scan, notes: CallNotes, mark: str) -> Generator[None, None, None]:
        text, whole = yield from _value(scan)
        try:
            value = read_json(text)
        except ValueError:
            notes.fail(f"{mark}{text}", NO_CALL if whole else CUT_OFF)
            return
        calls = value if isinstance(value, list) else [value]
        if not calls:
            notes.fail(f"{mark}{text}", "the tool-call block holds no call")
        for call in calls:
            problem = noted(call, self._signatures, notes, _id(call, notes))
            if problem is not None:
                name, reason = problem
                own = f"{mark}{text}" if len(calls) == 1 else json.dumps(call, ensure_ascii=False)
                notes.fail(own, reason, name)

    def _named(self, scan: Scan, notes: CallNotes, blanks: str) -> Generator[None, None, None]:
        source, own = [self.opening, blanks], ""
        name, mark = yield from scan.gather(self._head)
        source += [name, mark or ""]
        if mark == self.ids:
            own, mark = yield from scan.gather(self._head)
            source += [own, mark or ""]
        if mark is None:
            notes.fail("".join(source), CUT_OFF)
            return
        if mark == "{":
            scan.put_back(mark)
            source.pop()
        else:
            source.append((yield from _blanks(scan)))
        if scan.next != "{":
            notes.fail("".join(source), CUT_OFF if scan.ended and not scan.next else NO_CALL, name.strip())
            return
        text, whole = yield from _value(scan)
        call = {"id": own.strip(), "name": name.strip(), "arguments": text}
        problem = noted(call, self._signatures, notes, _id(call, notes))
        if problem is not None:
            notes.fail("".join([*source, text]), problem[1] if whole else CUT_OFF, name.strip())


def _id(call: Any, notes: CallNotes) -> str:
    """A call's id as the family's templates take it: nine letters and digits, the model's own where it wrote one."""
    own = call.get("id") if isinstance(call, dict) else None
    if isinstance(own, str) and re.fullmatch("[A-Za-z0-9]{9}", own):
        return own
    return short_id(notes.next_index)


def _blanks(scan: Scan) -> Generator[None, None, str]:
    """Blanks up to the next letter, or the end of the text."""
    parts = []
    while True:
        text, stopped = scan.until(_solid)
        parts.append(text)
        if stopped or scan.ended:
            return "".join(parts)
        yield


def _solid(text: str, at: int) -> int | None:
    found = _SOLID.search(text, at)
    return None if found is None else found.start()


def _value(scan: Scan) -> Generator[None, None, tuple[str, bool]]:
    """An object or list that begins here, and whether it came to its end."""
    parts = []
    value = JsonText()
    while True:
        text, whole = scan.until(value.end)
        parts.append(text)
        if whole or scan.ended:
            return "".join(parts), whole
        yield
