"""A line of text in named tones. Which colour a tone has is the stylesheet's business."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

from moevolve.journal.kinds import Tone

Span = tuple[str, Tone]
Line = list[Span]


def width_of(line: Line) -> int:
    """Terminal cells that a line takes."""
    return sum(cell_len(text) for text, _ in line)


def text_of(line: Line) -> str:
    """The line without its tones."""
    return "".join(text for text, _ in line)


def fit(line: Line, width: int) -> Line:
    """The line in exactly `width` cells: padded, or cut with an ellipsis."""
    if width <= 0:
        return []
    used = width_of(line)
    if used <= width:
        return [*line, (" " * (width - used), "plain")] if used < width else line
    kept: Line = []
    room = width - 1
    for text, tone in line:
        cells = cell_len(text)
        if cells > room:
            return [*kept, (set_cell_size(text, room) + "…", tone)]
        kept.append((text, tone))
        room -= cells
    return kept


def spread(left: Line, right: Line, width: int) -> Line:
    """`left` and `right` at the two ends of `width` cells; the left end gives way."""
    room = width - width_of(right)
    return [*fit(left, room), *right] if room > 0 else fit(right, width)
