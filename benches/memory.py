"""Memory beside other stores of text and vectors, in one process:

    python benches/memory.py [--sizes 100000,1000000] [--peers NAME,... | none] [--require]

Lessons are made from a seed: 20 words of a Zipf vocabulary of 30,000, a vector of 384 dimensions around one of 500 topics. A
query takes six words of a lesson and a direction near its vector. Recall@10 is that of the vector part against numpy's exact
products; a peer's search is as narrow as recall .95 allows. `hybrid` is one ranking over words and vector: ours, and
reciprocal ranks where a peer is two libraries. Peers that are not installed are left out: usearch and tantivy, hannoy and
tantivy, sqlite-vec (with FTS5), lancedb. numpy is needed. `--require` exits 1 if a bar is missed.

One file above 400 lines: every peer is an adapter of a few lines, measured by one loop.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moevolve.journal.lessons import MemoryStore, Query
from moevolve.records import Lesson

DIMENSIONS = 384
VOCABULARY = 30_000
WORDS = 20
TOPICS = 500
BATCH = 1000
K = 10
RECALL = 0.95
BARS = {100_000: 2.0, 1_000_000: 10.0}
"""Milliseconds that a hybrid query may take in the middle, by number of lessons."""
WRITES = 10_000
"""Lessons a second in durable batches."""
UNRANKED = 60
"""Constant of reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009)."""

Ask = Callable[[int], Sequence[int]]


class Data:
    """Lessons and queries of one size.

    Args:
        size: number of lessons, a multiple of 1,000.
        queries: number of queries.
    """

    def __init__(self, size: int, queries: int) -> None:
        self.size = size
        weights = 1 / np.arange(1, VOCABULARY + 1)
        self._edges = np.cumsum(weights / weights.sum())
        self._words = np.array([f"w{number}" for number in range(VOCABULARY)])
        self._topics = np.random.default_rng(0).standard_normal((TOPICS, DIMENSIONS)).astype(np.float32)
        self.vectors = np.empty((size, DIMENSIONS), np.float32)
        self.texts: list[str] = []
        for first in range(0, size, BATCH):
            draw = np.random.default_rng((1, first))
            vectors = 0.7 * self._topics[draw.integers(0, TOPICS, BATCH)]
            self.vectors[first : first + BATCH] = _unit(vectors + draw.standard_normal(vectors.shape))
            rows = np.searchsorted(self._edges, draw.random((BATCH, WORDS)))
            self.texts += [" ".join(self._words[row]) for row in rows]
        draw = np.random.default_rng(2)
        near = draw.integers(0, size, queries)
        noise = 0.5 * _unit(draw.standard_normal((queries, DIMENSIONS)))
        self.asked = [" ".join(self.texts[row].split()[:6]) for row in near]
        self.directions = _unit(self.vectors[near] + noise).astype(np.float32)
        self.nearest = [
            set(np.argpartition(-(self.vectors @ direction), K)[:K].tolist()) for direction in self.directions
        ]

    def batches(self) -> Iterator[tuple[int, list[str], np.ndarray]]:
        """(first row, texts, vectors) of a thousand lessons each."""
        for first in range(0, self.size, BATCH):
            yield first, self.texts[first : first + BATCH], self.vectors[first : first + BATCH]

    def recall(self, ask: Ask) -> float:
        """Share of the nearest ten that a search by vector returns."""
        shared = [len(self.nearest[index] & set(ask(index))) for index in range(len(self.nearest))]
        return sum(shared) / (K * len(shared))

    def milliseconds(self, ask: Ask) -> tuple[float, float]:
        """Median and 95th percentile over all queries, after one round that is not counted."""
        taken = []
        for counted in (False, True):
            for index in range(len(self.asked)):
                start = time.perf_counter()
                ask(index)
                if counted:
                    taken.append(1e3 * (time.perf_counter() - start))
        return statistics.median(taken), statistics.quantiles(taken, n=20)[-1]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Side:
    """One store: how it is filled and how it is asked.

    Attributes:
        durable: whether a batch is on the disk, and found, when its call returns.
    """

    name = ""
    durable = False

    def __init__(self, folder: Path, data: Data) -> None:
        self.folder = folder
        self.data = data

    def fill(self) -> None:
        raise NotImplementedError

    def tune(self) -> None:
        """Widens the search until its recall suffices."""

    def by_vector(self, index: int) -> Sequence[int]:
        raise NotImplementedError

    def by_words(self, index: int) -> Sequence[int]:
        raise NotImplementedError

    def hybrid(self, index: int) -> Sequence[int]:
        return _fused(self.by_words(index), self.by_vector(index))


def _fused(*rankings: Sequence[int]) -> list[int]:
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking):
            scores[row] = scores.get(row, 0.0) + 1 / (UNRANKED + rank)
    return sorted(scores, key=lambda row: (-scores[row], row))[:K]


class Ours(Side):
    """Moevolve's memory."""

    name = "moevolve"
    durable = True

    def fill(self) -> None:
        self._memory = MemoryStore(self.folder, map_size=64 << 30)
        for first, texts, vectors in self.data.batches():
            lessons = [
                Lesson(
                    id=f"{first + index:08}",
                    skill="bench",
                    level=1,
                    text=text,
                    prompt="",
                    answer="",
                    success=True,
                    run="bench",
                    cycle=0,
                    variant="",
                )
                for index, text in enumerate(texts)
            ]
            self._memory.put(lessons, list(vectors))

    def _ask(self, query: Query) -> list[int]:
        return [int(hit.lesson.id) for hit in self._memory.search(query)]

    def by_vector(self, index: int) -> list[int]:
        return self._ask(Query(vector=self.data.directions[index], k=K))  # type: ignore[arg-type]

    def by_words(self, index: int) -> list[int]:
        return self._ask(Query(text=self.data.asked[index], k=K))

    def hybrid(self, index: int) -> list[int]:
        direction: Any = self.data.directions[index]
        return self._ask(Query(text=self.data.asked[index], vector=direction, k=K))

    def agreement(self) -> float:
        """Share of the hybrid ten that a search over thousands of candidates returns too."""
        shared = 0
        some = range(0, len(self.data.asked), 4)
        for index in some:
            direction: Any = self.data.directions[index]
            wide = self._ask(Query(text=self.data.asked[index], vector=direction, k=2000))
            shared += len(set(wide[:K]) & set(self.hybrid(index)))
        return shared / (K * len(some))


