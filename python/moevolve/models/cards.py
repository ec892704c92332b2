"""Memory of this machine and of well-known accelerators."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

GIB = 1 << 30


class Card(msgspec.Struct, frozen=True):
    """A place for weights."""

    name: str
    memory: int
    """Bytes, as its driver reports them, to a whole GiB."""


CARDS = tuple(
    Card(name=name, memory=gib * GIB)
    for name, gib in (
        ("RTX 3090", 24),
        ("RTX 4090", 24),
        ("RTX 5090", 32),
        ("RTX PRO 6000", 96),
        ("L4", 24),
        ("A10", 24),
        ("L40S", 48),
        ("A100 40GB", 40),
        ("A100 80GB", 80),
        ("H100", 80),
        ("H200", 141),
        ("B200", 180),
        ("B300", 268),
        ("MI300X", 192),
        ("MI325X", 256),
        ("MI355X", 288),
    )
)


def this_machine() -> Card | None:
    """The memory of this machine, as far as its control group lets a process use it; None where it does not tell."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limit = _limit()
    return Card(name="this machine", memory=memory if limit is None else min(memory, limit))


def _limit() -> int | None:
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(file).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
    return None
