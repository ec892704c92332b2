"""A model's turn read while it arrives: reasoning, content and tool calls, the same however the text is cut."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import msgspec

from moevolve.models.parameters import Signatures
from moevolve.models.scan import Scan, Tags
from moevolve.models.toolcalls import CallNotes, CallReader, HermesCalls, MinimaxCalls
from moevolve.models.turns import ContentDelta, Event, ReasoningDelta, Reply

THINK, THOUGHT = "<think>", "</think>"
MARKS = (
    THINK,
    THOUGHT,
    *(
        text
        for calls in (MinimaxCalls, HermesCalls)
        for text in (calls.opening, calls.opening.replace("<", "</"))
    ),
)
"""Texts that mean something to some format: special tokens of these names are text to a constraint."""


class ReplyFormat(msgspec.Struct, frozen=True):
    """How a family writes its turns."""

    think: bool = False
    """Reasoning stands in `<think>` elements."""
    calls: str | None = None
    """`minimax`, `hermes`, or None for a family without tool calls."""

    @classmethod
    def of(cls, template: str) -> ReplyFormat:
        """The format that a chat template speaks, by the marks that stand in it."""
        calls = (
            "minimax"
            if MinimaxCalls.opening in template
            else "hermes"
            if HermesCalls.opening in template
            else None
        )
        return cls(think=THOUGHT in template, calls=calls)

    @property
    def marks(self) -> tuple[str, ...]:
        """Texts that mean something to this format, and must survive decoding."""
        calls = {
            "minimax": (MinimaxCalls.opening, MinimaxCalls.opening.replace("<", "</")),
            "hermes": (HermesCalls.opening, HermesCalls.opening.replace("<", "</")),
        }
        return ((THINK, THOUGHT) if self.think else ()) + calls.get(self.calls or "", ())

    def parser(self, prompt: str = "", tools: Sequence[Mapping[str, Any]] | None = None) -> ReplyParser:
        """A parser for one turn.

        Args:
            prompt: the rendered conversation before the turn; one that ends in `<think>` has opened the reasoning.
            tools: what the model was offered; their schemas type the arguments.
        """
        reader: CallReader | None = None
        if self.calls == "minimax":
            reader = MinimaxCalls(Signatures(tools))
        elif self.calls == "hermes":
            reader = HermesCalls(Signatures(tools))
        inside = self.think and prompt.rstrip().endswith(THINK)
        return ReplyParser(think=self.think, inside=inside, calls=reader)

    def read(
        self, text: str, prompt: str = "", tools: Sequence[Mapping[str, Any]] | None = None
    ) -> tuple[Reply, list[Event]]:
        """A whole turn at once, and the events it consists of."""
        parser = self.parser(prompt, tools)
        events = [*parser.feed(text), *parser.finish()]
        return parser.reply(), events


class ReplyParser:
    """One turn in pieces: `feed` each, `finish`, then `reply`.

    A `<think>` counts at the beginning of the answer and right behind reasoning or calls; elsewhere it is prose about
    the mark. A tool-call block counts anywhere in content.

    Args:
        think: `<think>` is a mark in this family.
        inside: the turn begins inside the reasoning.
        calls: reads tool-call blocks.
    """

    def __init__(self, *, think: bool, inside: bool, calls: CallReader | None) -> None:
        marks = ((THINK,) if think else ()) + ((calls.opening,) if calls else ())
        self._marks = Tags(*marks) if marks else None
        self._inside = inside
        self._calls = calls
        self._scan = Scan()
        self._notes = CallNotes(self._say)
        self._reasoning = _Channel(ReasoningDelta, self._notes.events, marked=True)
        self._content = _Channel(ContentDelta, self._notes.events)
        self._fresh = True
        self._run = self._turn()

    def feed(self, piece: str) -> list[Event]:
        """More of the text; what is certain by now, in order."""
        self._scan.push(piece)
        return self._proceed()

    def finish(self) -> list[Event]:
        """The text is over; what was held back."""
        self._scan.ended = True
        return self._proceed()

    def reply(self) -> Reply:
        """The turn as read so far."""
        return Reply(
            content=self._content.text,
            reasoning=self._reasoning.text,
            tool_calls=tuple(self._notes.calls),
            malformed=tuple(self._notes.malformed),
        )

    def _proceed(self) -> list[Event]:
        next(self._run, None)
        events = list(self._notes.events)
        self._notes.events.clear()
        return events

    def _turn(self) -> Generator[None, None, None]:
        if self._inside:
            yield from self._think()
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
                if len(self._notes.calls) > calls:
                    self._content.mark()
                    self._fresh = True
            elif self._scan.ended:
                self._content.finish()
                return
            else:
                yield

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
