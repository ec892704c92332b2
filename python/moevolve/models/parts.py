"""Content in parts, for templates that read parts and those that read texts.

A template reads parts whose texts change what it writes, unless it writes them as Python prints a list: that is found out
with other texts in the place of the conversation's, so that no text decides about itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Messages = list[dict[str, Any]]
Render = Callable[[Messages], str | None]
"""A template's text for messages, None where it has none."""

MOST_KINDS = 16
"""Kinds of messages that are tried by themselves; parts of further ones are texts."""
_LETTERS = str.maketrans("0123456789x", "bcdfghklmnp")
_OTHERS = str.maketrans("0123456789x", "rstwyaeiouz")


def readable(told: Messages, render: Render) -> Messages:
    """The messages with their parts as texts, in lines, where the template does not read parts."""
    parted = [place for place, message in enumerate(told) if _is_parted(message.get("content"))]
    if not parted:
        return told
    shown = list(told)
    for place in set(parted) - _read(told, parted, parted, render):
        shown[place] = {**told[place], "content": _joined(told[place]["content"])}
    return shown


def _read(told: Messages, parted: Sequence[int], places: Sequence[int], render: Render) -> set[int]:
    """Those of `places` whose parts are read while the others' are texts."""
    first = render(_tried(told, parted, places))
    if first is None:
        return _read_by_kind(told, parted, places, render)
    small = first.lower()
    found: set[int] = set()
    unsure = []
    for place in places:
        marks = [part["text"] for part in _marks(told[place]["content"], place)]
        if any(f"'text': '{mark}'" in small for mark in marks):
            continue  # as Python prints a list
        if any(mark in first for mark in marks):
            found.add(place)
        else:
            unsure.append(place)
    if not unsure or render(_tried(told, parted, places, unsure)) == first:
        return found
    if len({_kind(told, place) for place in unsure}) == 1:
        return found | set(unsure)  # it writes them otherwise than they are
    return found | _read_by_kind(told, parted, unsure, render)


def _read_by_kind(told: Messages, parted: Sequence[int], places: Sequence[int], render: Render) -> set[int]:
    """As `_read`, for messages that a template may treat apart; none where there is one kind alone."""
    kinds: dict[Any, list[int]] = {}
    for place in places:
        kinds.setdefault(_kind(told, place), []).append(place)
    if len(kinds) == 1:
        return set()
    found: set[int] = set()
    for several in list(kinds.values())[:MOST_KINDS]:
        found |= _read(told, parted, several, render)
    return found


def _kind(told: Messages, place: int) -> tuple[Any, ...]:
    """What templates tell messages apart by."""
    message = told[place]
    return message["role"], bool(message.get("tool_calls")), place == 0, place == len(told) - 1


def _tried(
    told: Messages, parted: Sequence[int], places: Sequence[int], other: Sequence[int] = ()
) -> Messages:
    """The conversation with marks for texts, in parts at `places`, and other ones at `other`."""
    tried, apart, changed = list(told), set(places), set(other)
    for place in parted:
        marks = _marks(told[place]["content"], place, place in changed)
        tried[place] = {**told[place], "content": marks if place in apart else _joined(marks)}
    return tried


def _marks(parts: Sequence[dict[str, Any]], place: int, other: bool = False) -> list[dict[str, Any]]:
    """Parts with texts that stand nowhere else; `other` ones differ from them in each letter, and in their length."""
    marks = (f"{index}x{place}" for index in range(len(parts)))
    texts = [
        f"xkwg{mark.translate(_OTHERS)}jqwxk" if other else f"qjvz{mark.translate(_LETTERS)}zvqj"
        for mark in marks
    ]
    return [{**part, "text": text} for part, text in zip(parts, texts, strict=True)]


def _is_parted(content: Any) -> bool:
    """Whether content is a list of texts."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(part, dict) and part.get("type") == "text" for part in content)
    )


def _joined(parts: Sequence[dict[str, Any]]) -> str:
    return "\n".join(str(part.get("text", "")) for part in parts)
