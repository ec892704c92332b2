"""Requests that share an engine: taken in from any thread, answered step by step."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from moevolve import _native
from moevolve.errors import UsageError
from moevolve.models.decoder import Decoder
from moevolve.models.text_reader import TextReader, following, reader_of
from moevolve.protocol.completion import Completion
from moevolve.protocol.sampling import Drawn, Event, TokenRequest


class Scheduler:
    """Requests under way on one engine, answered together.

    A sample depends on the weights, its prompt, its key and its settings alone, never on what else is under way. One
    thread drives `step` or `complete`; any may submit and cancel.

    Args:
        engine: whose weights answer.
        slots: samples that are drawn together, at most.
        memory: most bytes of keys, values and states; None takes what all slots need at the model's last position,
            but at most half of the memory that is free.

    Raises:
        UsageError: no slots.
        CapacityError: the memory holds nothing.
    """

    def __init__(self, engine: Decoder, *, slots: int = 64, memory: int | None = None) -> None:
        self.engine = engine
        self._native = engine.native.scheduler(slots, 0 if memory is None else max(memory, 1))
        self._lock = threading.Lock()
        self._readers: dict[tuple[int, int], TextReader] = {}
        """Of samples with stop texts that the engine has not ended; one that met its stop text waits for that."""
        self._pending: list[Event] = []
        """What `complete` saw of others' requests."""

    def submit(self, request: TokenRequest) -> int:
        """Takes a request in, one sample a key; returns its number.

        Raises:
            UsageError: an empty prompt, an unknown token, an impossible setting, or stop texts without a tokenizer.
            CapacityError: a sample would need more memory than there is; names both figures.
        """
        request = self.engine.ready(request)
        stop = request.sampling.stop
        if stop and not self.engine.has_tokenizer:
            raise UsageError("this checkpoint has no tokenizer.json: stop at tokens instead of texts")
        with self._lock:
            number = self._native.add(request)
            if stop:
                for sample in range(len(request.keys)):
                    self._readers[number, sample] = reader_of(self.engine, request)
        return number

    def cancel(self, request: int) -> None:
        """Ends a request in the next step; nothing happens if it has ended."""
        self._native.cancel(request)

    def step(self) -> list[Event]:
        """Draws once for every sample with a slot; events by request and sample, empty when idle."""
        pending, self._pending = self._pending, []
        return pending + self._advance()

    def complete(self, requests: Sequence[TokenRequest]) -> list[list[Completion]]:
        """Answers requests: one completion a key, in order. What it does for others' requests, `step` tells.

        A completion's tokens run to the one that completes a stop text, its text to where the stop text begins.

        Raises:
            UsageError, CapacityError: as `submit`; nothing of `requests` is left under way.
        """
        numbers: list[int] = []
        try:
            for request in requests:
                numbers.append(self.submit(request))
        except UsageError:
            for number in numbers:
                self.cancel(number)
            raise
        samples = [
            (number, sample)
            for number, request in zip(numbers, requests, strict=True)
            for sample in range(len(request.keys))
        ]
        parts: dict[tuple[int, int], list[Event]] = {sample: [] for sample in samples}
        left = len(parts)
        while left:
            for event in self._advance():
                mine = parts.get((event.request, event.sample))
                if mine is None:
                    self._pending.append(event)
                else:
                    mine.append(event)
                    left -= event.finish is not None
        return [
            [
                completion_of(self.engine, parts[number, sample], request)
                for sample in range(len(request.keys))
            ]
            for number, request in zip(numbers, requests, strict=True)
        ]

    @property
    def slots(self) -> int:
        """Samples that are drawn together, at most."""
        return self._native.slots

    @property
    def busy(self) -> int:
        """Samples that have a slot."""
        return self._native.busy

    @property
    def waiting(self) -> int:
        """Samples that wait for one."""
        return self._native.waiting

    @property
    def memory(self) -> int:
        """Bytes of keys and values in use: of samples, and of texts that are kept because later ones may begin alike."""
        return self._native.memory["used"]

    @property
    def limit(self) -> int:
        """Bytes that `memory` never exceeds."""
        return self._native.memory["limit"]

    def _advance(self) -> list[Event]:
        steps = self._native.step()
        with self._lock:  # A request that is being taken in has its readers before its events are looked at.
            if not self._readers:
                return [_event(progress) for progress in steps]
            readers = [self._reader(progress) for progress in steps]
        events = []
        for progress, reader in zip(steps, readers, strict=True):
            if reader is None:
                events.append(_event(progress))
            elif reader.stop is None:
                event = _event(progress, reader)
                events.append(event)
                if event.stop is not None and progress.finish is None:
                    self._native.cancel(progress.request, progress.sample)
        return events

    def _reader(self, progress: _native.Progress) -> TextReader | None:
        place = progress.request, progress.sample
        return self._readers.get(place) if progress.finish is None else self._readers.pop(place, None)


def completion_of(engine: Decoder, events: Sequence[Event], request: TokenRequest) -> Completion:
    """A sample of `request` as a completion, from all of its events in order."""
    drawn = [one for event in events for one in event.drawn]
    tokens = [one.token for one in drawn]
    ends = [event.end_logprob for event in events if event.end_logprob is not None]
    if request.sampling.stop:  # A scheduler reads the texts of requests with stop texts.
        text = "".join(event.text or "" for event in events)
    else:
        text = engine.text(tokens, request.marks)
        if request.follows:
            text = following(engine, request.prompt, tokens, text, request.marks)
    return Completion(
        text=text,
        tokens=tokens,
        logprobs=[one.logprob for one in drawn] + ends,
        finish=events[-1].finish or "cancelled",
        top_logprobs=tuple(one.top for one in drawn) if request.sampling.top_logprobs else (),
    )


class SampleStream:
    """One sample as it is drawn: an iterator of tokens, the end token left out.

    Args:
        engine: whose weights answer. Weights that change meanwhile count for what is drawn after.
        request: of one key; its stop texts are the reader's to look for.

    Raises:
        UsageError, CapacityError: as `Scheduler.submit`.
    """

    def __init__(self, engine: Decoder, request: TokenRequest) -> None:
        self._native = engine.native.scheduler(1, 0)
        self._native.add(engine.ready(request))
        self.finish: str | None = None
        """`stop` after an end token, `length` at the limit; None while tokens are left."""
        self.end_logprob: float | None = None
        """Log-probability of the end token that came."""

    def __iter__(self) -> Iterator[Drawn]:
        finish = None
        while finish is None:
            for progress in self._native.step():
                event = _event(progress)
                yield from event.drawn
                finish = event.finish
        self.finish, self.end_logprob = finish, event.end_logprob


def _event(progress: _native.Progress, reader: TextReader | None = None) -> Event:
    tokens, logprobs, tops = progress.tokens, progress.logprobs, progress.top
    end = logprobs[-1] if len(logprobs) > len(tokens) else None
    drawn = tuple(map(Drawn, tokens, logprobs, map(tuple, tops)) if tops else map(Drawn, tokens, logprobs))
    if reader is None:
        return Event(progress.request, progress.sample, drawn, progress.finish, end_logprob=end)
    reading = reader.read(tokens, progress.finish)
    return Event(
        request=progress.request,
        sample=progress.sample,
        drawn=drawn[: len(reading.offsets)],
        finish=reading.finish,
        text=reading.text,
        offsets=reading.offsets,
        stop=reading.stop,
        end_logprob=end if reading.stop is None else None,
    )
