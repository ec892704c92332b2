"""The gate's rule, as `docs/audit.md` has it: what follows from a decision's pairs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import groupby

import msgspec

from moevolve.auditor.findings import Findings
from moevolve.auditor.settings import Settings
from moevolve.auditor.statistics import Differences
from moevolve.records import Pairs

OPTIMISM = 1.5
PATIENCE = 0.125
SETTLED = 64
WORSE = 0.01
MISSING = 0.03

Comparison = tuple[str, bool]
"""A skill, and whether it is compared with the variant that holds its best level."""


class Recomputed(msgspec.Struct, kw_only=True):
    """A decision as it follows from its pairs."""

    decision: str | None
    """None where the pairs lead to no decision."""
    n: int
    missing: int
    wins: int
    losses: int
    gain: float
    evidence: float
    against: float
    skills: dict[str, float]
    bounds: dict[str, float]
    vetoes: list[str]


class GateTest:
    """One decision.

    Args:
        alpha: its error rate.
        settings: the run's.
        skills: those that the run works on.
        few: tasks that a finite suite's whole rounds have; None where tasks do not end.
        best: skills whose best level another variant than the champion holds.
    """

    def __init__(
        self, alpha: float, settings: Settings, skills: Sequence[str], few: int | None, best: Sequence[str]
    ) -> None:
        self.differences: dict[Comparison, Differences] = {(skill, False): Differences() for skill in skills}
        self.differences |= {(skill, True): Differences() for skill in skills if skill in best}
        self._alpha = alpha
        self._margin = settings.number("gate", "margin", 0.05)
        self._skill_alpha = settings.number("gate", "skill_alpha", 0.01)
        self._max_n = settings.whole("gate", "max_n", 3072)
        self._confirm_n = settings.whole("gate", "confirm_n", 6144)
        least = settings.whole("gate", "min_n", 192)
        self._min_n = least if few is None else min(least, few)
        self._each = max(1, self._min_n // max(1, len(skills)))
        self._queues: dict[str, deque[float]] = {skill: deque() for skill in skills}
        self._rounds = Differences()
        self._shown: tuple[float, int] | None = None
        self._missing = 0

    def play(self, pairs: Sequence[Pairs], where: str, findings: Findings) -> Recomputed:
        """Takes the batches in order and judges after each."""
        verdict = self._judge()
        batches = groupby(pairs, key=lambda group: group.batch)
        for expected, (number, groups) in enumerate(batches):
            if number != expected:
                findings.mismatch("gate", where, f"batch {expected} is missing on record")
            if verdict.decision is not None:
                findings.mismatch(
                    "gate", where, f"it went on with batch {number} after a decision to {verdict.decision}"
                )
            for group in groups:
                self._take(group, where, findings)
            if self._shown is None:
                whole = min(map(len, self._queues.values()), default=0)
                for queue in self._queues.values():
                    for _ in range(whole):
                        self._rounds.add(queue.popleft())
            verdict = self._judge()
        return verdict

    def _take(self, group: Pairs, where: str, findings: Findings) -> None:
        differences = self.differences.get((group.skill, group.best))
        if differences is None or len(group.candidate) != len(group.other):
            findings.mismatch("gate", where, f"pairs of {group.skill!r} that this decision cannot have")
            return
        for ours, theirs in zip(group.candidate, group.other, strict=True):
            if ours is None and theirs is None:
                self._missing += 1
                continue
            # A side that alone has no answer has lost the pair.
            ours, theirs = ours or 0.0, theirs or 0.0
            if not (0 <= ours <= 1 and 0 <= theirs <= 1):
                findings.mismatch("gate", where, f"a score outside of [0, 1]: {ours} or {theirs}")
                continue
            differences.add(ours - theirs)
            if not group.best and self._shown is None:
                self._queues[group.skill].append(ours - theirs)

    def _judge(self) -> Recomputed:
        n = sum(each.n for each in self.differences.values())
        champion = {skill: each for (skill, best), each in self.differences.items() if not best}
        if (
            self._shown is None
            and self._rounds.n >= self._min_n
            and self._rounds.log_capital() >= math.log(1 / self._alpha)
        ):
            self._shown = self._rounds.log_capital(), n
        evidence = self._shown[0] if self._shown else self._rounds.log_capital()
        against = self._rounds.log_against()
        decision, vetoes = self._decide(n, against)
        all_pairs = n + self._missing
        if (
            all_pairs
            and self._missing / all_pairs > MISSING
            and (decision is not None or self._missing > MISSING * self._max_n)
        ):
            decision, vetoes = "void", []
        skills = {skill: each.mean for skill, each in champion.items() if each.n}
        return Recomputed(
            decision=decision,
            n=n,
            missing=self._missing,
            wins=_count(champion, 1),
            losses=_count(champion, -1),
            gain=math.fsum(skills.values()) / len(skills) if skills else 0.0,
            evidence=evidence,
            against=against,
            skills=skills,
            bounds={
                skill: self.differences.get((skill, True), each).lower_bound(self._skill_alpha)
                for skill, each in champion.items()
            },
            vetoes=vetoes,
        )

    def _decide(self, n: int, against: float) -> tuple[str | None, list[str]]:
        harmed = self._harmed()
        if self._shown is None and against >= math.log(1 / max(self._alpha, WORSE)):
            return "discard", harmed
        if harmed:
            return "archive", harmed
        if self._shown is None:
            seen = self._rounds.n
            if seen >= self._max_n:
                return "archive", []
            if seen >= max(self._min_n, PATIENCE * self._max_n):
                needed = self._rounds.tasks_needed(math.log(1 / self._alpha), 0.0, OPTIMISM)
                if needed > self._max_n - seen:
                    return "archive", []
            return None, []
        proof = math.log(1 / self._skill_alpha)
        waiting = {
            key: each
            for key, each in self.differences.items()
            if each.n < self._each or each.log_capital(self._margin) < proof
        }
        if not waiting:
            return "promote", []
        left = self._confirm_n - (n - self._shown[1])
        if left <= 0:
            return "archive", sorted({skill for skill, _ in waiting})
        beyond = {
            skill
            for (skill, _), each in waiting.items()
            if each.n >= SETTLED and each.tasks_needed(proof, self._margin, OPTIMISM) > left
        }
        return ("archive", sorted(beyond)) if beyond else (None, [])

    def _harmed(self) -> list[str]:
        proof = math.log(len(self._queues) / WORSE) if self._queues else math.inf
        return sorted(
            {
                skill
                for (skill, _), each in self.differences.items()
                if each.mean < -self._margin and each.log_against(self._margin) >= proof
            }
        )


def _count(champion: Mapping[str, Differences], sign: int) -> int:
    return sum(c for each in champion.values() for d, c in each.counts.items() if d * sign > 0)
