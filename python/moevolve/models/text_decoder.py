"""Ids to text, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What a decoder writes for bytes that are no whole character, so far or at all."""

LONGEST = 3
"""Most tokens that an unfinished character has: its first three bytes, one each."""

WINDOW = 16
"""New tokens that are decoded together at most; only bytes that are no text at all come so far."""


class TextDecoder:
    """Decodes a short window around each new token instead of everything so far.

    The window begins with the tokens of the last whole text: decoders treat the first token of a text apart, and bytes
    that are cut off from their character spoil those beside them.

    Args:
        decode: text of token ids, where bytes that form no character become U+FFFD.
        before: tokens that the text goes on from; of a text by itself there are none, and decoders may take a blank from its
            beginning.
    """

    def __init__(self, decode: Callable[[list[int]], str], before: Sequence[int] = ()) -> None:
        self._decode = decode
        self._context = context_of(decode, before)
        self._new: list[int] = []
        self._text = decode(self._context) if self._context else ""
        self._told = len(self._text)
        """Characters of the window's text that have been handed out."""

    @property
    def holds(self) -> bool:
        """Whether the last token ends inside a character."""
        return self._told < len(self._text)

    def push(self, token: int) -> str:
        """Text that is whole with this token; empty while a character is unfinished."""
        self._new.append(token)
        self._text = self._decode(self._context + self._new)
        end = len(self._text)
        # Some decoders turn a whole run of bytes into marks while its last character is unfinished, so marks count
        # only once there are too many tokens for one character.
        least = self._told if len(self._new) <= LONGEST else max(self._told, end - LONGEST)
        while end > least and self._text[end - 1] == UNFINISHED:
            end -= 1
        return self._tell(end)

    def finish(self) -> str:
        """What was held back."""
        return self._tell(len(self._text))

    def _tell(self, end: int) -> str:
        text = self._text[self._told : end]
        self._told = max(self._told, end)
        if not self.holds and self._new:
            self._context, self._new = self._new, []
            self._text = self._decode(self._context)
            self._told = len(self._text)
        elif len(self._new) > WINDOW:
            held = len(self._text) - self._told
            self._context, self._new = [], self._new[-WINDOW // 2 :]
            self._text = self._decode(self._new)
            self._told = len(self._text) - held
        return text


def context_of(decode: Callable[[list[int]], str], before: Sequence[int]) -> list[int]:
    """The fewest last tokens that are a text of whole characters; none where a character is unfinished."""
    for count in range(1, min(LONGEST + 1, len(before)) + 1):
        context = list(before[-count:])
        text = decode(context)
        if text and UNFINISHED not in text:
            return context
    return []


def led(decode: Callable[[list[int]], str], before: Sequence[int], token: int) -> str:
    """What a decoder takes from the beginning of a text by itself whose first token is `token`, and not where it goes on."""
    context = context_of(decode, before)
    if not context:
        return ""
    alone, told = decode([token]), decode(context)
    whole = decode([*context, token])
    if not whole.startswith(told) or not whole.endswith(alone):
        return ""
    return whole[len(told) : len(whole) - len(alone)]
