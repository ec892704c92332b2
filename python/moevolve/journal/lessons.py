"""Lessons on file: a run's in its own folder, so that they are copied, moved and deleted with it."""

from __future__ import annotations

import array
import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from moevolve import _native
from moevolve.errors import StoreError, UsageError
from moevolve.records import Lesson, LessonKind

_MEMORY = "memory"
SCHEMA = 4
"""Of a memory, apart from that of journals; memories of schemas 1 to 3 are read, and written in their own form."""
_PAGE = 4096
"""Lessons fetched by one call, so that no read transaction is long."""

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_lesson = msgspec.msgpack.Decoder(Lesson).decode

GENERAL = "general"
"""The skill of lessons that are about no skill in particular."""

_LAST_CYCLE = 2**32 - 2
_MOST = 2**63 - 1

Vector = Sequence[float]
"""An embedding: one f32 for each dimension of the store; its length does not matter."""


_Row = tuple[str, str, str, str, str, int, int | None, str | None, str, bytes | None, bytes]


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much each part of a lesson's score counts."""

    words: float = 0.5
    vector: float = 0.5
    trust: float = 0.2
    """A lesson of trust 1 scores by this share more than one of trust 0."""


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is looked for in memory. Without text and vector the newest lessons that pass the filters are returned."""

    text: str | None = None
    vector: Vector | None = None
    kinds: tuple[LessonKind, ...] = ()
    """Any of these; all kinds if there are none."""
    skill: str | None = None
    """A node of the skill tree: its own lessons and those of the skills below it."""
    besides: str | None = None
    """Another skill whose own lessons pass the filter by skill as well."""
    run: str | None = None
    source: str | None = None
    """The writer's name."""
    before_cycle: int | None = None
    """Memory as it stood when this cycle began."""
    forgotten: bool = False
    """Lessons that are forgotten, instead of those that hold."""
    k: int = 8
    characters: int | None = None
    """Lessons are returned as long as their texts fit in so many characters, best first."""
    confidence: float = 0.0
    """Lessons of less confidence are not returned, so that a query may have no answer; .6 asks for most of a question."""
    weights: Weights = Weights()


class Hit(msgspec.Struct, frozen=True):
    """A lesson that a query found."""

    lesson: Lesson
    score: float
    """Weighted mean of `words` and `vector`, more or less by the lesson's trust."""
    words: float | None
    """BM25 over the sum of the query's inverse document frequencies: about 1 where every word stands once in a lesson of
    mean length. None without a text."""
    vector: float | None
    """1 in the query's own direction, 0 where the mean lesson lies or farther. None without a vector."""
    confidence: float
    """Share of the query's own words that the lesson has, typing errors forgiven, words that every question has left out;
    without a text, `vector`. In [0, 1]."""
    trust: float
    pinned: bool


class Standing(msgspec.Struct, frozen=True):
    """What changes about a lesson after it was written."""

    trust: float = 0.5
    """How far outcomes speak for it, in [0, 1]."""
    pinned: bool = False
    forgotten: bool = False
    """No query returns it; its text stays on file until it is purged."""


class MemoryStatistics(msgspec.Struct, frozen=True):
    """Counts over a memory."""

    current: int
    """Lessons that a query may return."""
    superseded: int
    forgotten: int
    words: int
    """Different words."""
    vectors: int
    dimensions: int
    embedder: str | None
    """What made the vectors."""


def memory_folder(run: Path) -> Path:
    """Where a run's lessons lie: in its own folder; of a run whose memory was its neighbours' too, beside it."""
    own, beside = run / _MEMORY, run.parent / _MEMORY
    return beside if beside.is_dir() and not own.is_dir() else own


