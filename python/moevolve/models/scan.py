"""Text that arrives in pieces, searched for marks: what may be the beginning of one is held back, nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator


class Tags:
    """A set of literal marks to look for: tags of a format, or stop texts. The one that is complete first counts, and of
    those that end together the longest."""

    def __init__(self, *marks: str) -> None:
        # One that holds another before its own end is never complete first.
        marks = tuple(mark for mark in marks if not any(other in mark[:-1] for other in marks))
        self.pattern = re.compile("|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True)))
        self.beginnings = frozenset(mark[:end] for mark in marks for end in range(1, len(mark)))
        self.held = max(len(mark) for mark in marks) - 1
        """Most characters ever held back."""


class Scan:
    """A cursor over the text so far.

    Consumed text is dropped at the next `push`, so each character is looked at a bounded number of times
    however the text is cut.
    """

    def __init__(self) -> None:
        self._text = ""
        self._at = 0
        self.ended = False

    @property
    def holds(self) -> bool:
        """Whether text is left that nobody took."""
        return self._at < len(self._text)

    @property
    def next(self) -> str:
        """The character that comes next; empty where there is none yet."""
        return self._text[self._at : self._at + 1]

    def push(self, piece: str) -> None:
        """More text."""
        self._text = self._text[self._at :] + piece
        self._at = 0

    def take(self, tags: Tags) -> tuple[str, str | None]:
        """Consumes text up to and with the next mark.

        Returns:
            The text before the mark, and the mark. Without a mark: what certainly belongs to none, and None.
        """
        match = tags.pattern.search(self._text, self._at)
        if match:
            before = self._text[self._at : match.start()]
            self._at = match.end()
            return before, match.group()
        end = len(self._text)
        if not self.ended:
            # The longest suffix that begins a mark is the one to wait for.
            for start in range(max(self._at, end - tags.held), end):
                if self._text[start:] in tags.beginnings:
                    end = start
                    break
        before = self._text[self._at : end]
        self._at = end
        return before, None

    def rest(self) -> tuple[str, None]:
        """Consumes all there is."""
        before = self._text[self._at :]
        self._at = len(self._text)
        return before, None

    def until(self, place: Callable[[str, int], int | None]) -> tuple[str, bool]:
        """Consumes text up to a place in it.

        Args:
            place: where to stop, looking from the second argument on; None where the text goes on.

        Returns:
            The text, and whether it stops there; else it is all there is.
        """
        end = place(self._text, self._at)
        before = self._text[self._at : end]
        self._at = len(self._text) if end is None else end
        return before, end is not None

    def gather(self, tags: Tags) -> Generator[None, None, tuple[str, str | None]]:
        """As `take`, waiting for more text until there is a mark, or None at the end of the text."""
        parts = []
        while True:
            text, mark = self.take(tags)
            parts.append(text)
            if mark is not None or self.ended:
                return "".join(parts), mark
            yield

    def put_back(self, mark: str) -> None:
        """Un-reads the mark that was just taken."""
        self._at -= len(mark)
