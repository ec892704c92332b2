"""Requests that share an engine: taken in from any thread, answered round by round."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from moevolve import _native
from moevolve.errors import UsageError
from moevolve.models.engine import Engine
from moevolve.models.text_decoder import TextDecoder
from moevolve.protocol.completion import Completion
from moevolve.protocol.sampling import Drawn, Event, Sampling

__all__ = ["Drawn", "Event", "Sampling", "Scheduler"]


class _Watch:
    """Looks out for stop texts in one sample."""

    def __init__(self, stop: tuple[str, ...], engine: Engine) -> None:
        self._stop = tuple(text for text in stop if text)
        self._longest = max(map(len, self._stop)) - 1
        self._shows = engine.shows
        self._decoder = TextDecoder(lambda ids: engine.native.decode(ids, False))
        self._held = ""
        """The end of the text, where a stop text may begin in it."""

    def push(self, tokens: Sequence[int], finish: str | None) -> tuple[int, str, bool]:
        """Takes drawn tokens: how many come up to a stop text's end, the text to show, and whether a stop text came."""
        shown = ""
        for count, token in enumerate(tokens, 1):
            self._held += self._decoder.push(token) if self._shows(token) else ""
            found = [at for text in self._stop if (at := self._held.find(text)) >= 0]
            if found:
                return count, shown + self._held[: min(found)], True
            cut = len(self._held) - self._beginning()
            shown, self._held = shown + self._held[:cut], self._held[cut:]
        if finish is not None:
            shown += self._held + self._decoder.finish()
        return len(tokens), shown, False

    def _beginning(self) -> int:
        """Characters at the end that a stop text may begin with."""
        for length in range(min(self._longest, len(self._held)), 0, -1):
            if any(text.startswith(self._held[-length:]) for text in self._stop):
                return length
        return 0


class _Progress(msgspec.Struct):
    """What one round did to one sample."""

    request: int
    sample: int
    tokens: list[int]
    logprobs: list[float]
    """One more than tokens where the end token came."""
    top: list[list[tuple[int, float]]]
    finish: str | None
    text: str | None

    def event(self) -> Event:
        tops: Sequence[Sequence[tuple[int, float]]] = self.top or [()] * len(self.tokens)
        drawn = zip(self.tokens, self.logprobs, tops, strict=False)  # The end token is not told.
        return Event(
            request=self.request,
            sample=self.sample,
            drawn=tuple(Drawn(token, logprob, tuple(top)) for token, logprob, top in drawn),
            finish=self.finish,
            text=self.text,
        )


class Scheduler:
    """Requests under way on one engine, answered together.

    A sample depends on the weights, its prompt, its key and its settings alone, never on what else is under way. One
    thread drives `round` or `complete`; any may submit and cancel.

    Args:
        engine: whose weights answer.
        slots: samples that are drawn together, at most.
        memory: most bytes of keys and values; None takes what all slots need at the model's last position, but at most
            half of the memory that is free.

    Raises:
        UsageError: no slots.
        CapacityError: the memory holds nothing.
    """

    def __init__(self, engine: Engine, *, slots: int = 64, memory: int | None = None) -> None:
        self.engine = engine
        self._native = _native.Scheduler(engine.native, slots, 0 if memory is None else max(memory, 1))
        self._lock = threading.Lock()
        self._watched: dict[tuple[int, int], _Watch | None] = {}
        """Samples with stop texts that the engine has not ended; None once a stop text came."""
        self._untold: list[_Progress] = []
        """What `complete` saw of others' requests."""

    def submit(self, ids: Sequence[int], sampling: Sampling, *, keys: Sequence[int]) -> int:
        """Takes a request in, one sample a key; returns its number.

        Raises:
            UsageError: an empty prompt, an unknown token, an impossible setting, or stop texts without a tokenizer.
            CapacityError: a sample would need more memory than there is; names both figures.
        """
        watched = any(sampling.stop)
        if watched and not self.engine.native.has_tokenizer:
            raise UsageError("this checkpoint has no tokenizer.json: stop at tokens instead of texts")
        with self._lock:
            request = self._native.add(list(ids), list(keys), sampling)
            if watched:
                for sample in range(len(keys)):
                    self._watched[request, sample] = _Watch(sampling.stop, self.engine)
        return request

    def cancel(self, request: int) -> None:
        """Ends a request in the next round; nothing happens if it has ended."""
        self._native.cancel(request)

    def round(self) -> list[Event]:
        """Draws once for every sample with a slot; events by request and sample, empty when idle."""
        untold, self._untold = self._untold, []
        return [progress.event() for progress in untold + self._round()]

    def complete(
        self, requests: Sequence[tuple[Sequence[int], Sampling, Sequence[int]]]
    ) -> list[list[Completion]]:
        """Answers (ids, sampling, keys): one completion a key, in order. What it does for others' requests, `round` tells.

        A completion's tokens run to the one that completes a stop text, its text to where the stop text begins.

        Raises:
            UsageError, CapacityError: as `submit`; nothing of `requests` is left under way.
        """
        numbers: list[int] = []
        try:
            for ids, sampling, keys in requests:
                numbers.append(self.submit(ids, sampling, keys=keys))
        except UsageError:
            for number in numbers:
                self.cancel(number)
            raise
        parts: dict[tuple[int, int], list[_Progress]] = {
            (number, sample): []
            for number, (_, _, keys) in zip(numbers, requests, strict=True)
            for sample in range(len(keys))
        }
        left = len(parts)
        while left:
            for progress in self._round():
                mine = parts.get((progress.request, progress.sample))
                if mine is None:
                    self._untold.append(progress)
                else:
                    mine.append(progress)
                    left -= progress.finish is not None
        return [
            [self._completion(parts[number, sample]) for sample in range(len(keys))]
            for number, (_, _, keys) in zip(numbers, requests, strict=True)
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

    def _round(self) -> list[_Progress]:
        told = []
        for request, sample, tokens, logprobs, top, finish in self._native.step():
            place = request, sample
            text = None
            with self._lock:
                watching = place in self._watched
                watch = self._watched.get(place)
                if finish is not None:
                    self._watched.pop(place, None)
            if watching and watch is None:
                continue  # Its end was told when the stop text came.
            if watch is not None:
                count, text, stopped = watch.push(tokens, finish)
                if stopped:
                    tokens, logprobs, top = tokens[:count], logprobs[:count], top[:count]
                    if finish is None:
                        with self._lock:
                            self._watched[place] = None
                        self._native.cancel(request, sample)
                    finish = "stop"
            told.append(_Progress(request, sample, tokens, logprobs, top, finish, text))
        return told

    def _completion(self, parts: Sequence[_Progress]) -> Completion:
        tokens = [token for part in parts for token in part.tokens]
        watched = parts[-1].text is not None
        return Completion(
            text="".join(part.text or "" for part in parts) if watched else self.engine.text(tokens),
            tokens=tokens,
            logprobs=[logprob for part in parts for logprob in part.logprobs],
            finish=parts[-1].finish or "cancelled",
        )
