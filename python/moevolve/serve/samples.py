"""One sample's events as text and tokens of an answer: a token is told once its text is."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from moevolve.models.text_reader import TextReader, Vocabulary
from moevolve.protocol.sampling import Drawn, Event


class OffsetToken(msgspec.Struct, frozen=True, gc=False):
    """A token that has a place in the answer: where its text begins, in characters."""

    drawn: Drawn
    offset: int


class SampleDelta(msgspec.Struct, frozen=True, gc=False):
    """What events add to a sample."""

    text: str
    tokens: tuple[OffsetToken, ...]
    """Empty where nobody wants them."""
    finish: str | None


class SampleReader:
    """Follows one sample. The scheduler reads the text of requests with stop texts; of others it is read here, beside the
    thread that draws.

    Args:
        vocabulary: decodes; a checkpoint without a tokenizer has tokens and no text.
        marks: special tokens that show, as of `Engine.text`.
        before: the prompt's tokens, where the text goes on from the prompt's.
        tells: whether anybody wants the tokens, and not the text alone.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        marks: Sequence[str] = (),
        before: Sequence[int] = (),
        *,
        tells: bool = True,
    ) -> None:
        self._tells = tells
        self._reader = TextReader(vocabulary, marks, before=before)
        self._shown = 0
        """Characters handed out."""
        self._held: list[OffsetToken] = []
        self.parts: list[str] = []
        """The text so far."""
        self.drawn = 0
        """Tokens drawn, those of a stop text included."""
        self.finish: str | None = None
        self._logprob = 0.0

    @property
    def mean(self) -> float:
        """The mean log-probability of its tokens."""
        return self._logprob / max(1, self.drawn)

    def take(self, event: Event) -> SampleDelta:
        """What an event, or several in one, adds."""
        text, offsets = event.text, event.offsets
        if text is None:
            reading = self._reader.read([one.token for one in event.drawn], event.finish)
            text, offsets = reading.text, reading.offsets
        self.drawn += len(event.drawn)
        self._logprob += sum(one.logprob for one in event.drawn)
        self.parts.append(text)
        self.finish = event.finish
        if not self._tells:
            return SampleDelta(text=text, tokens=(), finish=self.finish)
        self._held += map(OffsetToken, event.drawn, offsets)
        self._shown += len(text)
        over = event.finish is not None
        # A token belongs to what has been told once its text begins there; one without text, once the sample is over.
        last = self._shown if over and event.stop is None else self._shown - 1
        count = sum(told.offset <= last for told in self._held)
        tokens, self._held = tuple(self._held[:count]), [] if over else self._held[count:]
        return SampleDelta(text=text, tokens=tokens, finish=self.finish)


def joined(events: Sequence[Event]) -> Event:
    """Events of one sample in a row as a single one."""
    if len(events) == 1:
        return events[0]
    last = events[-1]
    return Event(
        request=last.request,
        sample=last.sample,
        drawn=tuple(one for event in events for one in event.drawn),
        finish=last.finish,
        text=None if last.text is None else "".join(event.text or "" for event in events),
        offsets=tuple(offset for event in events for offset in event.offsets),
        stop=last.stop,
        end_logprob=last.end_logprob,
    )
