"""Text from tokens as they are drawn: whole characters only, at a cost per token that does not grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from moevolve.models.text_decoder import TextDecoder
from moevolve.protocol.completion import Completion


class Piece(msgspec.Struct, frozen=True):
    """One token and the text that it completes.

    `text` is empty for a token that ends inside a character; the one that completes the character brings it whole.
    `logprob` is a natural log at temperature 1.
    """

    text: str
    token: int
    logprob: float


class Tokens(Protocol):
    """Drawn tokens with their log-probabilities, as the native engine yields them."""

    def __iter__(self) -> Iterator[tuple[int, float]]: ...
    @property
    def finish(self) -> str | None: ...


class TextStream:
    """One completion under way: an iterator of `Piece`, whose texts in a row are the completion's text.

    Args:
        tokens: the draw.
        decode: text of token ids.
        keep: says which tokens show; others have empty texts.
    """

    def __init__(
        self,
        tokens: Tokens,
        decode: Callable[[list[int]], str],
        keep: Callable[[int], bool] = lambda token: True,
    ) -> None:
        self._source = tokens
        self._decoder = TextDecoder(decode)
        self._keep = keep
        self.pieces: list[Piece] = []
        """What has been yielded."""
        self._run = self._draw()

    def __iter__(self) -> Iterator[Piece]:
        return self._run

    @property
    def finish(self) -> str | None:
        """`stop` after an end token, `length` at the limit; None while tokens are left."""
        return self._source.finish

    @property
    def completion(self) -> Completion:
        """The completion as drawn so far; one that was left before its end counts as cut by length."""
        return Completion(
            text="".join(piece.text for piece in self.pieces),
            tokens=[piece.token for piece in self.pieces],
            logprobs=[piece.logprob for piece in self.pieces],
            finish=self.finish or "length",
        )

    def _draw(self) -> Iterator[Piece]:
        # A token that ends inside a character waits for the next one: should it be the last, it takes the rest along.
        waiting: Piece | None = None
        for token, logprob in self._source:
            if waiting is not None:
                yield self._told(waiting)
                waiting = None
            text = self._decoder.push(token) if self._keep(token) else ""
            piece = Piece(text=text, token=token, logprob=logprob)
            if self._decoder.holds:
                waiting = piece
            else:
                yield self._told(piece)
        if waiting is not None:
            yield self._told(msgspec.structs.replace(waiting, text=waiting.text + self._decoder.finish()))

    def _told(self, piece: Piece) -> Piece:
        self.pieces.append(piece)
        return piece