class MemoryStore:
    """Lessons by id, by skill, and by one query over words and vectors. Reading never makes the folder.

    Several processes may write at once: each call is one commit, and they wait for each other.

    Args:
        path: the memory's folder.
    """

    def __init__(self, path: Path, *, map_size: int | None = None) -> None:
        self.path = Path(path)
        self._map_size = map_size
        self._opened: _native.MemoryStore | None = None

    def __enter__(self) -> MemoryStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file; the next call opens it again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def put(self, lessons: Sequence[Lesson], vectors: Sequence[Vector | None] | None = None) -> None:
        """Writes lessons, with their vectors where there are, in one durable commit; one with a known id replaces it.

        Raises:
            UsageError: a name or a cycle that does not fit, a vector of other dimensions than the memory's, or a lesson
                that supersedes one that is not there or that another supersedes already.
            StorageFullError: no space is left; memory is as it was before.
        """
        given = vectors if vectors is not None else [None] * len(lessons)
        rows = [_row(lesson, vector) for lesson, vector in zip(lessons, given, strict=True)]
        self._open(create=True).put(rows)

    def adopt(self, lessons: Sequence[tuple[Lesson, Standing]]) -> None:
        """Writes lessons of another memory as they stood there, in one durable commit.

        One that supersedes what is not here stands without it; of several that supersede one lesson each comes after
        those before it.

        Raises:
            UsageError: a name or a cycle that does not fit, a trust outside of [0, 1], or lessons that supersede each
                other in a circle; nothing is written then.
            StorageFullError: no space is left; memory is as it was before.
        """
        rows = [
            (_row(lesson, None), (standing.trust, standing.pinned, standing.forgotten))
            for lesson, standing in lessons
        ]
        self._open(create=True).adopt(rows)

    def get(self, id: str) -> Lesson | None:
        """A lesson, superseded and forgotten ones too; None if it is not there."""
        store = self._reader()
        body = store.get(id) if store else None
        return None if body is None else self._lesson(body)

    def search(self, query: Query) -> list[Hit]:
        """The lessons that answer a query, best first; of equals the smaller id.

        A lesson that another supersedes is not among them while the other holds.

        Raises:
            UsageError: the query's vector has other dimensions than the memory's, or a number in it is out of range.
        """
        _bounded("k of a query", query.k, _MOST)
        if query.before_cycle is not None:
            _bounded("before_cycle of a query", query.before_cycle, _MOST)
        store = self._reader()
        if store is None:
            return []
        found = store.search(
            text=query.text,
            vector=None if query.vector is None else _floats(query.vector),
            kinds=list(query.kinds),
            skill=query.skill,
            besides=query.besides,
            run=query.run,
            source=query.source,
            before_cycle=query.before_cycle,
            forgotten=query.forgotten,
            k=query.k,
            confidence=query.confidence,
            weights=(query.weights.words, query.weights.vector, query.weights.trust),
        )
        hits = [
            Hit(self._lesson(body), score, words, vector, confidence, trust, pinned)
            for _, score, words, vector, confidence, trust, pinned, body in found
        ]
        if query.characters is None:
            return hits
        return hits[: fitting((hit.lesson for hit in hits), query.characters)]

    def by_skill(self, skill: str, limit: int = 100, *, run: str | None = None) -> list[Lesson]:
        """A skill's lessons, or one run's of it: runs by name from last to first, newest cycle first."""
        store = self._reader()
        return [self._lesson(body) for body in (store.by_skill(skill, run, limit) if store else [])]

    def count(self) -> int:
        """Number of lessons on file, superseded and forgotten ones too."""
        store = self._reader()
        return store.count() if store else 0

    def all(self) -> Iterator[Lesson]:
        """Every lesson on file by id."""
        store = self._reader()
        last: str | None = None
        while store:
            page = [self._lesson(body) for body in store.all(last, _PAGE)]
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].id

    def standing(self, id: str) -> Standing | None:
        """How a lesson stands; None if it is not there."""
        store = self._reader()
        standing = store.standing(id) if store else None
        return None if standing is None else Standing(*standing)

    def set_standings(self, standings: Iterable[tuple[str, Standing]]) -> int:
        """Changes how lessons stand, in one commit; returns how many of the ids are there."""
        store = self._reader()
        rows = [(id, (standing.trust, standing.pinned, standing.forgotten)) for id, standing in standings]
        return store.set_standings(rows) if store else 0

    def forget(self, id: str) -> bool:
        """Keeps a lesson from all queries; False if there was none of this id."""
        standing = self.standing(id)
        if standing is None:
            return False
        return self.set_standings([(id, msgspec.structs.replace(standing, forgotten=True))]) == 1

    def purge(self, id: str) -> bool:
        """Takes a lesson's text, words and vector off the file; False if there was none of this id."""
        store = self._reader()
        return store.purge(id) if store else False

    def statistics(self) -> MemoryStatistics:
        """Counts over the memory."""
        store = self._reader()
        if store is None:
            return MemoryStatistics(0, 0, 0, 0, 0, 0, None)
        return msgspec.convert(store.statistics(), MemoryStatistics)

    def check(self) -> int:
        """Proves that lessons, words and vectors agree; returns the number of lessons.

        Raises:
            StoreError: the part of the file that does not fit.
        """
        store = self._reader()
        return store.check() if store else 0

    def set_embedder(self, name: str) -> None:
        """Says what makes the vectors from now on; another one than before drops all vectors."""
        self._open(create=True).set_embedder(name)

    def without_vector(self, start: int, limit: int) -> tuple[int, list[tuple[str, str]]]:
        """At most `limit` lessons that lack a vector, from row `start` on: the next row, and (id, text) of each."""
        store = self._reader()
        return store.without_vector(start, limit) if store else (start, [])

    def set_vectors(self, vectors: Iterable[tuple[str, Vector]]) -> int:
        """Gives lessons their vectors, in one commit; returns how many of the ids are there."""
        return self._open(create=True).set_vectors([(id, _floats(vector)) for id, vector in vectors])

    def _reader(self) -> _native.MemoryStore | None:
        if self._opened is None:
            self._opened = _native.MemoryStore.open(self.path, SCHEMA, map_size=self._map_size)
        return self._opened

    def _open(self, *, create: bool) -> _native.MemoryStore:
        if self._opened is None:
            self._opened = _native.MemoryStore.open(self.path, SCHEMA, create=create, map_size=self._map_size)
        assert self._opened is not None, "a memory that is to be made is made or raises"
        return self._opened

    def _lesson(self, body: bytes) -> Lesson:
        try:
            return _decode_lesson(body)
        except msgspec.DecodeError as error:
            raise StoreError(f"memory {self.path} holds a lesson of another version: {error}") from error


