"""A lesson's trust: a posterior from attempts that had it, beside attempts that had not, and never a writer's word.

An attempt that recalled lessons tells about each of them. It is compared with its twin, where the same task was tried with
the same keys and no memory, and elsewhere with the skill's rate without memory so far. Beside a rate `r` a success counts
`1 - r` for each of the lessons, a failure `r` against it: a lesson that changes nothing gathers as much on either side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from moevolve.journal.intervals import beta
from moevolve.journal.lessons import Standing

PRIOR = 1.0
"""Evidence on either side before there is any."""
SURE = 0.9
"""Posterior probability of doing harm from which a lesson expires, and of helping from which it outlives its run."""


MOST = 64.0
"""Attempts that a trust can count for, those of the prior among them, where only the trust is known."""


class Evidence(msgspec.Struct, frozen=True):
    """What attempts told about one lesson."""

    for_: float = 0.0
    against: float = 0.0

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(self.for_ + other.for_, self.against + other.against)

    def __sub__(self, other: Evidence) -> Evidence:
        return Evidence(self.for_ - other.for_, self.against - other.against)

    @property
    def trust(self) -> float:
        """The posterior's mean: .5 before there is any evidence."""
        return (PRIOR + self.for_) / (2 * PRIOR + self.for_ + self.against)

    @property
    def harm(self) -> float:
        """Probability that the lesson does more harm than good."""
        return beta(0.5, PRIOR + self.for_, PRIOR + self.against)

    @property
    def expired(self) -> bool:
        """Whether it is returned no more."""
        return self.harm >= SURE

    @property
    def helped(self) -> bool:
        """Whether it may outlive its run."""
        return 1 - self.harm >= SURE

    @property
    def standing(self) -> Standing:
        """How the lesson stands by it."""
        return Standing(trust=self.trust, forgotten=self.expired)


class Tried(msgspec.Struct, frozen=True):
    """An attempt that recalled lessons."""

    skill: str
    lessons: Sequence[str]
    """Ids, each once."""
    success: bool
    twin: bool | None = None
    """Whether the same attempt without memory succeeded; None where there was none."""


class Rate(msgspec.Struct, frozen=True):
    """Attempts of a skill without memory."""

    successes: int = 0
    attempts: int = 0

    @property
    def mean(self) -> float:
        """The posterior's mean over an even prior."""
        return (1 + self.successes) / (2 + self.attempts)


def rates(before: Mapping[str, Rate], tried: Iterable[Tried]) -> dict[str, Rate]:
    """Skill -> its rate without memory, with the twins of `tried` added."""
    found = dict(before)
    for each in tried:
        if each.twin is not None:
            rate = found.get(each.skill, Rate())
            found[each.skill] = Rate(rate.successes + each.twin, rate.attempts + 1)
    return found


def weighed(
    before: Mapping[str, Evidence], tried: Iterable[Tried], without: Mapping[str, Rate]
) -> dict[str, Evidence]:
    """Lesson -> its evidence, of those about which `tried` tells something.

    Args:
        before: what was known; lessons that are not in it begin with nothing.
        tried: attempts that recalled lessons.
        without: skill -> its rate without memory; where a skill has none, attempts without a twin tell nothing.
    """
    gathered: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for each in tried:
        if each.twin is not None:
            rate = float(each.twin)
        elif each.skill in without:
            rate = without[each.skill].mean
        else:
            continue
        for lesson in each.lessons:
            good, bad = gathered[lesson]
            if each.success:
                gathered[lesson] = good + 1 - rate, bad
            else:
                gathered[lesson] = good, bad + rate
    return {
        lesson: Evidence(
            before.get(lesson, Evidence()).for_ + good, before.get(lesson, Evidence()).against + bad
        )
        for lesson, (good, bad) in sorted(gathered.items())
    }


def least(trust: float) -> Evidence:
    """The least evidence that has a trust, of at most `MOST` attempts."""
    trust = min(max(trust, 1 / MOST), 1 - 1 / MOST)
    lean = abs(2 * trust - 1) * PRIOR / min(trust, 1 - trust)
    return Evidence(lean, 0.0) if trust >= 0.5 else Evidence(0.0, lean)


def trusted(trust: float, weight: float = 4.0) -> Evidence:
    """Evidence that stands for a trust that was earned elsewhere."""
    return Evidence(max(0.0, weight * trust - PRIOR), max(0.0, weight * (1 - trust) - PRIOR))
