"""One sample's tokens read as text while they are drawn, up to a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from moevolve.models.scan import Scan, Tags
from moevolve.models.text_decoder import WINDOW, TextDecoder, led
from moevolve.protocol.sampling import TokenRequest


class Vocabulary(Protocol):
    """A model's tokens as texts."""

    @property
    def has_tokenizer(self) -> bool: ...
    def decode(self, ids: Sequence[int], *, special: bool = False) -> str: ...
    def shows(self, token: int, marks: Sequence[str] | None = ()) -> bool: ...


class Reading(msgspec.Struct, frozen=True, gc=False):
    """Text that newly drawn tokens bring."""

    text: str
    """What may be shown now: whole characters, and no beginning of a stop text."""
    offsets: tuple[int, ...]
    """Where the text of each token that was read begins in the whole text; those behind a stop text are not read."""
    finish: str | None
    """Why the sample has ended, `stop` where a stop text is complete."""
    stop: str | None
    """The stop text."""


class TextReader:
    """Text of one sample, token by token; what may be the beginning of a stop text is held back.

    Of several stop texts the one that is complete first counts, so the text does not depend on how tokens cut it.

    Args:
        vocabulary: decodes; without a tokenizer every text is empty.
        marks: special tokens that show, as of `Engine.text`.
        stop: texts that end the sample and are not part of it.
        least: tokens before which no stop text counts.
        before: the prompt's tokens, where the text goes on from the prompt's.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        marks: Sequence[str] | None = (),
        stop: Sequence[str] = (),
        least: int = 0,
        before: Sequence[int] = (),
    ) -> None:
        self._vocabulary = vocabulary if vocabulary.has_tokenizer else None
        self._marks = marks
        self._decoder = TextDecoder(_decoding(vocabulary), ended(vocabulary, before, marks))
        self._stops = Tags(*stop) if stop else None
        self._scan = Scan()
        self._early = least
        """Tokens that are still to come before a stop text counts."""
        self.length = 0
        """Characters decoded so far, those held back included: where the next token's text begins."""
        self.stop: str | None = None
        """The stop text that is complete."""

    @property
    def holds(self) -> bool:
        """Whether text is held back."""
        return self._decoder.holds or self._scan.holds

    def push(self, token: int) -> str:
        """Takes a token; returns the text that may be shown with it. Nothing counts behind a stop text."""
        self._early -= 1
        if self._vocabulary is None or not self._vocabulary.shows(token, self._marks):
            return ""
        return self._show(self._decoder.push(token))

    def finish(self) -> str:
        """What was held back, at the end of the sample."""
        self._scan.ended = True
        return self._show(self._decoder.finish())

    def read(self, tokens: Sequence[int], finish: str | None) -> Reading:
        """Takes newly drawn tokens, and why the sample ended with them if it did."""
        parts, offsets = [], []
        for token in tokens:
            offsets.append(self.length)
            parts.append(self.push(token))
            if self.stop is not None:
                break
        if finish is not None and self.stop is None:
            parts.append(self.finish())
        return Reading(
            text="".join(parts),
            offsets=tuple(offsets),
            finish=finish if self.stop is None else "stop",
            stop=self.stop,
        )

    def _show(self, text: str) -> str:
        self.length += len(text)
        if self._stops is None or self._early > 0:
            return text
        self._scan.push(text)
        before, self.stop = self._scan.take(self._stops)
        return before


def reader_of(vocabulary: Vocabulary, request: TokenRequest) -> TextReader:
    """A reader of one sample of a request, up to its stop texts."""
    sampling = request.sampling
    before = request.prompt if request.follows else ()
    return TextReader(vocabulary, request.marks, sampling.stop, sampling.min_tokens, before)


def ended(vocabulary: Vocabulary, before: Sequence[int], marks: Sequence[str] | None) -> list[int]:
    """The last tokens of a prompt that have a text."""
    if not vocabulary.has_tokenizer:
        return []
    return [token for token in before[-WINDOW:] if vocabulary.shows(token, marks)]


def following(
    vocabulary: Vocabulary,
    before: Sequence[int],
    tokens: Sequence[int],
    text: str,
    marks: Sequence[str] | None = (),
) -> str:
    """A text as it goes on from a prompt's: with the blank that decoders take from the beginning of a text by itself.

    Args:
        vocabulary: decodes.
        before: the prompt's tokens.
        tokens: those of the text.
        text: of these by themselves.
        marks: special tokens that show.
    """
    shown = (token for token in tokens if vocabulary.shows(token, marks))
    if not vocabulary.has_tokenizer or (first := next(shown, None)) is None:
        return text
    return led(_decoding(vocabulary), ended(vocabulary, before, marks), first) + text


def _decoding(vocabulary: Vocabulary) -> Callable[[list[int]], str]:
    return lambda ids: vocabulary.decode(ids, special=True)
