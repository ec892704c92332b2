"""One sample's tokens read as text while they are drawn, up to a stop string, each with its log-probability."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from moevolve.policy.engine import Engine
from moevolve.policy.sampling import Drawn
from moevolve.policy.scan import Scan, Tags
from moevolve.policy.text_decoder import TextDecoder


class Told(msgspec.Struct, frozen=True):
    """A token that has a place in the answer: where its text begins, in characters."""

    drawn: Drawn
    offset: int


class More(msgspec.Struct, frozen=True):
    """What a round adds to a sample."""

    text: str
    tokens: tuple[Told, ...]
    finish: str | None


class SampleReader:
    """Turns drawn tokens into text; what may be the beginning of a stop string is held back, and its tokens with it.

    Args:
        engine: decodes; a checkpoint without a tokenizer has tokens and no text.
        marks: special tokens that show, as of `Engine.text`.
        stops: texts that end the sample and are not part of it.
    """

    def __init__(self, engine: Engine, marks: Sequence[str] = (), stops: Sequence[str] = ()) -> None:
        native = engine.native
        self._engine = engine
        self._marks = marks
        self._texts = native.has_tokenizer
        self._ends = frozenset(native.eos)
        self._decoder = TextDecoder(lambda ids: native.decode(ids, False))
        self._stops = Tags(*stops) if stops else None
        self._scan = Scan()
        self._seen = 0
        """Characters decoded."""
        self._told = 0
        """Characters handed out."""
        self._held: list[Told] = []
        self.parts: list[str] = []
        """The text so far."""
        self.drawn = 0
        """Tokens drawn, those of a stop string and the end token included."""
        self.finish: str | None = None

    def take(self, drawn: Sequence[Drawn], finish: str | None) -> More:
        """A round's tokens of this sample; nothing more counts once it has finished."""
        if self.finish is not None:
            return More(text="", tokens=(), finish=None)
        self.drawn += len(drawn)
        parts = []
        for one in drawn:
            if one.token in self._ends and finish == "stop":
                continue
            self._held.append(Told(drawn=one, offset=self._seen))
            shows = self._texts and self._engine.shows(one.token, self._marks)
            text = self._decoder.push(one.token) if shows else ""
            self._seen += len(text)
            parts.append(text)
        if finish is not None and self._decoder.holds:
            parts.append(self._decoder.finish())
        self._scan.push("".join(parts))
        self._scan.ended = finish is not None
        text, mark = self._scan.take(self._stops) if self._stops else self._scan.rest()
        self._told += len(text)
        self.parts.append(text)
        self.finish = "stop" if mark is not None else finish
        over = self.finish is not None
        # A token belongs to what has been told once its text begins there; one without text, once the sample is over.
        last = self._told if over and mark is None else self._told - 1
        count = sum(told.offset <= last for told in self._held)
        tokens, self._held = tuple(self._held[:count]), [] if over else self._held[count:]
        return More(text=text, tokens=tokens, finish=self.finish)
