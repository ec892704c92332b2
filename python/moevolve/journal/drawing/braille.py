"""A canvas of braille dots: two by four dots to a terminal cell, with a tone for each cell.

The chart libraries for Textual cost five to eight times the CPU of this for the same curve, and a watcher
shares its two cores with the run.
"""

from __future__ import annotations

from moevolve.journal.drawing.lines import Line
from moevolve.journal.kinds import Tone

_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BLANK = 0x2800


class Canvas:
    """`columns` x `rows` cells. Dots outside are ignored; a cell's newer tone replaces older dots."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = max(0, columns), max(0, rows)
        self._dots = [[0] * self.columns for _ in range(self.rows)]
        self._tones: list[list[Tone | None]] = [[None] * self.columns for _ in range(self.rows)]
        self._glyphs: dict[tuple[int, int], str] = {}

    @property
    def width(self) -> int:
        """Width in dots."""
        return self.columns * 2

    @property
    def height(self) -> int:
        """Height in dots."""
        return self.rows * 4

    def dot(self, x: int, y: int, tone: Tone) -> None:
        """Sets the dot at column `x` from the left and row `y` from the top."""
        if not (0 <= x < self.width and 0 <= y < self.height):
            return
        row, column = y // 4, x // 2
        if self._tones[row][column] != tone:
            self._tones[row][column] = tone
            self._dots[row][column] = 0
        self._dots[row][column] |= _BITS[y % 4][x % 2]

    def line(self, x0: int, y0: int, x1: int, y1: int, tone: Tone) -> None:
        """A straight line, both ends included."""
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps + 1):
            self.dot(round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps), tone)

    def glyph(self, x: int, y: int, glyph: str, tone: Tone) -> None:
        """Puts one character over the cell that holds the dot (x, y)."""
        row, column = y // 4, x // 2
        if 0 <= row < self.rows and 0 <= column < self.columns:
            self._glyphs[row, column] = glyph
            self._tones[row][column] = tone

    def row(self, index: int) -> Line:
        """One row of cells, neighbours of one tone in one span."""
        spans: Line = []
        for column in range(self.columns):
            dots = self._dots[index][column]
            glyph = self._glyphs.get((index, column)) or (chr(_BLANK + dots) if dots else " ")
            tone: Tone = self._tones[index][column] or "plain"
            if spans and spans[-1][1] == tone:
                spans[-1] = (spans[-1][0] + glyph, tone)
            else:
                spans.append((glyph, tone))
        return spans