def _row(lesson: Lesson, vector: Vector | None) -> _Row:
    """A lesson as the store takes it.

    Raises:
        UsageError: a cycle of it is out of range.
    """
    _bounded(f"the cycle of lesson {lesson.id!r}", lesson.cycle, _LAST_CYCLE)
    if lesson.until is not None:
        _bounded(f"the end of lesson {lesson.id!r}", lesson.until, _MOST)
    return (
        lesson.id,
        lesson.kind,
        lesson.skill,
        lesson.run,
        lesson.source,
        lesson.cycle,
        lesson.until,
        lesson.supersedes,
        lesson.text,
        None if vector is None else _floats(vector),
        _encode(lesson),
    )


def _bounded(what: str, number: int, most: int) -> None:
    if not 0 <= number <= most:
        raise UsageError(f"{what} is {number}: it must lie between 0 and {most:,}")


def _floats(vector: Vector) -> bytes:
    """A vector as little-endian f32; one that lies in memory as such is copied and not converted."""
    with contextlib.suppress(TypeError):
        view = memoryview(vector)  # type: ignore[arg-type]
        if view.format == "f" and view.ndim == 1 and sys.byteorder == "little":
            return view.tobytes()
    floats = array.array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()


def fitting(lessons: Iterable[Lesson], characters: int) -> int:
    """How many lessons, from the first on, have texts of at most so many characters together."""
    count = 0
    for lesson in lessons:
        characters -= len(lesson.text)
        if characters < 0:
            break
        count += 1
    return count
