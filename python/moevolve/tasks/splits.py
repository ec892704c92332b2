"""Splits: which stage of a run may see a prompt.

A prompt's split is a keyed hash of its text and of nothing else. So the four splits of a run share no prompt, and a level
may be drawn from as long as one likes. (Splits by seed do not give this: a generator that seeds item i with seed + i makes a
test set that is the train set shifted by one.) The key is a secret of the run: without it nobody tells a train task from a
sealed one, so that no program can be honest on the one and cheat on the other. Texts that differ in blanks or case alone are
one prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal, get_args

import msgspec

Split = Literal["train", "dev", "gate", "sealed"]

SPLITS: tuple[Split, ...] = get_args(Split)

SHARES: dict[Split, float] = {"train": 0.60, "dev": 0.10, "gate": 0.15, "sealed": 0.15}
"""Share of prompts in each split: attempts and training, the curve, the gate, the reported score."""

NO_SECRET = b""
"""The key outside of runs: everybody knows these splits."""


def same(prompt: str) -> str:
    """What prompts that differ in blanks or case alone have in common."""
    return " ".join(prompt.split()).casefold()


def split_of(prompt: str, secret: bytes = NO_SECRET) -> Split:
    """The split a prompt belongs to."""
    point = _point(same(prompt), secret)
    for split in SPLITS[:-1]:
        point -= SHARES[split]
        if point < 0:
            return split
    return SPLITS[-1]


def _point(text: str, secret: bytes) -> float:
    """Where a text lies in [0, 1)."""
    hashed = hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=8, person=b"moevolve.split", key=secret
    )
    return int.from_bytes(hashed.digest(), "little") / 2**64


class Families(msgspec.Struct, frozen=True):
    """Kinds of prompts that stay together: a split has all of one or nothing, so that what is learnt from some of them is
    tried on others alone."""

    names: tuple[str, ...]
    of: Callable[[str], str | None]
    """Prompt -> its family; None where it has none, and its own text decides."""

    def splits(self, secret: bytes) -> dict[str, Split]:
        """Family -> its split: as many as its share, and one at least, in an order that the secret decides.

        Raises:
            ValueError: there are fewer families than splits.
        """
        if len(self.names) < len(SPLITS):
            raise ValueError(f"{len(self.names)} families cannot be shared out to {len(SPLITS)} splits")
        order = sorted(self.names, key=lambda name: _point(name, secret))
        counts = {split: max(1, int(share * len(order))) for split, share in SHARES.items()}
        counts["train"] += len(order) - sum(counts.values())
        homes = iter([split for split in SPLITS for _ in range(counts[split])])
        return {name: next(homes) for name in order}


def secret_of(seed: int, seal: str) -> bytes:
    """The secret of a run: a function of its seed and the seal of its graders.

    It takes tens of milliseconds and 16 MiB, so that a program that knows all but the seed has no time to try many.
    """
    return hashlib.scrypt(
        f"{seed}".encode(), salt=f"moevolve.split {seal}".encode(), n=2**14, r=8, p=1, dklen=32
    )
