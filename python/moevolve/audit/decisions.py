"""The gate's decisions, made again from the pairs on record by the rule in `docs/audit.md`.

A decision looks after every batch. It asks for a gain first (whole rounds of skills, error rate alpha), then for every skill
unharmed (margin, skill_alpha), against the champion and against the variant that holds the skill's best level.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import groupby

import msgspec

from moevolve.audit.findings import Findings
from moevolve.audit.settings import Settings
from moevolve.audit.statistics import Differences, share, spent
from moevolve.records import PASSED, Controlled, Gated, Guarded, Pairs, Record, RolledBack, RunStarted

RULE = "fallback-harmonic-10"
OPTIMISM = 1.5
PATIENCE = 0.125
SETTLED = 64
WORSE = 0.01
MISSING = 0.03
TAKEOVER = 0.4

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


class DecisionFigures(msgspec.Struct, kw_only=True):
    """A decision in the report."""

    record: int
    cycle: int
    level: str
    candidate: str
    champion: str
    decision: str
    recomputed: str | None
    """What follows from the pairs; None where none are on record."""
    n: int
    gain: float
    evidence: float
    evidence_recomputed: float | None
    alpha: float
    spent: float | None
    checked: bool
    """Whether pairs were on record to check it by."""


class Decisions:
    """All decisions of a run in order.

    Args:
        findings: takes what is wrong.
        only: look at the decision about this candidate alone; budgets and best levels are followed all the same.
    """

    def __init__(self, findings: Findings, only: str | None = None) -> None:
        self.figures: list[DecisionFigures] = []
        self.settings = Settings({})
        self.skills: list[str] = []
        self.candidates: list[str] = []
        self.alpha = 0.0
        self.spent = 0.0
        self._findings = findings
        self._only = only
        self._few: int | None = None
        self._decided = 0
        self._promoted = 0
        self._holders: dict[str, str] = {}
        self._champion = ""
        self._unpaired = 0
        self._held: dict[str, _Test] = {}
        self._passed: set[str] = set()

    def take(self, seq: int, record: Record) -> None:
        """Follows the run by one record."""
        match record:
            case RunStarted():
                self.settings = Settings.of(record.config)
                self.skills = sorted(skill.path for skill in record.skills)
                chosen = self.settings.names("suite", "skills")
                self.skills = sorted(set(chosen) & set(self.skills)) if chosen else self.skills
                self._champion = record.champion
                self._holders = dict.fromkeys(self.skills, record.champion)
                self.alpha = self.settings.number("gate", "alpha", 0.05)
            case Guarded(guard="finite data"):
                self._few = record.checked
            case RolledBack():
                self._findings.same(
                    "archive", f"record {seq}", "the champion before", record.before, self._champion
                )
                self._champion = record.champion
            case Controlled():
                self._controlled(seq, record)
            case Gated():
                self._decision(seq, record)
            case _:
                pass

    @property
    def made(self) -> int:
        """Decisions that took a share of the error budget."""
        return self._decided

    @property
    def promotions(self) -> int:
        """Decisions by which a candidate passed."""
        return len(self._passed)

    def close(self) -> None:
        """Says what was not on record."""
        if self._unpaired:
            self._findings.note(
                "gate",
                "run",
                f"{self._unpaired} of {len(self.figures)} decisions have no pairs on record: an older version or a "
                "server wrote them",
            )

    def _decision(self, seq: int, record: Gated) -> None:
        where = f"record {seq}, {record.candidate}"
        self.candidates.append(record.candidate)
        if record.decision in PASSED:
            self._passed.add(record.candidate)
        self._findings.same("gate", where, "the champion", record.champion, self._champion)
        budgeted = record.rule != ""
        if budgeted:
            self._budget(where, record)
        recomputed = None
        if record.pairs and (self._only in (None, record.candidate) or record.decision in PASSED):
            test = _Test(record.alpha, self.settings, self.skills, self._few, self._elsewhere())
            recomputed = test.play(record.pairs, where, self._findings)
            if self._only in (None, record.candidate):
                self._compare(where, record, recomputed)
            if record.decision == "promote":
                self._promote(test, record.candidate)
            elif record.decision == "hold":
                self._held[record.candidate] = test
        elif not record.pairs and self._only in (None, record.candidate):
            self._unpaired += 1
            self._plausible(where, record)
        if record.decision == "promote":
            self._champion = record.candidate
        if self._only in (None, record.candidate):
            self.figures.append(
                DecisionFigures(
                    record=seq,
                    cycle=record.cycle,
                    level=record.level,
                    candidate=record.candidate,
                    champion=record.champion,
                    decision=record.decision,
                    recomputed=recomputed.decision if recomputed else None,
                    n=record.n,
                    gain=record.gain,
                    evidence=record.evidence,
                    evidence_recomputed=recomputed.evidence if recomputed else None,
                    alpha=record.alpha,
                    spent=record.spent,
                    checked=recomputed is not None,
                )
            )

    def _budget(self, where: str, record: Gated) -> None:
        """The decision's share of the run's error budget, and what is spent after it."""
        check = self._findings
        check.same("gate", where, "the rule of the error budget", record.rule, RULE)
        check.near("gate", where, "alpha", record.alpha, share(self.alpha, self._decided - self._promoted))
        self._decided += 1
        self._promoted += record.decision in PASSED
        self.spent = spent(self.alpha, self._decided - self._promoted)
        if record.spent is None:
            check.mismatch("gate", where, "what is spent of the error budget is not on record")
        else:
            check.near("gate", where, "what is spent of alpha", record.spent, self.spent)
        if self.spent > self.alpha + 1e-12:
            check.mismatch("gate", where, f"{self.spent} of the error budget {self.alpha} is spent")

    def _compare(self, where: str, record: Gated, found: Recomputed) -> None:
        check = self._findings
        for what in ("n", "missing", "wins", "losses"):
            check.same("gate", where, what, getattr(record, what), getattr(found, what))
        for what in ("gain", "evidence"):
            check.near("gate", where, what, getattr(record, what), getattr(found, what))
        for what in ("skills", "bounds"):
            ours, theirs = getattr(found, what), getattr(record, what)
            check.same("gate", where, f"the skills of {what}", sorted(theirs), sorted(ours))
            for skill in ours.keys() & theirs.keys():
                check.near("gate", where, f"{what} of {skill}", theirs[skill], ours[skill])
        # A test whose tasks have run out ends in the archive, undecided as it is.
        out_of_tasks = found.decision is None and record.decision == "archive"
        if out_of_tasks and "no fresh tasks" not in record.reason:
            check.mismatch("gate", where, "it was sent to the archive while the test was undecided")
        elif not out_of_tasks:
            # Whether a candidate that passed waits for a person or a guard refuses it is no matter of its pairs.
            passed = "promote" if record.decision in PASSED else record.decision
            check.same("gate", where, "the decision", passed, found.decision)
            check.same("gate", where, "the vetoes", sorted(record.vetoes), sorted(found.vetoes))

    def _controlled(self, seq: int, record: Controlled) -> None:
        if record.done and record.command == "approve":
            test = self._held.pop(record.variant, None)
            if test is None and self._only is None and record.variant not in self._passed:
                self._findings.mismatch(
                    "gate", f"record {seq}", f"{record.variant} was approved, and passed no comparison"
                )
            if test is not None:
                self._promote(test, record.variant)
        self._champion = record.champion

    def _plausible(self, where: str, record: Gated) -> None:
        """What can be said of a decision without pairs: whether it fits the figures beside it."""
        check = self._findings
        if record.wins + record.losses > record.n:
            check.mismatch(
                "gate", where, f"{record.wins} wins and {record.losses} losses of {record.n} pairs"
            )
        if record.decision in PASSED:
            if record.evidence < math.log(1 / record.alpha) - 1e-9:
                check.mismatch(
                    "gate",
                    where,
                    f"promoted at evidence {record.evidence:.3f}, below log(1/alpha) = {math.log(1 / record.alpha):.3f}",
                )
            if record.vetoes:
                check.mismatch("gate", where, f"promoted against the vetoes of {', '.join(record.vetoes)}")
        if record.skills and record.level == "program":
            mean = math.fsum(record.skills.values()) / len(record.skills)
            if abs(mean) > 1 or abs(record.gain) > 1:
                check.mismatch("gate", where, f"a gain of {record.gain}")

    def _elsewhere(self) -> list[str]:
        return [skill for skill, holder in self._holders.items() if holder != self._champion]

    def _promote(self, test: _Test, candidate: str) -> None:
        for skill, holder in list(self._holders.items()):
            if test.differences[skill, holder != self._champion].log_capital() >= TAKEOVER:
                self._holders[skill] = candidate


class _Test:
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