class _Tantivy(Side):
    """Words by tantivy, vectors by what a subclass says."""

    def fill(self) -> None:
        import tantivy

        schema = tantivy.SchemaBuilder()
        schema.add_integer_field("row", stored=True)
        schema.add_text_field("text")
        folder = self.folder / "words"
        folder.mkdir(parents=True)
        self._index = tantivy.Index(schema.build(), path=str(folder))
        writer = self._index.writer(256 << 20, 2)
        for first, texts, vectors in self.data.batches():
            for index, text in enumerate(texts):
                writer.add_document(tantivy.Document(row=first + index, text=text))
            self.add(first, vectors)
        writer.commit()
        self._index.reload()
        self._searcher = self._index.searcher()

    def add(self, first: int, vectors: np.ndarray) -> None:
        raise NotImplementedError

    def by_words(self, index: int) -> list[int]:
        query = self._index.parse_query(self.data.asked[index], ["text"])
        hits = self._searcher.search(query, 4 * K, count=False).hits
        return [self._searcher.doc(address)["row"][0] for _, address in hits]


class Usearch(_Tantivy):
    name = "usearch+tantivy"

    def fill(self) -> None:
        from usearch.index import Index

        self._vectors = Index(ndim=DIMENSIONS, metric="cos", dtype="f16")
        super().fill()

    def add(self, first: int, vectors: np.ndarray) -> None:
        self._vectors.add(np.arange(first, first + len(vectors)), vectors, threads=2)

    def tune(self) -> None:
        for width in (64, 128, 256, 512, 1024, 2048):
            self._vectors.expansion_search = width
            if self.data.recall(self.by_vector) >= RECALL:
                return

    def by_vector(self, index: int) -> list[int]:
        return [int(key) for key in self._vectors.search(self.data.directions[index], K).keys]


class Hannoy(_Tantivy):
    name = "hannoy+tantivy"

    def fill(self) -> None:
        import hannoy

        (self.folder / "vectors").mkdir(parents=True)
        self._database = hannoy.Database(
            str(self.folder / "vectors"), hannoy.Metric.COSINE, env_size=64 << 30
        )
        self._width = 64
        with self._database.writer(DIMENSIONS) as writer:
            for first, _, vectors in self.data.batches():
                writer.add_items(np.arange(first, first + len(vectors), dtype=np.uint32), vectors)
        self._reader = self._database.reader()
        super().fill()

    def add(self, first: int, vectors: np.ndarray) -> None:
        pass

    def tune(self) -> None:
        for self._width in (64, 128, 256, 512, 1024, 2048):
            if self.data.recall(self.by_vector) >= RECALL:
                return

    def by_vector(self, index: int) -> list[int]:
        found = self._reader.by_vec(self.data.directions[index].tolist(), n=K, ef_search=self._width)
        return [int(row) for row, _ in found]


class Sqlite(Side):
    """FTS5 and sqlite-vec, which scans all vectors."""

    name = "sqlite-vec+fts5"
    durable = True

    def fill(self) -> None:
        import sqlite_vec

        self.folder.mkdir(parents=True)
        self._db = sqlite3.connect(self.folder / "lessons.db")
        self._db.enable_load_extension(True)
        sqlite_vec.load(self._db)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
        self._db.execute(
            f"CREATE VIRTUAL TABLE vectors USING vec0(v float[{DIMENSIONS}] distance_metric=cosine)"
        )
        for first, texts, vectors in self.data.batches():
            rows = range(first, first + len(texts))
            self._db.executemany(
                "INSERT INTO words(rowid, text) VALUES (?, ?)", zip(rows, texts, strict=True)
            )
            blobs = [vector.tobytes() for vector in vectors]
            self._db.executemany("INSERT INTO vectors(rowid, v) VALUES (?, ?)", zip(rows, blobs, strict=True))
            self._db.commit()

    def by_vector(self, index: int) -> list[int]:
        rows = self._db.execute(
            "SELECT rowid FROM vectors WHERE v MATCH ? AND k = ?", (self.data.directions[index].tobytes(), K)
        )
        return [row for (row,) in rows]

    def by_words(self, index: int) -> list[int]:
        words = " OR ".join(self.data.asked[index].split())
        rows = self._db.execute(
            "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", (words, 4 * K)
        )
        return [row for (row,) in rows]


