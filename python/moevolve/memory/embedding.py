"""Vectors of texts for memory: what makes them is named in the store, since vectors of two makers do not compare."""

from __future__ import annotations

import math
import zlib
from array import array
from collections.abc import Sequence
from typing import Protocol

from moevolve.journal.lessons import MemoryStore, Vector


class Embedder(Protocol):
    """What turns texts into vectors.

    Attributes:
        name: names the maker and all that its vectors depend on, in at most 160 bytes.
    """

    name: str

    def embed(self, texts: Sequence[str]) -> Sequence[Vector]:
        """A vector of each text, all with the same number of dimensions, none of them zero."""
        ...


class HashedNgrams:
    """Counts of a text's one to three letters in a row, hashed with a sign (Weinberger et al., 2009).

    Needs no model, and a typing error changes three n-grams of a word.

    Args:
        dimensions: length of the vectors.
    """

    def __init__(self, dimensions: int = 256) -> None:
        self.name = f"hashed-ngrams-{dimensions}"
        self._dimensions = dimensions

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """A vector of each text."""
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> Vector:
        counts: dict[str, int] = {}
        for word in text.lower().split():
            marked = f"<{word}>"
            for size in (1, 2, 3):
                for start in range(len(marked) - size + 1):
                    gram = marked[start : start + size]
                    counts[gram] = counts.get(gram, 0) + 1
        vector = array("f", bytes(4 * self._dimensions))
        for gram, count in counts.items():
            hashed = zlib.crc32(gram.encode("utf-8", "surrogatepass"))
            sign = 1.0 if hashed >> 31 else -1.0
            vector[hashed % self._dimensions] += sign * len(gram) * (1 + math.log(count))
        if not any(vector):
            vector[0] = 1.0
        return vector


def embed_missing(memory: MemoryStore, embedder: Embedder, batch: int = 256) -> int:
    """Gives every lesson that lacks one its vector; returns how many.

    Vectors of another maker are dropped first. Can be stopped at any time and called again.
    """
    memory.set_embedder(embedder.name)
    start, made = 0, 0
    while True:
        start, lacking = memory.without_vector(start, batch)
        if not lacking:
            return made
        vectors = embedder.embed([text for _, text in lacking])
        made += memory.set_vectors((id, vector) for (id, _), vector in zip(lacking, vectors, strict=True))
