"""Memory on record: recalls against the scores beside them, and what was told of lessons against what was tried."""

from __future__ import annotations

import math
from collections.abc import Sequence

from moevolve.auditor.findings import Findings
from moevolve.auditor.settings import Settings
from moevolve.auditor.statistics import beta_interval
from moevolve.records import (
    Consolidated,
    Controlled,
    Evaluated,
    Learned,
    Outlived,
    Recalled,
    Record,
    Remembered,
    RunFinished,
    RunStarted,
)

CHECK = "memory"
MERGE = "m"
"""What names of lessons that were made one begin with."""


class Remembering:
    """What a run's records say of its memory.

    Args:
        findings: takes what is wrong.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._settings = Settings({})
        self._recalled: dict[str, Recalled] = {}
        """Stage -> the recalls of the evaluation whose record comes next, or was the last one in older versions."""
        self._evaluated: dict[str, Evaluated] = {}
        """Split -> its last evaluation."""
        self._trust: dict[str, float] = {}
        self._merges = 0
        self._in_force: set[str] = set()
        self._shared = 0
        self._notes = 0

    def take(self, seq: int, record: Record) -> None:
        """Follows the run by one record."""
        where, check = f"record {seq}", self._findings
        match record:
            case RunStarted():
                self._settings = Settings.of(record.config)
                self._shared = 0 if record.shared is None else record.shared.lessons
            case Recalled():
                self._recall(where, record)
            case Evaluated():
                self._evaluated[record.split] = record
                self._compare(where, record.split)
            case RunFinished():
                for split in list(self._recalled):
                    self._compare(where, split)
            case Remembered():
                self._remember(where, record)
            case Consolidated():
                self._consolidate(where, record)
            case Controlled(command="rollback", done=True) if record.variant.startswith(MERGE):
                if record.variant not in self._in_force:
                    check.mismatch(CHECK, where, f"{record.variant} was rolled back and had never been made")
                self._in_force.discard(record.variant)
            case Learned():
                if record.lessons < self._notes:
                    check.mismatch(
                        CHECK,
                        where,
                        f"{record.lessons} lessons, and {self._notes} texts of programs among them",
                    )
                self._notes = 0
            case Outlived():
                for lesson in record.lessons:
                    if not self._shared and self._trust.get(lesson, 0.0) <= 0.5:
                        check.mismatch(CHECK, where, f"lesson {lesson} outlives the run, and it did not help")
            case _:
                pass

    def _recall(self, where: str, record: Recalled) -> None:
        check = self._findings
        if self._settings.text("memory", "mode", "on") == "off":
            check.mismatch(CHECK, where, "something was recalled, and memory was off")
        shown = len(record.shown) + record.left_out
        if shown > record.attempts or (not record.silent and shown < record.attempts):
            check.mismatch(
                CHECK, where, f"{record.attempts} attempts recalled, and {shown} of them something"
            )
        if record.silent > record.recalls or record.attempts > record.recalls:
            check.mismatch(CHECK, where, "fewer recalls than attempts, or than recalls without an answer")
        places = {place for shown in record.shown for place in shown.lessons}
        if not places <= set(range(len(record.lessons))) or len(set(record.lessons)) < len(record.lessons):
            check.mismatch(
                CHECK, where, "an attempt recalled a lesson that is not named, or one is named twice"
            )
        if record.stage in ("sealed", "dev"):
            self._recalled[record.stage] = record

    def _consolidate(self, where: str, record: Consolidated) -> None:
        """Whether lessons are made one follows from what attempts told about each of them."""
        check, evidence = self._findings, record.evidence
        self._merges += 1
        check.same(CHECK, where, "the merge's name", record.merge, f"m{self._merges:03d}")
        distinct = len(set(record.sources)) == len(record.sources) == len(evidence)
        if len(record.sources) < 2 or not distinct:
            check.mismatch(CHECK, where, f"{record.merge} is of fewer lessons than two, or of one twice")
            return
        if any(not 0 <= part < math.inf for each in evidence for part in each):
            check.mismatch(CHECK, where, f"{record.merge} has evidence that cannot be")
            return
        for lesson, (good, bad) in zip(record.sources, evidence, strict=True):
            if lesson in self._trust:
                trust = (1 + good) / (2 + good + bad)
                if abs(self._trust[lesson] - trust) > 2e-6:
                    told = self._trust[lesson]
                    words = f"the evidence of {lesson} makes a trust of {trust:.6f}, attempts told {told:.6f}"
                    check.mismatch(CHECK, where, words)
        good, bad = (sum(each[side] for each in evidence) for side in (0, 1))
        pooled = (1 + good) / (2 + good + bad)
        check.same(CHECK, where, f"the trust of {record.merge}", round(record.trust, 6), round(pooled, 6))
        ends = [beta_interval(1 + good, 1 + bad) for good, bad in evidence]
        apart = max(low for low, _ in ends) > min(high for _, high in ends)
        wanted = "declined" if apart else "merged"
        check.same(CHECK, where, f"what outcomes decide about {record.merge}", record.decision, wanted)
        if (record.decision == "merged") != bool(record.lesson):
            check.mismatch(
                CHECK,
                where,
                f"{record.merge} was {record.decision}, and names {record.lesson or 'no lesson'}",
            )
        elif record.lesson:
            self._trust[record.lesson] = round(record.trust, 6)
            self._in_force.add(record.merge)

    def _compare(self, where: str, split: str) -> None:
        """Holds recalls against the evaluation that they are of."""
        recalled, evaluated = self._recalled.pop(split, None), self._evaluated.get(split)
        if recalled is None or evaluated is None or recalled.cycle != evaluated.cycle:
            return
        if evaluated.outcomes:
            self._scores(where, recalled, evaluated.outcomes)

    def _scores(self, where: str, recalled: Recalled, outcomes: Sequence[float | None]) -> None:
        """Of an evaluation each attempt that recalled has the score of its task."""
        for shown in recalled.shown:
            if not 0 <= shown.attempt < len(outcomes):
                self._findings.mismatch(CHECK, where, f"attempt {shown.attempt} recalled, and there is none")
            else:
                what = f"the score of attempt {shown.attempt}, which recalled,"
                self._findings.same(CHECK, where, what, shown.score, outcomes[shown.attempt])

    def _remember(self, where: str, record: Remembered) -> None:
        check, many = self._findings, len(record.with_memory)
        check.same(CHECK, where, "the number of attempts without memory", len(record.without), many)
        scores = [each for each in (*record.with_memory, *record.without) if each is not None]
        if any(not 0 <= each <= 1 for each in (*scores, *record.trust.values())):
            check.mismatch(CHECK, where, "a score or a trust outside of [0, 1]")
        practised = self._settings.whole("attempts", "tasks", 0)
        if most := max(practised, self._settings.whole("evolve", "screen", 0)):
            share = self._settings.number("memory", "without", 1.0)
            if many > share * most + 1:
                check.mismatch(
                    CHECK, where, f"{many} attempts without memory, and a share of {share:g} was allowed"
                )
        for lesson in record.expired:
            if record.trust.get(lesson, 1.0) >= 0.5:
                check.mismatch(CHECK, where, f"lesson {lesson} expired, and attempts do not speak against it")
        quota = self._settings.whole("memory", "quota", -1)
        if 0 <= quota < record.notes:
            check.mismatch(CHECK, where, f"{record.notes} texts of programs, and {quota} were allowed")
        self._trust |= record.trust
        self._notes = record.notes
