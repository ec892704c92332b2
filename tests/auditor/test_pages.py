"""The page reader: it reads what LMDB reads, and survives what LMDB does not."""

from __future__ import annotations

from pathlib import Path
from random import Random

import lmdb
import pytest

from moevolve.auditor.pages import DamagedPageError, PageFile


def everything(path: Path) -> dict[str, list[tuple[bytes, bytes]]]:
    with PageFile(path) as pages:
        return {name: list(pages.items(tree)) for name, tree in pages.databases().items()}


def test_it_reads_what_lmdb_reads(finished: Path) -> None:
    ours = everything(finished / "journal" / "data.mdb")
    with lmdb.open(str(finished / "journal"), readonly=True, lock=False, max_dbs=8) as environment:
        for name, items in ours.items():
            database = environment.open_db(name.encode(), create=False)
            with environment.begin(db=database) as transaction:
                assert list(transaction.cursor()) == items, name


@pytest.mark.parametrize("count", [0, 1, 700])
def test_it_reads_trees_of_any_depth(count: int, tmp_path: Path) -> None:
    draw = Random(count)
    rows = {
        draw.randbytes(draw.randint(1, 80)): draw.randbytes(draw.choice((3, 300, 9000))) for _ in range(count)
    }
    with lmdb.open(str(tmp_path), max_dbs=2, map_size=1 << 26) as environment:
        database = environment.open_db(b"rows")
        for part in range(3):
            with environment.begin(db=database, write=True) as transaction:
                for key in sorted(rows)[part::3]:
                    transaction.put(key, rows[key])
    assert everything(tmp_path / "data.mdb") == {"rows": sorted(rows.items())}


def test_every_page_belongs_to_something(finished: Path) -> None:
    with PageFile(finished / "journal" / "data.mdb") as pages:
        for tree in pages.databases().values():
            for _ in pages.items(tree):
                pass
        assert pages.free_pages() + pages.visited == pages.meta.last_page + 1


def test_a_damaged_file_is_refused_and_never_followed_astray(finished: Path, tmp_path: Path) -> None:
    whole = (finished / "journal" / "data.mdb").read_bytes()
    damaged = tmp_path / "data.mdb"
    draw = Random(7)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        page = draw.randrange(len(data) // 4096) * 4096
        # The first bytes of a page say what it is and where its nodes are.
        data[page + draw.randrange(48)] = draw.randrange(256)
        damaged.write_bytes(data)
        try:
            everything(damaged)
        except DamagedPageError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("length", [0, 100, 4096, 8191, 3 * 4096 + 5])
def test_a_file_that_was_cut_is_refused(length: int, finished: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "data.mdb"
    damaged.write_bytes((finished / "journal" / "data.mdb").read_bytes()[:length])
    with pytest.raises(DamagedPageError):
        everything(damaged)
