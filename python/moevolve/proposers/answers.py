"""A language model's answer as an edit: a fenced block with the whole file, or blocks of what to replace by what."""

from __future__ import annotations

import re

from moevolve.journal.text import line

LONGEST_SUMMARY = 200

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n(.*?)^[ \t]*\1[ \t]*$", re.M | re.S)
_BLOCK = re.compile(
    r"^<{5,9} ?SEARCH[ \t]*\n(.*?)^={5,9}[ \t]*\n(.*?)^>{5,9} ?REPLACE[ \t]*$", re.M | re.S | re.I
)
_SUMMARY = re.compile(r"^\W*summary\W*[:\-]\W*(.+)$", re.M | re.I)


class Unusable(Exception):
    """An answer that is no edit; the text says why."""


def whole(answer: str) -> str:
    """The text of a file from an answer: its longest fenced block.

    Raises:
        Unusable: there is none.
    """
    blocks = [match[2] for match in _FENCE.finditer(answer)]
    if not blocks:
        raise Unusable("no fenced block, or one that does not end")
    text = max(blocks, key=len)
    if not text.strip():
        raise Unusable("an empty block")
    return text


def replaced(answer: str, source: str) -> str:
    """The source with an answer's blocks applied in their order.

    Raises:
        Unusable: there is no block, or a search text that stands in the file not at all or more than once.
    """
    blocks = _BLOCK.findall(answer)
    if not blocks:
        raise Unusable("no block of SEARCH and REPLACE")
    for search, replace in blocks:
        count = source.count(search) if search else 0
        if count != 1:
            shown = search.strip().partition("\n")[0][:80]
            raise Unusable(f"the search text {shown!r} stands in the file {count} times, and should once")
        source = source.replace(search, replace, 1)
    return source


def summary(answer: str, otherwise: str) -> str:
    """What an answer says that it changed, on one line."""
    found = _SUMMARY.search(answer)
    said = line(found[1].strip()) if found else ""
    return (said or otherwise)[:LONGEST_SUMMARY]
