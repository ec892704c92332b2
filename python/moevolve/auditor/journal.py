"""The run's store as an auditor reads it: entries with their links, blobs with their hashes, table rows.

An entry's value is `hash (32) || length of timing (u32) || timing || body`, its key the sequence number, big-endian, and
`hash(i) = blake3(hash(i-1) || i (u64, little-endian) || body(i))` with 32 zero bytes before the first. A blob's key is
the BLAKE3 hash of its value. A row's key is `table || 0 || key`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from blake3 import blake3

from moevolve.auditor.findings import Findings
from moevolve.auditor.pages import DamagedPageError, PageFile, Tree
from moevolve.records import SCHEMA_VERSION, Gated, Record, RolledBack, RunStarted, Timing, VariantAdded

DATABASES = ("blobs", "journal", "meta", "tables")
GENESIS = bytes(32)

_record: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
_timing = msgspec.msgpack.Decoder(Timing)
_program = msgspec.msgpack.Decoder(dict[str, str])


class JournalFile:
    """A run's store, read once in order.

    Args:
        pages: the file.
        findings: takes what is wrong.

    Attributes:
        entries: links of the chain that hold.
        head: the last of them, in hexadecimal.
        schema: version of the records' schema.
    """

    def __init__(self, pages: PageFile, findings: Findings) -> None:
        self._pages = pages
        self._findings = findings
        self.entries = 0
        self.head = GENESIS.hex()
        self.heads_match = True
        self.schema = SCHEMA_VERSION
        self.blobs = 0
        self.blob_hashes: set[str] = set()
        self.rows = 0
        self._trees: dict[str, Tree] = {}
        try:
            self._trees = pages.databases()
            self._meta()
        except DamagedPageError as error:
            findings.mismatch("chain", "journal/data.mdb", str(error))
        for name in DATABASES:
            if name not in self._trees and not findings.of("chain"):
                findings.mismatch("chain", "journal/data.mdb", f"there is no database {name!r}")

    def records(self) -> Iterator[tuple[int, Record, Timing]]:
        """Records as far as the chain holds, with their sequence numbers and timings."""
        head, at = GENESIS, -1.0
        for key, value in self._items("journal", "chain"):
            where = f"record {self.entries}"
            length = int.from_bytes(value[32:36], "little")
            body = value[36 + length :]
            if len(key) != 8 or int.from_bytes(key, "big") != self.entries:
                return self._broken(where, "it is missing, or has another number")
            if len(value) < 36 + length:
                return self._broken(where, "its value is cut short")
            link = blake3(head + self.entries.to_bytes(8, "little") + body).digest()
            if link != value[:32]:
                return self._broken(
                    where, f"its hash is {value[:32].hex()} on file and {link.hex()} recomputed"
                )
            head = link
            self.head = head.hex()
            self.entries += 1
            try:
                timing = _timing.decode(value[36 : 36 + length])
            except msgspec.DecodeError as error:
                self._findings.mismatch("chain", where, f"its timing cannot be read: {error}")
                timing = Timing(at=at)
            if timing.at < at:
                self._findings.mismatch("chain", where, "its timing lies before that of the record before it")
            at = max(at, timing.at)
            try:
                record = decode(body)
            except (msgspec.DecodeError, KeyError) as error:
                self._findings.mismatch("chain", where, f"it is no record of a known version: {error}")
                continue
            yield self.entries - 1, record, timing
        return None

    def check_blobs(self) -> None:
        """Compares every blob with the hash that names it."""
        for key, value in self._items("blobs", "blobs"):
            self.blobs += 1
            if blake3(value).digest() == key:
                self.blob_hashes.add(key.hex())
            else:
                self._findings.mismatch("blobs", f"blob {key.hex()[:16]}", "its bytes have another hash")

    def blobs_named(self, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """Blobs by name; those whose bytes have another hash are left out."""
        for key, value in self._items("blobs", "blobs"):
            if key.hex() in wanted and key.hex() in self.blob_hashes:
                yield key.hex(), value

    def check_tables(self) -> None:
        """Goes over the rows, so that every page of theirs is looked at; their content is outside of the chain."""
        for key, _ in self._items("tables", "files"):
            self.rows += 1
            if b"\0" not in key:
                self._findings.mismatch(
                    "files", "journal/data.mdb", f"a table's row has the key {key[:40]!r}"
                )

    def row(self, table: str, key: str) -> bytes | None:
        """A table's value."""
        wanted = f"{table}\0{key}".encode()
        return next((value for each, value in self._items("tables", "files") if each == wanted), None)

    def check_pages(self) -> None:
        """Whether every page belongs to something: to a tree or to the free ones."""
        try:
            free = self._pages.free_pages()
        except DamagedPageError as error:
            self._findings.mismatch("files", "journal/data.mdb", str(error))
            return
        pages = self._pages.meta.last_page + 1
        if not self._findings.counts["mismatch"] and self._pages.visited + free != pages:
            self._findings.note(
                "files",
                "journal/data.mdb",
                f"{pages - self._pages.visited - free} of {pages} pages belong to nothing",
            )

    def _meta(self) -> None:
        if "meta" not in self._trees:
            return
        said = dict(self._pages.items(self._trees["meta"]))
        schema = said.get(b"schema", b"")
        if said.get(b"kind") != b"run" or len(schema) != 4:
            self._findings.mismatch("chain", "journal/data.mdb", "it does not say that it is a run's store")
            return
        self.schema = int.from_bytes(schema, "little")
        if self.schema > SCHEMA_VERSION:
            self._findings.note(
                "chain",
                "journal/data.mdb",
                f"a newer version wrote it (schema {self.schema}; this one knows {SCHEMA_VERSION})",
            )

    def _items(self, name: str, check: str) -> Iterator[tuple[bytes, bytes]]:
        tree = self._trees.get(name)
        if tree is None:
            return
        try:
            yield from self._pages.items(tree)
        except DamagedPageError as error:
            self._findings.mismatch(check, "journal/data.mdb", str(error))

    def _broken(self, where: str, why: str) -> None:
        self.heads_match = False
        self._findings.mismatch("chain", where, f"the chain breaks: {why}")


def program(data: bytes) -> dict[str, str]:
    """A program's files.

    Raises:
        msgspec.DecodeError: the bytes are no program.
    """
    return _program.decode(data)


def decode(body: bytes) -> Record:
    """A record of the current schema or of version 2.

    Raises:
        msgspec.DecodeError: it is none.
        KeyError: a record of version 2 lacks a field.
    """
    try:
        return _record.decode(body)
    except msgspec.ValidationError:
        fields: dict[str, Any] = msgspec.msgpack.decode(body, type=dict[str, Any])
        match fields.get("kind"):
            case "run_started" if "answers" not in fields:
                return msgspec.convert(fields | {"answers": "policy"}, RunStarted)
            case "variant_added" if "parents" not in fields:
                parent = fields.pop("parent", None)
                parents = [] if parent is None else [parent]
                return msgspec.convert(fields | {"parents": parents, "score": None}, VariantAdded)
            case "gated" if fields.get("n") == 0 and "rolled back" in fields["reason"]:
                return RolledBack(
                    cycle=fields["cycle"],
                    champion=fields["candidate"],
                    before=fields["champion"],
                    reason=fields["reason"],
                )
            case "gated" if "tokens" not in fields:
                return msgspec.convert(fields | {"tokens": None}, Gated)
        raise
