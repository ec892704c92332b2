"""The generalisation columns of a run, computed again from their outcomes, and held against what the run worked on."""

from __future__ import annotations

import math
from collections.abc import Iterable

from moevolve.auditor.findings import Findings
from moevolve.auditor.rule import MISSING
from moevolve.auditor.scores import check_interval
from moevolve.auditor.settings import Settings
from moevolve.records import (
    Attempted,
    Chosen,
    Controlled,
    CycleFinished,
    CycleStarted,
    Evaluated,
    Gated,
    Generalised,
    Grown,
    Guarded,
    Interval,
    Record,
    RunExtended,
    RunFinished,
    RunStarted,
    Screened,
    SealedOpened,
    Selected,
    SkillScore,
    Tally,
    VariantAdded,
)

CHECK = "generalise"
COLUMNS = {"G0", "G2", "G3", "G4"}
Place = tuple[str, int | None]
"""A skill with a level, or with any."""
CUT = "the run was cut short"
UNSCREENED = "the champion's program passed no screening"
GREW = "the skill tree opens levels itself: see the growth column"
"""Reasons of columns that are missing, which other records bear out or belie."""


class Generalisation:
    """Columns in order.

    Args:
        findings: takes what is wrong.
    """

    def __init__(self, findings: Findings) -> None:
        self.behaviours: dict[str, str] = {}
        """Content hash of plans on what the run never worked on -> the variant whose they are."""
        self._findings = findings
        self._settings = Settings({})
        self._levels: dict[str, tuple[int, int]] = {}
        self._first = ""
        self._answers = ""
        self._programs: dict[str, str] = {}
        self._last: dict[str, Screened] = {}
        """Variant -> its screening."""
        self._screened: dict[str, Screened] = {}
        """Program -> the screening that led it through the gate."""
        self._cycle = 0
        self._scored = False
        """Whether the last score is on record."""
        self._tried: set[Place] = set()
        self._held: set[Place] = set()
        self._columns: set[str] = set()
        self._opened: SealedOpened | None = None
        self._cut = False

    def take(self, seq: int, record: Record, champion: str) -> None:
        """Follows the run by one record; `champion` is the one before it."""
        where, check = f"record {seq}", self._findings
        match record:
            case RunStarted():
                self._settings, self._first = Settings.of(record.config), record.champion
                self._answers = record.answers
                low, high = self._settings.numbers("suite", "levels", (1, math.inf))
                self._levels = {
                    each.path: (int(max(low, each.levels[0])), int(min(high, each.levels[1])))
                    for each in record.skills
                }
            case VariantAdded():
                self._programs[record.variant] = record.program
            case CycleStarted() if self._columns:
                check.mismatch(CHECK, where, "a cycle began after the columns, and no extension before it")
            case CycleFinished():
                self._cycle = record.cycle
            case Attempted():
                self._tallied(where, record.tallies)
            case Grown():
                self._tallied(where, record.trial)
            case Evaluated():
                self._tallied(where, record.tallies)
                self._worked(where, record.skills)
                self._scored = self._scored or record.when == "final"
            case Screened():
                self._worked(where, record.skills)
                self._last[record.variant] = record
            case Selected():
                self._worked(where, record.skills)
            case Chosen():
                self._worked(where, record.baseline)
            case Gated():
                self._worked(where, [*record.skills, *(pairs.skill for pairs in record.pairs)])
                self._passed(record)
            case SealedOpened(when="generalise"):
                if self._opened is not None:
                    check.mismatch(CHECK, where, "sealed tasks were opened before, and no column followed")
                self._opened = record
            case Guarded(guard="budget", vetoed=1) | Controlled(command="stop"):
                self._cut = True
            case Generalised():
                self._column(where, record, champion)
            case RunExtended():
                # It is measured again at its end, by what it will have worked on until then.
                self._columns.clear()
                self._held.clear()
                self._scored = self._cut = False
                self._cycle = record.cycle
            case RunFinished() if self._settings.whole(CHECK, "per_cell", 0):
                for column in sorted(COLUMNS - self._columns):
                    check.mismatch(CHECK, where, f"column {column} was asked for, and is not on record")
            case _:
                pass

    def _tallied(self, where: str, tallies: Iterable[Tally]) -> None:
        """Attempts at levels of skills, which the run worked on."""
        self._tried |= {(tally.skill, tally.level) for tally in tallies}
        self._worked(where, (tally.skill for tally in tallies))

    def _worked(self, where: str, skills: Iterable[str]) -> None:
        """Skills that the run worked on, at whatever level."""
        self._tried |= {(skill, None) for skill in skills}
        self._apart(where)

    def _passed(self, record: Gated) -> None:
        """Keeps the screening of a program that the gate let through, or that waits for a person."""
        screening = self._last.get(record.candidate) if record.level == "program" else None
        if screening is not None and record.decision in ("promote", "hold"):
            self._screened[self._programs.get(record.candidate, "")] = screening
        self._last.clear()

    def _apart(self, where: str) -> None:
        if both := self._tried & self._held:
            skill, level = min(both, key=repr)
            at = "" if level is None else f", level {level}"
            self._findings.mismatch(CHECK, where, f"{skill}{at} was held out, and the run attempted it")
            self._held -= both

    def _column(self, where: str, record: Generalised, champion: str) -> None:
        check = self._findings
        access, self._opened = self._opened, None
        check.same(CHECK, where, "who was scored", record.variant, champion)
        if not self._settings.whole(CHECK, "per_cell", 0):
            check.mismatch(CHECK, where, "a column that was not asked for")
        if record.column in self._columns:
            check.mismatch(CHECK, where, f"column {record.column} was scored once more")
        self._columns.add(record.column)
        check.same(CHECK, where, "the cycle of a column", record.cycle, self._cycle)
        screening = self._screened.get(self._programs.get(champion, ""))
        if record.reason:
            if record.cells or record.outcomes or record.seed or record.champion:
                check.mismatch(CHECK, where, "a column has scores, and a reason why it has none")
            if access is not None and not self._cut:
                check.mismatch(CHECK, where, "its sealed tasks were opened, and it has no score")
            self._reason(where, record, screening)
            return
        if not self._scored:
            check.mismatch(CHECK, where, f"column {record.column} was scored before the last score")
        tasks = sum(n for _, _, n in record.cells)
        if record.column == "G0":
            if access is not None:
                check.mismatch(CHECK, where, "sealed tasks were opened for tasks of the screening")
            self._same_tasks(where, record, screening)
        elif access is None:
            check.mismatch(CHECK, where, "its sealed tasks were opened without an access on record")
        else:
            check.same(CHECK, where, "the number of sealed tasks", tasks, access.tasks)
        for skill, level, _ in record.cells:
            if not self._belongs(record.column, skill, level):
                check.mismatch(CHECK, where, f"{skill}, level {level} is none of column {record.column}")
        if record.column != "G0":
            whole = record.column != "G2"
            self._held |= {(skill, None if whole else level) for skill, level, _ in record.cells}
            self._apart(where)
        if record.column != "G0" and self._answers == "policy":
            whose = sorted({self._first, champion})
            check.same(CHECK, where, "whose plans it names", sorted(record.behaviours), whose)
        for variant, behaviour in record.behaviours.items():
            if variant not in (self._first, champion):
                check.mismatch(CHECK, where, f"it names plans of {variant}, which was not scored")
            self.behaviours[behaviour] = variant
        self._scores(where, record, tasks)

    def _reason(self, where: str, record: Generalised, screening: Screened | None) -> None:
        """Why there is no column, as far as other records tell."""
        check, reason = self._findings, record.reason
        if reason == CUT:
            if not self._cut:
                check.mismatch(
                    CHECK, where, "it says that the run was cut short, which nothing on record did"
                )
            return
        if record.column == "G0" and (screening is not None or reason != UNSCREENED):
            passed = "no" if screening is None else "a"
            said = f"column G0 is missing ({reason}), and the champion's program passed {passed} screening"
            check.mismatch(CHECK, where, said)
        if record.column == "G2":
            grows = self._settings.flag("growth", "on")
            check.same(CHECK, where, "whether levels were left to the tree", reason == GREW, grows)
        elif reason == GREW:
            check.mismatch(CHECK, where, f"column {record.column} has no levels that a tree could open")

    def _same_tasks(self, where: str, record: Generalised, screening: Screened | None) -> None:
        """The tasks are those of the screening, each once: no skill that was screened is left out, and none has more."""
        check = self._findings
        if screening is None:
            check.mismatch(CHECK, where, "tasks of a screening, and the champion's program passed none")
            return
        tasks: dict[str, int] = {}
        for skill, _, n in record.cells:
            tasks[skill] = tasks.get(skill, 0) + n
        unanswered = screening.n - sum(share.n for share in screening.skills.values())
        for skill in sorted({*tasks, *screening.skills}):
            most = screening.skills.get(skill, SkillScore(0.0, 0)).n + unanswered
            least = 1 if skill in screening.skills else 0
            if not least <= tasks.get(skill, 0) <= most:
                said = (
                    f"{tasks.get(skill, 0)} tasks of {skill}, and {screening.variant} was screened on {most}"
                )
                check.mismatch(CHECK, where, said)

    def _belongs(self, column: str, skill: str, level: int) -> bool:
        low, high = self._levels.get(skill, (1, 0))
        branches = {path.partition("/")[0] for path in self._levels}
        match column:
            case "G0":
                return low <= level <= high
            case "G2":
                grows = self._settings.flag("growth", "on")
                above = level - high
                most = self._settings.whole(CHECK, "levels", 4)
                return skill in self._levels and 0 < above <= most and not grows
        return skill not in self._levels and (skill.partition("/")[0] in branches) == (column == "G3")

    def _scores(self, where: str, record: Generalised, tasks: int) -> None:
        check, outcomes = self._findings, record.outcomes
        if sorted(outcomes) != ["champion", "seed"] or any(len(of) != tasks for of in outcomes.values()):
            check.mismatch(CHECK, where, f"its outcomes are not those of both on {tasks} tasks")
            return
        pairs = zip(outcomes["seed"], outcomes["champion"], strict=True)
        missing = sum(None in pair for pair in pairs)
        check.same(CHECK, where, "the tasks without an answer", record.missing, missing)
        for what, score in (("seed", record.seed), ("champion", record.champion)):
            self._score(where, what, score, outcomes[what])

    def _score(self, where: str, what: str, score: Interval | None, outcomes: list[float | None]) -> None:
        check = self._findings
        answered = [each for each in outcomes if each is not None]
        if any(not 0 <= each <= 1 for each in answered):
            check.mismatch(CHECK, where, f"an outcome of the {what} lies outside of [0, 1]")
            return
        void = not outcomes or len(outcomes) - len(answered) > MISSING * len(outcomes)
        if score is None or void:
            check.same(CHECK, where, f"whether the {what} has a score", score is not None, not void)
            return
        check_interval(check, where, score)
        check.same(CHECK, where, f"the answered tasks of the {what}", score.n, len(answered))
        mean = math.fsum(answered) / len(answered)
        check.near(CHECK, where, f"the mean of the {what}", score.mean, mean)
