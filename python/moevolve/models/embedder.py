"""A model as what makes memory's vectors: the mean of its last hidden states over a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from moevolve.models.decoder import Decoder

LONGEST = 512
"""Tokens of a text that count; a lesson says early what it is about."""


class HiddenStates:
    """The mean over a text's tokens of a decoder's last hidden state, after the final norm.

    Args:
        name: names the model and all that its vectors depend on.
        load: loads a decoder that nobody else uses, when the first text comes.
    """

    def __init__(self, name: str, load: Callable[[], Decoder]) -> None:
        self.name = name
        self._load = load

    @cached_property
    def _decoder(self) -> Decoder:
        return self._load()

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector of each text."""
        decoder = self._decoder
        vectors = []
        for text in texts:
            tokens = decoder.encode(text)[:LONGEST] or decoder.eos[:1]
            vectors.append(decoder.embed(tokens))
        return vectors
