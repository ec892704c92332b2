"""Turns of gpt-oss: messages, each behind a header that says its channel and whom it is for.

`<|channel|>analysis<|message|>` is reasoning, `final` the answer, `commentary` what is said beside calls; a message
`to=functions.NAME` is a call, its text the arguments. `<|end|>` ends a message, `<|return|>` the turn, `<|call|>` a turn
that calls.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from moevolve.models.messages import REASONING
from moevolve.models.parameters import Signatures
from moevolve.models.scan import Tags
from moevolve.models.toolcalls import CUT_OFF, noted
from moevolve.models.turnparser import TurnParser
from moevolve.models.turns import ContentDelta, ReasoningDelta

START, CHANNEL, MESSAGE, CONSTRAIN = "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"
END, CALL, RETURN = "<|end|>", "<|call|>", "<|return|>"
WITHIN = (START, CHANNEL, MESSAGE, CONSTRAIN, END)
"""Marks that stand inside a turn; the others end it."""
MARKS = (*WITHIN, CALL, RETURN)
FINAL = f"{CHANNEL}final{MESSAGE}"
"""What stands before an answer."""
THOUGHT = f"{CHANNEL}analysis{MESSAGE}"
"""What stands before reasoning."""
NEXT = f"{START}assistant"
"""What stands before each message of a turn but the first."""
LONGEST = 256
"""Characters of a header; what is longer is none."""
_CHANNEL = re.compile(rf"{re.escape(CHANNEL)}\s*(\w+)")
_TO = re.compile(r"(?:^|\s)to=([^\s<]+)")
_PEOPLE = frozenset({"all", "assistant", "user"})
"""Whom a message may be for that is no call."""


def called(name: str) -> str:
    """What stands before the arguments of a call."""
    return f"{CHANNEL}commentary to=functions.{name} {CONSTRAIN}json{MESSAGE}"


def opened(prompt: str) -> str | None:
    """The header of the message that a prompt ends in; None where the turn begins with a header of its own."""
    begun = prompt.rpartition(START)[2] if START in prompt else ""
    header, body, text = begun.partition(MESSAGE)
    return header if body and not any(mark in text for mark in (END, CALL, RETURN)) else None


def channel_of(header: str) -> str:
    """The channel that a header names; `final` where it names none."""
    found = _CHANNEL.search(header)
    return found.group(1) if found else "final"


def with_thinking(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with its reasoning under the name that the family's template reads.

    A turn that calls and says something goes without: there the template takes one of the two.
    """
    told = []
    for message in messages:
        one = dict(message)
        if one.get("tool_calls") and one.get("content") and one.get("thinking") is None:
            for name in REASONING:
                one.pop(name, None)
        told.append(one)
    return told


class HarmonyParser(TurnParser):
    """One turn in pieces: `feed` each, `finish`, then `reply`.

    Args:
        signatures: of the tools that were offered.
        prompt: the rendered conversation before the turn; one that ends inside a message has opened that message.
    """

    _all = Tags(*MARKS)
    _ends = Tags(END, CALL, RETURN, START, CHANNEL)

    def __init__(self, signatures: Signatures, prompt: str = "") -> None:
        super().__init__()
        self._signatures = signatures
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._apart = False
        """Whether what is said next stands apart from what there is of it."""
        self._run = self._turn(opened(prompt))

    @staticmethod
    def speaks(template: str) -> bool:
        """Whether a chat template writes turns so."""
        return all(mark in template for mark in (START, CHANNEL, MESSAGE))

    def _turn(self, header: str | None) -> Generator[None, None, None]:
        role = False
        """Whether the header begins with who speaks."""
        while True:
            if header is None:
                header = yield from self._header(role)
            if header is None:
                return
            self._apart = True
            name = _recipient(header)
            if name is not None:
                mark = yield from self._call(header, name)
            else:
                mark = yield from self._body(channel_of(header))
            if mark is None:
                return
            header, role = None, mark == START
            if mark == CHANNEL:
                self._scan.put_back(mark)

    def _header(self, role: bool) -> Generator[None, None, str | None]:
        """A header, without its last mark; None at the end of the text. What is none is said."""
        parts: list[str] = []
        free = False
        """Whether what stands here is no header."""
        while True:
            text, mark = self._scan.take(self._all)
            parts.append(text)
            said = "".join(parts)
            if free or not _may_be_header(said, role):
                self._say(said)
                parts, free = [], True
            if mark is None and not self._scan.ended:
                yield
            elif mark == MESSAGE and not free:
                return said
            elif mark == CHANNEL or (mark == CONSTRAIN and not free):
                parts, free = [*parts, mark], False
            elif mark in (MESSAGE, CONSTRAIN):
                parts.append(mark)
            else:
                # A header without a message says nothing; the beginning of another word does.
                self._say(
                    "" if free or role or CHANNEL in said or _TO.search(said) else said.strip() and said
                )
                parts, free, role = [], False, mark == START
                if mark is None:
                    return None

    def _body(self, channel: str) -> Generator[None, None, str | None]:
        """A message that is read while it comes; the mark that ends it."""
        while True:
            text, mark = self._scan.take(self._ends)
            if text:
                (self._think if channel == "analysis" else self._say)(text)
            if mark is not None or self._scan.ended:
                return mark
            yield

    def _call(self, header: str, name: str) -> Generator[None, None, str | None]:
        """A call's arguments; the mark that ends them."""
        text, mark = yield from self._scan.gather(self._ends)
        problem = noted(
            {"name": name, "arguments": text if text.strip() else {}}, self._signatures, self._notes
        )
        if problem is not None:
            cut = mark is None and problem[0] is None
            self._notes.fail(f"{header}{MESSAGE}{text}{mark or ''}", CUT_OFF if cut else problem[1], name)
        return mark

    def _said(self) -> tuple[str, str]:
        return "".join(self._content), "".join(self._reasoning)

    def _say(self, text: str) -> None:
        self._tell(text, self._content, ContentDelta)

    def _think(self, text: str) -> None:
        self._tell(text, self._reasoning, ReasoningDelta)

    def _tell(self, text: str, parts: list[str], kind: type[ContentDelta] | type[ReasoningDelta]) -> None:
        if not text:
            return
        if self._apart and parts:
            text = f"\n{text}"
        self._apart = False
        parts.append(text)
        self._notes.events.append(kind(text=text))


def _recipient(header: str) -> str | None:
    """The tool that a message calls; None for one that is said."""
    found = _TO.search(header)
    if found is None or found.group(1) in _PEOPLE:
        return None
    return found.group(1).removeprefix("functions.")


def _may_be_header(said: str, role: bool) -> bool:
    """Whether a text may be the beginning of a header; where the prompt says who speaks, that is `to=` or the channel."""
    begins = said.partition(CHANNEL)[0].lstrip()
    return len(said) <= LONGEST and (role or "to=".startswith(begins[:3]))
