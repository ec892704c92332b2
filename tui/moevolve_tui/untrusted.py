"""Text from programs and policies, made harmless for a terminal.

A variant writes its own summaries and failure details. Escape sequences in them could move the cursor,
retitle the window or paint over a verdict, so they go, and with them control characters and the marks that
reverse the reading order.
"""

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
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def plain(text: str, limit: int = 400) -> str:
    """One line of printable text: no escapes, no control or reordering characters, at most `limit` long."""
    visible = _HIDDEN.sub("", _SPACES.sub(" ", _ESCAPES.sub("", text)))
    # Spaces around what was hidden have become neighbours.
    shown = _SPACES.sub(" ", visible).strip()
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
