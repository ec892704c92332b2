"""Attempts that are kept for people: a bounded choice of every stage's, in a table beside the chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from moevolve.errors import StoreError
from moevolve.journal.store import Put
from moevolve.records import Sample

TABLE = "samples"
CYCLES = 64
"""Newest cycles whose samples are kept."""
STAGES = ("screen", "program", "gate", "direct", "dev", "again")
"""Stages whose samples are kept, in the order in which a cycle's are read."""
LONGEST = 1000
"""Characters of a text that are kept."""
REQUESTS = 12
"""Most requests of an attempt that are kept."""

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder(list[Sample]).decode


class Scanned(Protocol):
    """What reading samples needs of `RunStore`."""

    def scan(
        self, table: str, prefix: str = "", *, limit: int | None = None, reverse: bool = False
    ) -> list[tuple[str, bytes]]: ...


class Stage(msgspec.Struct, frozen=True):
    """A stage's samples."""

    cycle: int
    stage: str
    """`direct`, `program`, `screen`, `gate` or `dev`."""
    variant: str
    samples: list[Sample]


def put(cycle: int, stage: str, variant: str, samples: Sequence[Sample]) -> Put:
    """The table entry that keeps a stage's samples."""
    return TABLE, f"{cycle:06d}/{stage}/{variant}", _encode([cut(each) for each in samples])


def outdated(store: Scanned, cycle: int) -> list[Put]:
    """Table entries that drop the samples of a cycle which is no longer among the newest `CYCLES`."""
    old = cycle - CYCLES
    return [(TABLE, key, None) for key, _ in store.scan(TABLE, f"{old:06d}/")] if old >= 0 else []


def stages(
    store: Scanned,
    *,
    cycle: int | None = None,
    variant: str | None = None,
    until: int | None = None,
    limit: int = 200,
) -> list[Stage]:
    """Stages with samples, the newest cycle first, at most `limit` of them.

    Args:
        store: the run.
        cycle: of this one alone.
        variant: of this one alone.
        until: of this cycle and those before it.
        limit: most stages.

    Raises:
        StoreError: what lies there is none of this version.
    """
    found: list[Stage] = []
    for number in _cycles(store, until) if cycle is None else (cycle,):
        prefix = f"{number:06d}/"
        wanted = [prefix] if variant is None else [f"{prefix}{stage}/{variant}" for stage in STAGES]
        for start in wanted:
            most = limit - len(found) if variant is None else None
            for key, value in store.scan(TABLE, start, limit=most, reverse=True):
                if variant is not None and key != start:
                    continue  # Another whose name begins like this one's.
                _, stage, whose = key.split("/", 2)
                try:
                    found.append(Stage(number, stage, whose, _decode(value)))
                except msgspec.DecodeError as error:
                    raise StoreError(f"the samples {key} are none of this version: {error}") from error
            if len(found) >= limit:
                return found
    return found


def _cycles(store: Scanned, until: int | None) -> Sequence[int]:
    """Cycles that may have samples, the newest first."""
    newest = store.scan(TABLE, limit=1, reverse=True)
    if not newest:
        return ()
    last = int(newest[0][0].split("/", 1)[0])
    first = last if until is None else min(last, until)
    return range(first, max(-1, last - CYCLES), -1)


def cut(sample: Sample) -> Sample:
    """The sample with its texts at most `LONGEST` long, and at most `REQUESTS` requests."""
    return msgspec.structs.replace(
        sample,
        prompt=_short(sample.prompt),
        answer=_short(sample.answer),
        detail=_short(sample.detail),
        requests=_few(sample.requests),
        other=None if sample.other is None else _short(sample.other),
        other_requests=_few(sample.other_requests),
    )


def _few(requests: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(_short(asked), _short(text)) for asked, text in requests[:REQUESTS]]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
