"""Tasks that are listed one by one: so many and no more, each in one split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

import msgspec

from moevolve.errors import UsageError
from moevolve.tasks.splits import NO_SECRET, SPLITS, Split
from moevolve.tasks.task import Task

if TYPE_CHECKING:
    from moevolve.tasks.skill import Skill

LISTED_SHARES: dict[Split, float] = {"train": 0.4, "dev": 0.1, "gate": 0.3, "sealed": 0.2}
"""Share of listed tasks in each split, unless a suite says otherwise: the gate spends what it looks at."""


class Listed(msgspec.Struct, frozen=True):
    """The tasks of one skill.

    Attributes:
        tasks: level -> its tasks; a task's seed is its index there.
        homes: level -> split -> indices of its tasks, in a fixed order.
        shares: of the splits.
    """

    tasks: Mapping[int, tuple[Task, ...]]
    homes: Mapping[int, Mapping[str, tuple[int, ...]]]
    shares: Mapping[Split, float]

    def keyed(self, secret: bytes) -> Listed:
        """The same tasks, put into splits by a secret."""
        return listed(self.tasks, self.shares, secret)

    def generate(self, rng: Random, level: int) -> Task:
        """One of the level's tasks, of whatever split."""
        return rng.choice(self.tasks[level])

    def named(self, level: int, seed: int) -> Task:
        """The task whose seed is its index, whatever its split."""
        return self.tasks[level][seed]

    def size(self, split: str, level: int) -> int:
        """Tasks of a level in a split."""
        return len(self.homes.get(level, {}).get(split, ()))

    def order(self, skill: Skill, split: str, level: int, start: int) -> Iterator[Task]:
        """The tasks of a level in a split, shuffled by `start`; over again once all have come.

        Raises:
            UsageError: there are none.
        """
        indices = list(self.homes.get(level, {}).get(split, ()))
        if not indices:
            raise UsageError(
                f"skill {skill.path}, level {level}: no task lies in split {split!r}; a skill needs {len(SPLITS)} tasks "
                f"at least, one for each split"
            )
        Random(start).shuffle(indices)
        while True:
            for index in indices:
                yield skill.task(level, index)

    def task(self, skill: Skill, split: str, level: int, start: int) -> Task:
        """One task of a level in a split, drawn by `start`; errors as of `order`."""
        return next(self.order(skill, split, level, start))


def listed(
    tasks: Mapping[int, Sequence[Task]],
    shares: Mapping[Split, float] = LISTED_SHARES,
    secret: bytes = NO_SECRET,
) -> Listed:
    """Tasks by level, each put into the split that the keyed hash of its identity and the splits' shares give it.

    Every split has a task of every level that has at least as many tasks as there are splits.
    """
    return Listed(
        {level: tuple(of) for level, of in sorted(tasks.items())},
        {level: _homes(of, shares, secret) for level, of in sorted(tasks.items())},
        shares,
    )


def _homes(tasks: Sequence[Task], shares: Mapping[Split, float], secret: bytes) -> dict[str, tuple[int, ...]]:
    ranked = sorted(range(len(tasks)), key=lambda index: _rank(tasks[index].identity, secret))
    counts = quotas(len(tasks), shares)
    homes: dict[str, tuple[int, ...]] = {}
    begin = 0
    for split in SPLITS:
        homes[split] = tuple(ranked[begin : begin + counts[split]])
        begin += counts[split]
    return homes


def _rank(identity: str, secret: bytes) -> bytes:
    text = identity.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8, person=b"moevolve.listed", key=secret).digest()


def quotas(count: int, shares: Mapping[Split, float]) -> dict[Split, int]:
    """`count` shared out: one to each split with a share where there are enough, the rest by largest remainder."""
    wanted = [split for split in SPLITS if shares.get(split, 0.0) > 0]
    counts: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    for split in sorted(wanted, key=lambda split: -shares[split])[:count]:
        counts[split] = 1
    total = sum(shares[split] for split in wanted)
    for _ in range(count - sum(counts.values())):
        counts[max(wanted, key=lambda split: shares[split] / total * count - counts[split])] += 1
    return counts
