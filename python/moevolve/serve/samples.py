"""One sample's tokens read as text while they are drawn, up to a stop string, each with its log-probability."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from moevolve.models.engine import Engine
from moevolve.models.text_decoder import TextDecoder
from moevolve.protocol.sampling import Drawn


class Told(msgspec.Struct, frozen=True):
    """A token that has a place in the answer: where its text begins, in characters."""

    drawn: Drawn
    offset: int


class More(msgspec.Struct, frozen=True):
    """What a round adds to a sample."""

    text: str
    tokens: tuple[Told, ...]
    finish: str | None


class Stops:
    """Looks for texts in a text that arrives in pieces; of several the one that is complete first counts.

    Args:
        texts: what to look for.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = tuple(texts)
        self._beginnings = frozenset(text[:end] for text in texts for end in range(1, len(text)))
        self._longest = max(map(len, texts), default=1) - 1
        self._held = ""

    def push(self, text: str, *, ended: bool) -> tuple[str, bool]:
        """More of the text: what certainly stands before any of them, and whether one is complete."""
        text = self._held + text
        found = [(at + len(stop), at) for stop in self._texts if (at := text.find(stop)) >= 0]
        if found:
            return text[: min(found)[1]], True
        cut = len(text)
        if not ended:
            for start in range(max(0, cut - self._longest), cut):
                if text[start:] in self._beginnings:
                    cut = start
                    break
        self._held = text[cut:]
        return text[:cut], False


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
        self._stops = Stops(stops)
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
        text, stopped = self._stops.push("".join(parts), ended=finish is not None)
        self._told += len(text)
        self.parts.append(text)
        self.finish = "stop" if stopped else finish
        over = self.finish is not None
        # A token belongs to what has been told once its text begins there; one without text, once the sample is over.
        last = self._told if over and not stopped else self._told - 1
        count = sum(told.offset <= last for told in self._held)
        tokens, self._held = tuple(self._held[:count]), [] if over else self._held[count:]
        return More(text=text, tokens=tokens, finish=self.finish)
