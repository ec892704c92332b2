"""Lessons of one run: recalled through the one query of memory, written when a cycle has ended.

A cycle recalls only what earlier cycles of its own run wrote, so a resumed or replayed run recalls the same. What a cycle
writes is in the snapshot that ends it (`Writes`) before it is in memory, so that memory never holds anything of a cycle that
is done again.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from moevolve.config.memory import MemorySection
from moevolve.journal.lessons import GENERAL, MemoryStore, Query, Standing, Vector, Weights, fitting
from moevolve.memory.admission import forgotten
from moevolve.memory.embedding import Embedder, embed_missing
from moevolve.protocol.requests import RecallRequest
from moevolve.randomness import rng
from moevolve.records import Lesson, LessonKind

POOL = 4096
"""Lessons that a shuffled recall draws from, the newest."""
VECTORS = 4096
"""Vectors of queries that are kept for the next that asks the same."""


class Writes(msgspec.Struct, frozen=True):
    """What a cycle writes into memory."""

    lessons: list[Lesson] = []
    standings: list[tuple[str, Standing]] = []
    """Lessons whose trust has changed, or that are forgotten."""


class LessonMemory:
    """The lessons of one run. Any thread may use it.

    Args:
        store: the memory in the run's folder.
        run: the run's name; only its lessons are read and written.
        section: what is recalled.
        embedder: makes the vectors; None goes by words alone.
    """

    def __init__(
        self,
        store: MemoryStore,
        run: str,
        section: MemorySection | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self.store = store
        self.run = run
        self.section = section or MemorySection()
        self._embedder = embedder
        self._cycle = 0
        self._lock = threading.Lock()
        self._embedded = False
        self._vectors: dict[str, Vector] = {}
        self._pools: dict[tuple[str, tuple[LessonKind, ...]], list[Lesson]] = {}

    @property
    def on(self) -> bool:
        """Whether there is a memory at all."""
        return self.section.mode != "off"

    def open_cycle(self, cycle: int) -> None:
        """Fixes what may be recalled during `cycle`: the lessons of the cycles before it."""
        with self._lock:
            self._cycle = cycle
            self._embedded = False
            self._pools = {}

    def recall(self, request: RecallRequest) -> list[Lesson]:
        """The lessons that answer a request, best first."""
        if not self.on:
            return []
        with self._lock:
            found = [hit.lesson for hit in self.store.search(self._query(request))]
            return self._others(request, found) if self.section.mode == "shuffled" else found

    def _query(self, request: RecallRequest) -> Query:
        section = self.section
        weights = Weights(
            words=section.words if request.words is None else request.words,
            vector=section.vector if request.vector is None else request.vector,
            trust=section.trust if request.trust is None else request.trust,
        )
        return Query(
            text=request.query,
            vector=self._vector(request.query) if weights.vector else None,
            kinds=request.kinds,
            skill=request.skill,
            besides=GENERAL,
            run=self.run,
            before_cycle=self._cycle,
            k=request.k,
            characters=request.budget,
            confidence=request.confidence,
            weights=weights,
        )

    def _vector(self, text: str) -> Vector | None:
        """The vector of a query; what earlier cycles wrote has its vectors from then on, too."""
        if self._embedder is None:
            return None
        if not self._embedded:
            embed_missing(self.store, self._embedder)
            self._embedded = True
        if text not in self._vectors:
            if len(self._vectors) >= VECTORS:
                self._vectors.clear()
            self._vectors[text] = self._embedder.embed([text])[0]
        return self._vectors[text]

    def _others(self, request: RecallRequest, found: Sequence[Lesson]) -> list[Lesson]:
        """As many lessons of the same skill and kinds, drawn from those that were not found as long as there are any, and
        of them those that fit in the request's budget."""
        name = request.skill, request.kinds
        if name not in self._pools:
            every = Query(
                kinds=request.kinds,
                skill=request.skill,
                besides=GENERAL,
                run=self.run,
                before_cycle=self._cycle,
                k=POOL,
            )
            self._pools[name] = [hit.lesson for hit in self.store.search(every)]
        mine = {lesson.id for lesson in found}
        others = [lesson for lesson in self._pools[name] if lesson.id not in mine]
        drawn = rng(request.key, "shuffled").sample(others, min(len(found), len(others)))
        shown = drawn + list(found[: len(found) - len(drawn)])
        return shown if request.budget is None else shown[: fitting(shown, request.budget)]

    def knows(self, lesson: Lesson) -> bool:
        """Whether memory has the same text of the same skill already, as far as its nearest lessons tell, or forgot it."""
        if not self.on:
            return False
        same = Query(text=lesson.text, skill=lesson.skill, run=self.run, kinds=(lesson.kind,), k=4)
        with self._lock:
            if any(hit.lesson.text == lesson.text for hit in self.store.search(same)):
                return True
            return forgotten(self.store, lesson) is not None

    def write(self, writes: Writes) -> None:
        """Writes what a cycle left; what is there already stays as it is, so that writing it again changes nothing."""
        if not self.on:
            return
        with self._lock:
            fresh = [lesson for lesson in writes.lessons if self.store.get(lesson.id) is None]
            if fresh:
                self.store.put(fresh)
            if writes.standings:
                self.store.set_standings([self._kept(id, standing) for id, standing in writes.standings])

    def _kept(self, id: str, standing: Standing) -> tuple[str, Standing]:
        """A standing as it takes effect: what is pinned stays, whatever outcomes say."""
        there = self.store.standing(id)
        if there is not None and there.pinned:
            standing = msgspec.structs.replace(standing, pinned=True, forgotten=False)
        return id, standing
