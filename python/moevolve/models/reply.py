"""A model's turn read while it arrives: reasoning, content and tool calls, the same however the text is cut."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import msgspec

from moevolve.models.harmony import MARKS as HARMONY
from moevolve.models.harmony import WITHIN, HarmonyParser
from moevolve.models.jsoncalls import LlamaCalls, MistralCalls
from moevolve.models.parameters import Signatures
from moevolve.models.scan import Tags
from moevolve.models.toolcalls import CallReader, HermesCalls, MinimaxCalls
from moevolve.models.turnparser import TurnParser
from moevolve.models.turns import ContentDelta, Event, ReasoningDelta, Reply

THINK, THOUGHT = "<think>", "</think>"
_CALL_MARKS = {
    "minimax": (MinimaxCalls.opening, MinimaxCalls.opening.replace("<", "</")),
    "hermes": (HermesCalls.opening, HermesCalls.opening.replace("<", "</")),
    "llama": (LlamaCalls.opening,),
    "mistral": (MistralCalls.opening, MistralCalls.ids, MistralCalls.arguments),
}
_NAMED = '{"name": function name, "parameters":'
"""How templates of Llama 3 ask for calls."""


class ReplyFormat(msgspec.Struct, frozen=True):
    """How a family writes its turns."""

    think: bool = False
    """Reasoning stands in `<think>` elements."""
    calls: str | None = None
    """`minimax`, `hermes`, `llama`, `mistral`, or None for a family whose calls nobody here reads."""
    harmony: bool = False
    """Turns are messages in channels, calls among them (`harmony.py`)."""
    named: str = ""
    """What stands between a tool's name and its arguments where calls of `mistral` are no list."""

    @classmethod
    def of(cls, template: str) -> ReplyFormat:
        """The format that a chat template speaks, by the marks that stand in it."""
        if HarmonyParser.speaks(template):
            return cls(harmony=True, calls="harmony")
        think = THOUGHT in template
        for calls, marks in _CALL_MARKS.items():
            if marks[0] in template or (calls == "llama" and _NAMED in template):
                named = "".join(mark for mark in marks[1:] if calls == "mistral" and mark in template)
                return cls(think=think, calls=calls, named=named)
        return cls(think=think)

    @property
    def marks(self) -> tuple[str, ...]:
        """Texts that mean something to this format, and must survive decoding."""
        if self.harmony:
            return HARMONY
        return ((THINK, THOUGHT) if self.think else ()) + _CALL_MARKS.get(self.calls or "", ())

    @property
    def written(self) -> tuple[str, ...]:
        """Those of them that stand inside a turn: whoever holds a turn to a form writes no mark that ends it."""
        return WITHIN if self.harmony else self.marks

    def parser(self, prompt: str = "", tools: Sequence[Mapping[str, Any]] | None = None) -> TurnParser:
        """A parser for one turn.

        Args:
            prompt: the rendered conversation before the turn; one that ends in `<think>` has opened the reasoning.
            tools: what the model was offered; their schemas type the arguments.
        """
        if self.harmony:
            return HarmonyParser(Signatures(tools), prompt)
        inside = self.think and prompt.rstrip().endswith(THINK)
        return ReplyParser(think=self.think, inside=inside, calls=self._reader(tools))

    def _reader(self, tools: Sequence[Mapping[str, Any]] | None) -> CallReader | None:
        match self.calls:
            case "minimax":
                return MinimaxCalls(Signatures(tools))
            case "hermes":
                return HermesCalls(Signatures(tools))
            case "llama":
                return LlamaCalls(Signatures(tools), bool(tools))
            case "mistral":
                return MistralCalls(Signatures(tools))
            case _:
                return None

    def read(
        self, text: str, prompt: str = "", tools: Sequence[Mapping[str, Any]] | None = None
    ) -> tuple[Reply, list[Event]]:
        """A whole turn at once, and the events it consists of."""
        parser = self.parser(prompt, tools)
        events = [*parser.feed(text), *parser.finish()]
        return parser.reply(), events


