"""One completion while it is drawn: pieces of text, each with its token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from moevolve.models.text_reader import TextReader
from moevolve.protocol.completion import Completion
from moevolve.protocol.sampling import Drawn


class Piece(msgspec.Struct, frozen=True):
    """One token and the text that it completes.

    `text` is empty for a token that ends inside a character, or in what may become a stop text; a later one brings it.
    `logprob` is a natural log at temperature 1, `top` the likeliest tokens with theirs, where they are asked for.
    """

    text: str
    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Tokens(Protocol):
    """Tokens of one sample as they are drawn."""

    @property
    def finish(self) -> str | None: ...
    @property
    def end_logprob(self) -> float | None: ...
    def __iter__(self) -> Iterator[Drawn]: ...


class TextStream:
    """One completion under way: an iterator of `Piece`, whose texts in a row are the completion's text.

    Args:
        tokens: the draw; no more are drawn behind a stop text.
        reader: reads them.
    """

    def __init__(self, tokens: Tokens, reader: TextReader) -> None:
        self._tokens = tokens
        self._reader = reader
        self.pieces: list[Piece] = []
        """What has been yielded."""
        self._run = self._draw()

    def __iter__(self) -> Iterator[Piece]:
        return self._run

    @property
    def finish(self) -> str | None:
        """`stop` after an end token or a stop text, `length` at the limit; None while tokens are left."""
        return self._tokens.finish if self._reader.stop is None else "stop"

    @property
    def completion(self) -> Completion:
        """The completion as drawn so far; one that was left before its end counts as cut by length."""
        tops = tuple(piece.top for piece in self.pieces)
        end = self._tokens.end_logprob
        return Completion(
            text="".join(piece.text for piece in self.pieces),
            tokens=[piece.token for piece in self.pieces],
            logprobs=[*(piece.logprob for piece in self.pieces), *([] if end is None else [end])],
            finish=self.finish or "length",
            top_logprobs=tops if any(tops) else (),
        )

    def _draw(self) -> Iterator[Piece]:
        # A token whose text is held back waits for the next one: should it be the last, it takes the rest along.
        waiting: Piece | None = None
        for one in self._tokens:
            if waiting is not None:
                yield self._keep(waiting)
                waiting = None
            piece = Piece(self._reader.push(one.token), one.token, one.logprob, one.top)
            if self._reader.stop is not None:
                yield self._keep(piece)
                return
            if self._reader.holds:
                waiting = piece
            else:
                yield self._keep(piece)
        if waiting is not None:
            yield self._keep(msgspec.structs.replace(waiting, text=waiting.text + self._reader.finish()))

    def _keep(self, piece: Piece) -> Piece:
        self.pieces.append(piece)
        return piece
