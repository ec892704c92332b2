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


def stages(store: Scanned, *, cycle: int | None = None, limit: int = 200) -> list[Stage]:
    """Stages with samples, the newest cycle first, at most `limit` of them.

    Args:
        store: the run.
        cycle: of this one alone.
        limit: most stages.

    Raises:
        StoreError: what lies there is none of this version.
    """
    prefix = "" if cycle is None else f"{cycle:06d}/"
    found = []
    for key, value in store.scan(TABLE, prefix, limit=limit, reverse=True):
        number, stage, variant = key.split("/", 2)
        try:
            found.append(Stage(int(number), stage, variant, _decode(value)))
        except msgspec.DecodeError as error:
            raise StoreError(f"the samples {key} are none of this version: {error}") from error
    return found


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