class Lancedb(Side):
    name = "lancedb"

    def fill(self) -> None:
        import lancedb
        from lancedb.rerankers import RRFReranker

        database = lancedb.connect(str(self.folder))
        self._reranker = RRFReranker()
        self._table: Any = None
        for first in range(0, self.data.size, 50 * BATCH):
            last = min(self.data.size, first + 50 * BATCH)
            rows = [
                {"row": row, "text": self.data.texts[row], "vector": self.data.vectors[row]}
                for row in range(first, last)
            ]
            if self._table is None:
                self._table = database.create_table("lessons", rows)
            else:
                self._table.add(rows)
        self._table.create_fts_index("text")
        self._table.create_index(metric="cosine", index_type="IVF_HNSW_SQ")
        self._probes, self._width = 4, 32

    def tune(self) -> None:
        for self._probes, self._width in ((8, 64), (16, 128), (32, 256), (64, 512)):
            if self.data.recall(self.by_vector) >= RECALL:
                return

    def by_vector(self, index: int) -> list[int]:
        query = self._table.search(self.data.directions[index]).metric("cosine").nprobes(self._probes)
        return query.ef(self._width).limit(K).to_arrow()["row"].to_pylist()

    def by_words(self, index: int) -> list[int]:
        return (
            self._table.search(self.data.asked[index], query_type="fts")
            .limit(K)
            .to_arrow()["row"]
            .to_pylist()
        )

    def hybrid(self, index: int) -> list[int]:
        query = self._table.search(query_type="hybrid").vector(self.data.directions[index])
        query = query.text(self.data.asked[index]).metric("cosine").nprobes(self._probes).ef(self._width)
        return query.rerank(self._reranker).limit(K).to_arrow()["row"].to_pylist()


PEERS: dict[type[Side], tuple[str, ...]] = {
    Usearch: ("usearch", "tantivy"),
    Hannoy: ("hannoy", "tantivy"),
    **({Sqlite: ("sqlite_vec",)} if hasattr(sqlite3.Connection, "enable_load_extension") else {}),
    Lancedb: ("lancedb",),
}


def measure(kind: type[Side], data: Data, folder: Path) -> dict[str, Any]:
    """One store's figures over one set of lessons."""
    side = kind(folder / kind.name, data)
    start = time.perf_counter()
    side.fill()
    rate = data.size / (time.perf_counter() - start)
    side.tune()
    told: dict[str, Any] = {
        "side": kind.name,
        "lessons": data.size,
        "recall@10": round(data.recall(side.by_vector), 4),
        "writes/s": round(rate),
        "durable batches": side.durable,
    }
    for name, ask in (("vector", side.by_vector), ("words", side.by_words), ("hybrid", side.hybrid)):
        middle, high = data.milliseconds(ask)
        told[name] = {"p50 ms": round(middle, 3), "p95 ms": round(high, 3)}
    if isinstance(side, Ours):
        told["hybrid agreement"] = round(side.agreement(), 4)
    shutil.rmtree(folder / kind.name, ignore_errors=True)
    return told


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="100000", help="numbers of lessons, multiples of 1,000")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--peers", default="all", help="names, `all` that are installed, or `none`")
    parser.add_argument("--folder", type=Path, help="where the stores are made (default: a temporary folder)")
    parser.add_argument("--require", action="store_true")
    options = parser.parse_args()
    missed = []
    for size in map(int, options.sizes.split(",")):
        data = Data(size, options.queries)
        kinds: list[type[Side]] = [Ours]
        for kind, modules in PEERS.items():
            named = options.peers == "all" or kind.name in options.peers.split(",")
            if named and all(importlib.util.find_spec(module) for module in modules):
                kinds.append(kind)
        rows = []
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            for kind in kinds:
                rows.append(measure(kind, data, Path(folder)))
                print(json.dumps(rows[-1]), flush=True)
        ours, *peers = rows
        if ours["recall@10"] < RECALL or ours["hybrid"]["p50 ms"] > BARS.get(size, float("inf")):
            missed.append(f"{size:,} lessons: recall {ours['recall@10']}, {ours['hybrid']['p50 ms']} ms")
        if ours["writes/s"] < WRITES:
            missed.append(f"{size:,} lessons: {ours['writes/s']:,} writes a second")
        missed += [
            f"{size:,} lessons: {peer['side']} answers in {peer['hybrid']['p50 ms']} ms"
            for peer in peers
            if peer["recall@10"] >= RECALL and peer["hybrid"]["p50 ms"] < ours["hybrid"]["p50 ms"]
        ]
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if options.require and missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
