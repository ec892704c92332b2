"""Completions as people see them: text on stdout, what the model thought and what went wrong on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING

from moevolve.cli.interrupting import begun
from moevolve.cli.output import say
from moevolve.journal.text import lines
from moevolve.models.turns import (
    ContentDelta,
    Event,
    MalformedCall,
    ReasoningDelta,
    ToolCall,
    ToolCallEnd,
    ToolCallFailed,
)
from moevolve.protocol.completion import Completion

if TYPE_CHECKING:
    from moevolve.models.chat import ChatStream

DIM, PLAIN = "\x1b[2m", "\x1b[22m"


def _shown(text: str, to: IO[str]) -> str:
    """A model's text without what would steer a terminal; as it is where a program reads it from stdout."""
    return text if to is sys.stdout and not to.isatty() else lines(text)


class Teller:
    """Writes one completion after another, each ended by a line break."""

    def __init__(self) -> None:
        self._thinks = False
        self._open = False

    def text(self, pieces: Iterable[str]) -> None:
        """A plain completion as it comes."""
        try:
            for piece in pieces:
                self._write(piece)
        finally:
            self._end(always=True)

    def turn(self, stream: ChatStream) -> None:
        """A turn as it comes."""
        try:
            for event in begun(iter(stream)):
                self._event(event)
        finally:
            self._end()
        drawn = stream.completion
        if drawn.finish == "length" and sys.stderr.isatty():
            say(f"moevolve: cut after {len(drawn.tokens)} tokens; --max-tokens sets another limit")

    def completion(self, completion: Completion) -> None:
        """A completion that is there."""
        from moevolve.models.chat import ChatCompletion

        if not isinstance(completion, ChatCompletion):
            self.text([completion.text])
            return
        if completion.content:
            self._event(ContentDelta(text=completion.content))
        for call in completion.tool_calls:
            self._call(call)
        for failed in completion.malformed:
            self._failed(failed)
        self._end(always=not completion.tool_calls)

    def _event(self, event: Event) -> None:
        match event:
            case ReasoningDelta(text=text):
                self._reason(text)
            case ContentDelta(text=text):
                self._write(text if self._open or self._thinks else text.lstrip("\n"))
            case ToolCallEnd(call=call):
                self._call(call)
            case ToolCallFailed(call=failed):
                self._failed(failed)
            case _:
                pass

    def _reason(self, text: str) -> None:
        if not sys.stderr.isatty():
            return
        sys.stderr.write(("" if self._thinks else DIM) + _shown(text, sys.stderr))
        sys.stderr.flush()
        self._thinks = True

    def _call(self, call: ToolCall) -> None:
        self._end()
        self._write(f"call {call.name} {json.dumps(call.arguments, ensure_ascii=False)}")
        self._end()

    def _failed(self, failed: MalformedCall) -> None:
        self._end()
        say(f"moevolve: a malformed tool call: {failed.reason}")

    def _write(self, text: str) -> None:
        self._settle()
        if not text:
            return
        sys.stdout.write(_shown(text, sys.stdout))
        sys.stdout.flush()
        self._open = True

    def _settle(self) -> None:
        """Ends the reasoning."""
        if self._thinks:
            sys.stderr.write(f"{PLAIN}\n")
            sys.stderr.flush()
            self._thinks = False

    def _end(self, always: bool = False) -> None:
        self._settle()
        if self._open or always:
            sys.stdout.write("\n")
            sys.stdout.flush()
        self._open = False
