"""A language model's answer as an edit: a fenced block with the whole file, or blocks of what to replace by what.

Answers are read line by line, in one pass. A file may hold fences itself, so a prompt asks for one that is longer than any
in the file (`fence`), and what stands between the first such line and the last is the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from moevolve.journal.text import line
from moevolve.proposers.checks import compiles

LONGEST_SUMMARY = 200
SHORTEST_FENCE = 4
"""Backticks of the fence that a prompt asks for: one more than what a model quotes with by habit."""

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})([^`]*)")
_OPEN = re.compile(r"(<{5,9}) ?SEARCH[ \t]*", re.I)
_BETWEEN = re.compile(r"={5,9}[ \t]*")
_CLOSE = re.compile(r">{5,9} ?REPLACE[ \t]*", re.I)
_SUMMARY = re.compile(r"\W*summary\W*[:\-]\W*(.*)", re.I)


class Unusable(Exception):
    """An answer that is no edit; the text says why."""


class _Mark(msgspec.Struct, frozen=True):
    """A line that may open or close a block."""

    at: int
    """Its number."""
    fence: str
    bare: bool
    """Nothing stands after the fence, so that it may close one."""


def fence(*texts: str) -> str:
    """The shortest fence that a prompt may put around these texts: longer than any in them."""
    longest = max(
        (len(mark.fence) for text in texts for mark in _marks(_lines(text)) if mark.fence[0] == "`"),
        default=0,
    )
    return "`" * max(SHORTEST_FENCE, longest + 1)


def whole(answer: str, source: str = "", *, python: bool = False) -> str:
    """The text of a file from an answer: what its prompt's fence holds, from the first to the last.

    Of Python it is the longest that parses, of the file so read and of the answer's blocks: an answer may quote an example
    before it. An answer in a shorter fence is read as far as it can be: of a file that holds fences from the first to the
    last, of any other its longest block.

    Args:
        answer: the model's.
        source: the file that the prompt showed; line ends and end are as its.
        python: whether the file is Python.

    Raises:
        Unusable: there is no block, or none that ends.
    """
    lines = _lines(answer)
    marks = list(_marks(lines))
    asked = fence(source)
    first = next((mark for mark in marks if mark.fence.startswith(asked)), None)
    blocks = [_text(lines[start:end]) for start, end in _blocks(marks)]
    outermost = _outermost(marks, first or marks[0]) if marks else None
    texts = [] if outermost is None else [_text(lines[slice(*outermost)])]
    longest = [max(blocks, key=len)] if blocks else []
    if first is None and python:
        texts += longest
    elif first is None and not any(_marks(_lines(source))):
        texts = longest
    if not texts:
        raise Unusable("no fenced block, or one that does not end")
    text = texts[-1]
    if python:
        ordered = sorted(filter(str.strip, (*texts, *blocks)), key=len, reverse=True)
        text = next((each for each in ordered if compiles({"file.py": each}) is None), text)
    if not text.strip():
        raise Unusable("an empty block")
    return _ended(text, source)


def replaced(answer: str, source: str) -> str:
    """The source with an answer's blocks applied in their order.

    Raises:
        Unusable: there is no block, or a search text that stands in the file not at all or more than once.
    """
    blocks = list(_replacements(_lines(answer)))
    if not blocks:
        raise Unusable("no block of SEARCH and REPLACE")
    if any(_OPEN.fullmatch(each) for each in _lines(source)):
        raise Unusable("the file has such blocks itself, so that it can be written anew alone")
    text = source.replace("\r\n", "\n") if _line_end(source) == "\r\n" else source
    text += "" if text.endswith("\n") or not text else "\n"
    for search, replace in blocks:
        at = text.find(search) if search else -1
        # It may stand there again from within itself.
        if at < 0 or text.find(search, at + 1) >= 0:
            shown, often = (
                search.strip().partition("\n")[0][:80],
                "not at all" if at < 0 else "more than once",
            )
            raise Unusable(f"the search text {shown!r} stands in the file {often}, and should once")
        text = text[:at] + replace + text[at + len(search) :]
    return _ended(text, source)


def summary(answer: str, otherwise: str) -> str:
    """What an answer says that it changed, on one line: what stands after "Summary:", or on the next line that says
    anything."""
    lines = iter(_lines(answer))
    for each in lines:
        if found := _SUMMARY.fullmatch(each):
            rest = found[1] or next((more for more in lines if re.search(r"\w", more)), "")
            return (line(rest.strip()) or otherwise)[:LONGEST_SUMMARY]
    return otherwise[:LONGEST_SUMMARY]


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n")


def _line_end(source: str) -> str:
    """Of a file; one with both kinds is searched as it stands."""
    return "\r\n" if 0 < source.count("\n") == source.count("\r\n") else "\n"


def _ended(text: str, source: str) -> str:
    """A text with the source's kind of line ends, and without one at its end if the source has none there."""
    if source and not source.endswith("\n"):
        text = text.removesuffix("\n")
    return text.replace("\n", _line_end(source))


def _marks(lines: Sequence[str]) -> Iterator[_Mark]:
    for at, each in enumerate(lines):
        if found := _FENCE.fullmatch(each):
            yield _Mark(at, found[1], not found[2].strip())


def _outermost(marks: Sequence[_Mark], first: _Mark) -> tuple[int, int] | None:
    """The lines between a fence and the last one that may close it."""
    last = next((mark for mark in reversed(marks) if mark.bare and mark.fence == first.fence), first)
    return (first.at + 1, last.at) if last.at > first.at else None


def _blocks(marks: Sequence[_Mark]) -> Iterator[tuple[int, int]]:
    """The lines of every block that stands in no other one."""
    inside: list[_Mark] = []
    for mark in marks:
        if inside and mark.bare and mark.fence == inside[-1].fence:
            opened = inside.pop()
            if not inside:
                yield opened.at + 1, mark.at
        elif not inside or (mark.fence == inside[-1].fence and not mark.bare):
            inside.append(mark)


def _replacements(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What to search for and what to put there, of every block that is whole.

    The line that parts the two is as long as the block's first mark, or any where none is: others underline headings.
    """
    opened = 0
    inside: list[str] = []
    exact: int | None = None
    some: int | None = None
    for each in lines:
        begins = _OPEN.fullmatch(each)
        if begins and (not opened or some is None):
            opened, inside, exact, some = len(begins[1]), [], None, None
            continue
        if not opened:
            continue
        between = exact if exact is not None else some
        if between is not None and _CLOSE.fullmatch(each):
            yield _text(inside[:between]), _text(inside[between + 1 :])
            opened = 0
            continue
        if _BETWEEN.fullmatch(each):
            some = len(inside) if some is None else some
            exact = len(inside) if exact is None and len(each.strip()) == opened else exact
        inside.append(each)


def _text(lines: Sequence[str]) -> str:
    return "".join(f"{each}\n" for each in lines)