MARKS = ReplyFormat(think=True, calls="minimax").marks + ReplyFormat(calls="hermes").marks
"""Texts that mean something to the formats of one mark each: special tokens of these names are text to a constraint."""


class ReplyParser(TurnParser):
    """One turn in pieces: `feed` each, `finish`, then `reply`.

    A `<think>` counts at the beginning of the answer and right behind reasoning or calls; elsewhere it is prose about
    the mark. A tool-call block counts anywhere in content.

    Args:
        think: `<think>` is a mark in this family.
        inside: the turn begins inside the reasoning.
        calls: reads tool-call blocks.
    """

    def __init__(self, *, think: bool, inside: bool, calls: CallReader | None) -> None:
        super().__init__()
        marks = ((THINK,) if think else ()) + ((calls.opening,) if calls else ())
        self._marks = Tags(*marks) if marks else None
        self._inside = inside
        self._calls = calls
        self._reasoning = _Channel(ReasoningDelta, self._notes.events, marked=True)
        self._content = _Channel(ContentDelta, self._notes.events)
        self._fresh = True
        self._run = self._turn()

    def _turn(self) -> Generator[None, None, None]:
        if self._inside:
            yield from self._think()
        if self._calls and self._calls.bare:
            yield from self._calls.begin(self._scan, self._notes)
            self._called(0)
        while True:
            text, mark = self._scan.take(self._marks) if self._marks else self._scan.rest()
            self._say(text)
            if mark == THINK and not self._fresh:
                self._say(mark)
            elif mark == THINK:
                self._reasoning.part()
                yield from self._think()
            elif mark is not None and self._calls:
                calls = len(self._notes.calls)
                self._fresh = False
                yield from self._calls.read(self._scan, self._notes)
                self._called(calls)
            elif self._scan.ended:
                self._content.finish()
                return
            else:
                yield

    def _said(self) -> tuple[str, str]:
        return self._content.text, self._reasoning.text

    def _called(self, before: int) -> None:
        """Calls have been read, where there are more than before."""
        if len(self._notes.calls) > before:
            self._content.mark()
            self._fresh = True

    def _say(self, text: str) -> None:
        self._content.add(text)
        if text.strip():
            self._fresh = False

    def _think(self) -> Generator[None, None, None]:
        end = Tags(THOUGHT)
        while True:
            text, mark = self._scan.take(end)
            self._reasoning.add(text)
            if mark is not None or self._scan.ended:
                self._content.mark()
                self._fresh = True
                return
            yield


class _Channel:
    """Text as it becomes certain: line breaks at its edges are left out where they stand beside a mark of the format."""

    def __init__(
        self, kind: type[ReasoningDelta | ContentDelta], events: list[Event], marked: bool = False
    ) -> None:
        self._kind = kind
        self._events = events
        self._parts: list[str] = []
        self._breaks = 0
        """Line breaks that belong to the text if more of it follows."""
        self._marked = marked
        """Whether nothing but line breaks has come since the last mark."""

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def add(self, text: str) -> None:
        """More text."""
        body = text.lstrip("\n")
        self._breaks += len(text) - len(body)
        if not body:
            return
        inner = body.rstrip("\n")
        whole = bool(self._parts) or not self._marked
        self._tell(("\n" * self._breaks if whole else "") + inner)
        self._breaks = len(body) - len(inner)
        self._marked = False

    def part(self) -> None:
        """What follows stands apart from what there is."""
        self._breaks = max(self._breaks, 1)

    def mark(self) -> None:
        """A mark of the format stands here."""
        self._marked = True

    def finish(self) -> None:
        """The text is over."""
        if self._breaks and not self._marked:
            self._tell("\n" * self._breaks)

    def _tell(self, text: str) -> None:
        self._parts.append(text)
        self._events.append(self._kind(text=text))
