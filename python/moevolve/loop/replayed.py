"""A run done again, and compared with its record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from moevolve.agents.box.records import Repeats
from moevolve.errors import DivergedError
from moevolve.journal.store import RunStore


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """Two journals of one run: the head on record, and that of doing it again."""

    recorded: str
    replayed: str | None
    """None where it came to a record that differs."""
    equal: bool
    difference: str | None = None
    """What differs, in words; None where nothing does."""
    repeats: Repeats | None = None
    """What became of its attempts in boxes; None where there were none."""


def replayed(
    source: Path,
    keep: Path | None,
    again: Callable[[Path, Path], tuple[str, str]],
    repeats: Repeats | None = None,
) -> Replayed:
    """What comes of doing a run again.

    Args:
        source: the run's folder.
        keep: an empty folder to do it in; a temporary one when None.
        again: does a run again in an empty folder; returns both heads, or raises `DivergedError`.
        repeats: what `again` counts its attempts in boxes in.
    """
    try:
        if keep is not None:
            recorded, now = again(source, keep)
        else:
            with TemporaryDirectory(prefix="moevolve-replay-") as folder:
                recorded, now = again(source, Path(folder) / "run")
    except DivergedError as error:
        with RunStore.open(source) as store:
            return Replayed(
                recorded=store.head(),
                replayed=None,
                equal=False,
                difference=str(error),
                repeats=_some(repeats),
            )
    equal = recorded == now
    difference = None if equal else "the journals have different lengths"
    return Replayed(
        recorded=recorded, replayed=now, equal=equal, difference=difference, repeats=_some(repeats)
    )


def _some(repeats: Repeats | None) -> Repeats | None:
    return repeats if repeats is not None and repeats.executed + repeats.graded else None
