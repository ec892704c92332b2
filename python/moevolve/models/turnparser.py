"""What the readers of all families' turns share: pieces in, events out, the turn so far."""

from __future__ import annotations

from collections.abc import Generator

from moevolve.models.scan import Scan
from moevolve.models.toolcalls import CallNotes
from moevolve.models.turns import Event, Reply


class TurnParser:
    """One turn in pieces: `feed` each, `finish`, then `reply`. A family's reader sets `_run`, which reads on."""

    _run: Generator[None, None, None]

    def __init__(self) -> None:
        self._scan = Scan()
        self._notes = CallNotes(self._say)

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
        content, reasoning = self._said()
        return Reply(
            content=content,
            reasoning=reasoning,
            tool_calls=tuple(self._notes.calls),
            malformed=tuple(self._notes.malformed),
        )

    def _proceed(self) -> list[Event]:
        next(self._run, None)
        events = list(self._notes.events)
        self._notes.events.clear()
        return events

    def _said(self) -> tuple[str, str]:
        """(content, reasoning) so far."""
        raise NotImplementedError

    def _say(self, text: str) -> None:
        """Takes text of the content."""
        raise NotImplementedError
