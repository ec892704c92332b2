"""The file of an LMDB environment, read page by page without LMDB.

LMDB maps its file and trusts it: a damaged page ends the process. This reader takes one page at a time, checks each before
it follows it, and says which page is wrong. It writes nothing, takes no lock, and holds no more than a path from the root.

Layout: `MDB_meta`, `MDB_page`, `MDB_node` and `MDB_db` of `mdb.c` (format 1, 64-bit, little-endian). A file begins with two
meta pages; the one with the higher transaction number is in force, and names two trees: the free pages, and the main one
with the named databases. A tree's branch nodes point to pages, its leaf nodes hold keys with values, long values on pages
of their own.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import msgspec

from moevolve.errors import StoreError

MAGIC, FORMAT = 0xBEEFC0DE, 1
BRANCH, LEAF, OVERFLOW, META = 0x01, 0x02, 0x04, 0x08
BIG_DATA, SUB_TREE = 0x01, 0x02
INTEGER_KEYS = 0x08
"""Flag of the tree of free pages."""
NO_PAGE = 2**64 - 1
HEADER, NODE = 16, 8
DEEPEST = 32

_TREE = struct.Struct("<IHHQQQQQ")
_NODE = struct.Struct("<HHHH")


class DamagedPageError(StoreError):
    """A page that is not what the page before it says."""


class Tree(msgspec.Struct, frozen=True):
    """A tree of pages (`MDB_db`)."""

    pad: int
    flags: int
    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int
    root: int


class Meta(msgspec.Struct, frozen=True):
    """What a meta page says."""

    page_size: int
    free: Tree
    main: Tree
    last_page: int
    txn: int


class PageFile:
    """An LMDB file, open for reading; a context manager.

    Args:
        path: the file.

    Attributes:
        meta: the meta page in force.
        visited: pages that a walk has gone over, meta pages included.

    Raises:
        DamagedPageError: it is no LMDB file, or its meta pages are damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        try:
            self._length = os.fstat(self._file.fileno()).st_size
            self.meta = self._newest()
        except BaseException:
            self._file.close()
            raise
        self.visited = 2

    def __enter__(self) -> PageFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def databases(self) -> dict[str, Tree]:
        """The named databases.

        Raises:
            DamagedPageError: the main tree is damaged.
        """
        found = {}
        for key, value, flags in self._walk(self.meta.main):
            if flags != SUB_TREE or len(value) != _TREE.size:
                raise DamagedPageError(f"{self.path}: the main tree holds {key[:40]!r}, which is no database")
            found[key.decode("utf-8", "replace")] = Tree(*_TREE.unpack(value))
        return found

    def items(self, tree: Tree) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of a tree in order of the keys; every page is checked before it is followed.

        Raises:
            DamagedPageError: names the page that is damaged, after the entries before it.
        """
        for key, value, flags in self._walk(tree):
            if flags:
                raise DamagedPageError(f"{self.path}: the value of {key[:40]!r} is of an unknown kind")
            yield key, value

    def free_pages(self) -> int:
        """Number of free pages, as the tree of free pages lists them.

        Raises:
            DamagedPageError: the tree is damaged.
        """
        count = 0
        for key, value in self.items(self.meta.free):
            numbers = struct.unpack(f"<{len(value) // 8}Q", value[: len(value) // 8 * 8])
            if len(key) != 8 or not numbers or numbers[0] != len(numbers) - 1:
                raise DamagedPageError(f"{self.path}: a list of free pages is damaged")
            if any(not 2 <= number <= self.meta.last_page for number in numbers[1:]):
                raise DamagedPageError(f"{self.path}: a list of free pages names one that does not exist")
            count += numbers[0]
        return count

    # ------------------------------------------------------------------ meta pages

    def _newest(self) -> Meta:
        first = self._read_meta(0)
        second = self._read_meta(first.page_size)
        if first.page_size != second.page_size:
            raise self._bad(1, "has another page size than page 0")
        newest = max(first, second, key=lambda meta: meta.txn)
        if (newest.last_page + 1) * newest.page_size > self._length:
            raise DamagedPageError(
                f"{self.path} is cut to {self._length} bytes: it had {newest.last_page + 1} pages"
            )
        return newest

    def _read_meta(self, at: int) -> Meta:
        data = os.pread(self._file.fileno(), 152, at)
        number = 0 if at == 0 else 1
        if len(data) < 152:
            raise DamagedPageError(f"{self.path} is too short for an LMDB file")
        magic, version = struct.unpack_from("<II", data, 16)
        page, flags = struct.unpack_from("<QxxH", data, 0)
        if magic != MAGIC or version != FORMAT or flags != META or page != number:
            raise self._bad(number, "is no meta page")
        free, main = Tree(*_TREE.unpack_from(data, 40)), Tree(*_TREE.unpack_from(data, 88))
        last, txn = struct.unpack_from("<QQ", data, 136)
        size = free.pad
        if size & (size - 1) or not 256 <= size <= 65536:
            raise self._bad(number, f"names a page size of {size}")
        if free.flags != INTEGER_KEYS or main.flags:
            raise self._bad(number, "has flags that a run's store never has")
        return Meta(size, free, main, last, txn)

    # ------------------------------------------------------------------ trees

    def _walk(self, tree: Tree) -> Iterator[tuple[bytes, bytes, int]]:
        """(key, value, flags) of a tree's leaves; ends with a comparison of its counts."""
        counts = {BRANCH: 0, LEAF: 0, OVERFLOW: 0}
        entries = 0
        if tree.root != NO_PAGE:
            if not 1 <= tree.depth <= DEEPEST:
                raise DamagedPageError(f"{self.path}: a tree says it is {tree.depth} pages deep")
            last: bytes | None = None
            for key, value, flags in self._below(tree.root, tree.depth, counts):
                order = key if not tree.flags & INTEGER_KEYS else key[::-1]
                if last is not None and order <= last:
                    raise DamagedPageError(f"{self.path}: key {key[:40]!r} is out of order")
                last = order
                entries += 1
                yield key, value, flags
        told = (tree.branches, tree.leaves, tree.overflows, tree.entries)
        if (counts[BRANCH], counts[LEAF], counts[OVERFLOW], entries) != told:
            raise DamagedPageError(
                f"{self.path}: a tree should have {tree.entries} entries and has {entries}, or lacks pages"
            )

    def _below(self, number: int, height: int, counts: dict[int, int]) -> Iterator[tuple[bytes, bytes, int]]:
        kind = BRANCH if height > 1 else LEAF
        page, nodes = self._page(number, kind)
        counts[kind] += 1
        if counts[BRANCH] + counts[LEAF] > self.meta.last_page:
            raise self._bad(number, "is reached twice")
        for at in nodes:
            low, high, flags, key_size = _NODE.unpack_from(page, at)
            start = at + NODE + key_size
            if start > len(page):
                raise self._bad(number, "has a key that leaves it")
            if kind == BRANCH:
                # A branch keeps the child's number where a leaf keeps size and flags.
                yield from self._below(low | high << 16 | flags << 32, height - 1, counts)
                continue
            size = low | high << 16
            inside = 8 if flags & BIG_DATA else size
            if start + inside > len(page) or flags & ~(BIG_DATA | SUB_TREE):
                raise self._bad(number, "has a value that leaves it, or of an unknown kind")
            key = page[at + NODE : start]
            if flags & BIG_DATA:
                [first] = struct.unpack_from("<Q", page, start)
                yield key, self._long(first, size, counts), flags & ~BIG_DATA
            else:
                yield key, page[start : start + inside], flags

    def _page(self, number: int, kind: int) -> tuple[bytes, list[int]]:
        """A page's bytes, and where its nodes begin."""
        page = self._load(number, 1)
        flags, lower, upper = struct.unpack_from("<HHH", page, 10)
        if flags != kind:
            raise self._bad(number, "is of the wrong kind")
        if not HEADER <= lower <= upper <= len(page) or lower % 2:
            raise self._bad(number, "has bounds outside itself")
        nodes = list(struct.unpack_from(f"<{(lower - HEADER) // 2}H", page, HEADER))
        if any(not upper <= at <= len(page) - NODE for at in nodes):
            raise self._bad(number, "has a node outside itself")
        return page, nodes

    def _long(self, first: int, size: int, counts: dict[int, int]) -> bytes:
        """A value on pages of its own."""
        pages = (HEADER - 1 + size) // self.meta.page_size + 1
        data = self._load(first, pages)
        flags, told = struct.unpack_from("<HI", data, 10)
        if flags != OVERFLOW or told != pages:
            raise self._bad(first, "is not the long value that it should be")
        counts[OVERFLOW] += pages
        return data[HEADER : HEADER + size]

    def _load(self, number: int, pages: int) -> bytes:
        size = self.meta.page_size
        if number < 2 or number + pages - 1 > self.meta.last_page:
            raise self._bad(number, "does not exist")
        data = os.pread(self._file.fileno(), size * pages, number * size)
        if len(data) < size * pages:
            raise self._bad(number, "is cut off")
        if int.from_bytes(data[:8], "little") != number:
            raise self._bad(number, "was overwritten: it has another number")
        self.visited += pages
        return data

    def _bad(self, number: int, what: str) -> DamagedPageError:
        return DamagedPageError(f"{self.path}: page {number} {what}")
