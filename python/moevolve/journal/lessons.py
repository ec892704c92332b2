"""Lessons on file: a run's in its own folder, so that they are copied, moved and deleted with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from moevolve import _native
from moevolve.errors import StoreError
from moevolve.records import SCHEMA_VERSION, Lesson

_MEMORY = "memory"
_PAGE = 4096
"""Lessons fetched by one call, so that no read transaction is long."""

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_lesson = msgspec.msgpack.Decoder(Lesson).decode


def memory_folder(run: Path) -> Path:
    """Where a run's lessons lie: in its own folder; of a run whose memory was its neighbours' too, beside it."""
    own, beside = run / _MEMORY, run.parent / _MEMORY
    return beside if beside.is_dir() and not own.is_dir() else own


class MemoryStore:
    """Lessons by skill and text. Reading never makes the folder.

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

    def put(self, lessons: Sequence[Lesson]) -> None:
        """Writes lessons in one durable commit; one with a known id replaces it.

        Raises:
            StorageFullError: no space is left; memory is as it was before.
        """
        rows = [
            (lesson.id, lesson.skill, lesson.run, lesson.cycle, lesson.text, _encode(lesson))
            for lesson in lessons
        ]
        self._open(create=True).put(rows)

    def by_skill(self, skill: str, limit: int = 100, *, run: str | None = None) -> list[Lesson]:
        """A skill's lessons, or one run's of it: runs by name from last to first, newest cycle first."""
        store = self._reader()
        return self._lessons(store.by_skill(skill, run, limit) if store else [])

    def search(
        self, text: str, skill: str | None = None, k: int = 8, *, run: str | None = None
    ) -> list[Lesson]:
        """The `k` lessons that share most words with `text`; of equals the shorter, then the smaller id."""
        store = self._reader()
        return self._lessons(store.search(text, skill, run, k) if store else [])

    def count(self) -> int:
        """Number of lessons."""
        store = self._reader()
        return store.count() if store else 0

    def forget(self, id: str) -> bool:
        """Forgets a lesson; False if there was none of this id."""
        store = self._reader()
        return store.forget(id) if store else False

    def all(self) -> Iterator[Lesson]:
        """Every lesson by id."""
        store = self._reader()
        last: str | None = None
        while store:
            page = self._lessons(store.all(last, _PAGE))
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].id

    def _reader(self) -> _native.MemoryStore | None:
        if self._opened is None:
            self._opened = _native.MemoryStore.open(self.path, SCHEMA_VERSION, map_size=self._map_size)
        return self._opened

    def _open(self, *, create: bool) -> _native.MemoryStore:
        if self._opened is None:
            self._opened = _native.MemoryStore.open(
                self.path, SCHEMA_VERSION, create=create, map_size=self._map_size
            )
        assert self._opened is not None, "a memory that is to be made is made or raises"
        return self._opened

    def _lessons(self, bodies: list[bytes]) -> list[Lesson]:
        try:
            return [_decode_lesson(body) for body in bodies]
        except msgspec.DecodeError as error:
            raise StoreError(f"memory {self.path} holds a lesson of another version: {error}") from error
