"""Splits: which stage of a run may see a prompt.

A prompt's split is a hash of its text and of nothing else. So the four splits share no prompt, in any run,
under any seed, and a level may be drawn from as long as one likes. (Splits by seed do not give this: a
generator that seeds item i with seed + i makes a test set that is the train set shifted by one.)
"""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

Split = Literal["train", "dev", "gate", "sealed"]

SPLITS: tuple[Split, ...] = get_args(Split)

SHARES: dict[Split, float] = {"train": 0.60, "dev": 0.10, "gate": 0.15, "sealed": 0.15}
"""Share of prompts in each split: attempts and training, the curve, the gate, the reported score."""


def split_of(prompt: str) -> Split:
    """The split a prompt belongs to."""
    digest = hashlib.blake2b(prompt.encode(), digest_size=8, person=b"moevolve.split").digest()
    point = int.from_bytes(digest, "little") / 2**64
    for split in SPLITS[:-1]:
        point -= SHARES[split]
        if point < 0:
            return split
    return SPLITS[-1]
