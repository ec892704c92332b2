"""Terminals whose encoding lacks box drawing: every glyph of the screens has a plain letter that stands for it."""

from __future__ import annotations

import codecs

GLYPHS = {
    "━": "=",
    "─": "-",
    "│": "|",
    "┃": "|",
    "┤": "+",
    "└": "+",
    "┌": "+",
    "┐": "+",
    "┘": "+",
    "╸": "-",
    "╺": "-",
    "◆": "#",
    "●": "*",
    "◐": "%",
    "■": "#",
    "○": "o",
    "✔": "v",
    "✗": "x",
    "★": "*",
    "◌": "o",
    "·": ".",
    "↶": "<",
    "⊘": "x",
    "…": "~",
    "–": "-",
    "±": "~",
    "░": ".",
    "→": ">",
    "▁": "_",
    "▏": "|",
    "▔": "-",
    "▎": "|",
    "▌": "|",
    "█": "#",
    "▄": "_",
    "▀": "-",
    "╭": "+",
    "╮": "+",
    "╰": "+",
    "╯": "+",
}
BLOCKS = {chr(code): "#" for code in range(0x2580, 0x25A0)}
TABLE = str.maketrans(BLOCKS | GLYPHS | {chr(code): "." for code in range(0x2801, 0x2900)} | {"\u2800": " "})


def lacks_glyphs(encoding: str | None) -> bool:
    """Whether a terminal's encoding cannot say what the screens draw with."""
    try:
        "━│◆⠿".encode(codecs.lookup(encoding or "ascii").name)
    except (LookupError, UnicodeEncodeError):
        return True
    return False


def plain(data: str, encoding: str) -> str:
    """Text for a terminal of this encoding: plain letters for glyphs that it lacks, `?` for whatever else it lacks."""
    return data.translate(TABLE).encode(encoding, "replace").decode(encoding)
