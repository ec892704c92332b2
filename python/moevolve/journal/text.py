"""Text from programs, models, servers and users, made harmless for whoever shows it.

Escape sequences could move the cursor, retitle the window or paint over a verdict; marks that reorder or hide
text could make one name look like another; a line break could forge a line of ours. `line` is for names and summaries,
`lines` for what a model wrote, `message` for what is said on stderr, `json_text` for JSON.
"""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    r"""
      (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]?        # CSI: colours, cursor, modes
    | (?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])     # OSC, DCS, SOS, PM, APC: until their terminator
      [^\x07\x1b\x9c]* (?:\x07|\x1b\\|\x9c)?
    | \x1b [ -/]* [0-~]?                          # other two-character escapes
    """,
    re.VERBOSE,
)
_SPACES = re.compile(r"[\s\u2028\u2029]+")
_MARKS = (
    "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f"
)
_HIDDEN = re.compile(f"[\x00-\x1f\x7f-\x9f{_MARKS}]")
_STEERING = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{_MARKS}]")


def line(text: str, limit: int = 400) -> str:
    """One line of printable text: no escapes, no control, reordering or zero-width characters, at most `limit` long."""
    if text.isascii() and text.isprintable() and "  " not in text and len(text) <= limit:
        return text.strip()
    visible = _HIDDEN.sub("", _SPACES.sub(" ", _ESCAPES.sub("", text)))
    # Spaces around what was hidden have become neighbours.
    shown = _SPACES.sub(" ", visible).strip()
    if not shown.isprintable():
        shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in shown)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def lines(text: str) -> str:
    """The text with its line breaks and tabs; whatever else steers a terminal is shown as U+FFFD.

    Character by character, so that a text may come in pieces.
    """
    return _STEERING.sub("\ufffd", text)


def message(text: str) -> str:
    """A message of ours with foreign words in it; lines after the first are marked, so that none passes for one of ours."""
    return lines(text.strip("\n")).replace("\n", "\n  | ")


def json_text(text: str) -> str:
    """JSON that means the same and holds none of the characters that steer a terminal: they are escaped."""
    return _STEERING.sub(lambda found: _escaped(found[0]), text)


def _escaped(letter: str) -> str:
    code = ord(letter)
    if code < 1 << 16:
        return f"\\u{code:04x}"
    high, low = divmod(code - (1 << 16), 1 << 10)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
