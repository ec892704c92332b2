"""Scores and sealed accesses of a run, computed again from outcomes and tallies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice

import msgspec

from moevolve.auditor.findings import Findings
from moevolve.auditor.settings import Settings
from moevolve.auditor.statistics import gain_of_sums, paired_gain, wilson
from moevolve.records import (
    Ablated,
    Difference,
    Evaluated,
    Guarded,
    Interval,
    Nulls,
    Record,
    RunExtended,
    RunFinished,
    RunStarted,
    SealedOpened,
)


class ScoreFigures(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A sealed score in the report."""

    initial: float | None = None
    final: float | None = None
    initial_ci: tuple[float, float] | None = None
    final_ci: tuple[float, float] | None = None
    gain: float | None = None
    gain_ci: tuple[float, float] | None = None
    n: int | None = None


class SealedFigures(msgspec.Struct, kw_only=True):
    """Accesses to the sealed split in the report."""

    scores: list[str] = []
    """Where it was scored: `initial`, `final`."""
    accesses: int | None = None
    """Accesses on record; None where an older version recorded none."""
    places: list[str] = []
    """Each access: its record, its cycle, for which score and whose."""
    tasks: int | None = None
    """Tasks of an access; every one opens the same."""


class Scores:
    """Evaluations of a run in order.

    Args:
        findings: takes what is wrong.
    """

    def __init__(self, findings: Findings) -> None:
        self.sealed = SealedFigures()
        self._findings = findings
        self._settings = Settings({})
        self._levels: dict[str, tuple[int, int]] = {}
        self._found: dict[str, Evaluated] = {}
        self._finished = False
        self._access: SealedOpened | None = None
        self._digest = ""
        self._cut = False
        self._champion = ""

    def take(self, seq: int, record: Record, champion: str) -> None:
        """Follows the run by one record; `champion` is the one before it."""
        where = f"record {seq}"
        match record:
            case RunStarted():
                self._settings = Settings.of(record.config)
                self._levels = {skill.path: skill.levels for skill in record.skills}
                # Whose graders are sealed on record has its accesses on record as well.
                self.sealed.accesses = 0 if record.grader else None
            case RunExtended():
                # The run ends once more, and its last score with it.
                self._finished = False
                self._found.pop("final", None)
            case SealedOpened():
                self._opened(where, record, champion)
            case Evaluated():
                self._evaluated(where, record, champion)
            case Ablated():
                self._ablated(where, record)
            case Nulls():
                self._nulls(where, record)
            case Guarded(guard="budget", vetoed=1):
                self._cut = True
            case RunFinished():
                self._finished = True
                self._findings.same("archive", where, "the last champion", record.champion, champion)
            case _:
                pass

    def _nulls(self, where: str, record: Nulls) -> None:
        """The differences are those of the scores beside them, where the same tasks were answered."""
        for score in (record.champion, record.greedy, record.self_consistency, record.best_of):
            check_interval(self._findings, where, score)
        for name, found in record.over.items():
            other = getattr(record, name, None)
            if name not in ("greedy", "self_consistency", "best_of") or other is None:
                self._findings.mismatch("scores", where, f"a difference to {name}, which is no baseline")
                continue
            if found.n > min(other.n, record.champion.n) or not is_paired_interval(found):
                self._findings.mismatch(
                    "scores", where, f"the difference to {name} leaves its interval or its tasks"
                )
            expected = record.champion.mean - other.mean
            if found.n == other.n == record.champion.n and abs(found.gain - expected) > 1e-9:
                self._findings.mismatch(
                    "scores", where, f"the scores differ from {name} by {expected:.6f}, not {found.gain:.6f}"
                )

    @property
    def figures(self) -> ScoreFigures:
        """The sealed scores and their paired gain."""
        first, last = self._found.get("initial"), self._found.get("final")
        figures = ScoreFigures()
        if first is not None:
            figures.initial, figures.initial_ci = first.score.mean, (first.score.low, first.score.high)
            figures.n = first.score.n
        if last is not None:
            figures.final, figures.final_ci = last.score.mean, (last.score.low, last.score.high)
        if first is not None and last is not None and len(first.outcomes) == len(last.outcomes):
            gain = paired_gain(first.outcomes, last.outcomes)
            if gain is not None:
                figures.gain, figures.gain_ci = gain[0], gain[1:]
        return figures

    def close(self, *, complete: bool) -> None:
        """Checks what holds of a whole run."""
        first, last = self._found.get("initial"), self._found.get("final")
        if first and last and len(first.outcomes) != len(last.outcomes):
            self._findings.mismatch(
                "scores",
                "sealed split",
                f"{len(first.outcomes)} tasks at the beginning and {len(last.outcomes)} at the end",
            )
        if self.sealed.accesses is None:
            self._findings.note(
                "sealed", "run", "accesses to the sealed split are not recorded: an older version"
            )
        elif complete and self._access is not None and not self._cut:
            self._findings.mismatch(
                "sealed", "run", "the sealed split was opened at last, and no score followed"
            )
        if self._finished and complete and first is None:
            self._findings.mismatch("sealed", "run", "a finished run has no first score on the sealed split")

    def _evaluated(self, where: str, record: Evaluated, champion: str) -> None:
        check = self._findings
        check.same("scores", where, "who was scored", record.variant, champion)
        check_interval(check, where, record.score)
        skills = record.skills
        answered = sum(share.n for share in skills.values())
        check.same("scores", where, "the number of tasks", record.score.n, answered)
        if answered:
            mean = math.fsum(share.score * share.n for share in skills.values()) / answered
            check.near("scores", where, "the mean", record.score.mean, mean)
        if record.tallies:
            self._tallies(where, record)
        if record.outcomes:
            self._outcomes(where, record)
        if record.split == "sealed":
            self._sealed(where, record)
        elif record.when == "final":
            check.mismatch("sealed", where, "a final score on the dev split")

    def _ablated(self, where: str, record: Ablated) -> None:
        """Each score by its outcomes, all on as many tasks."""
        scores = {"bare": record.bare, "old": record.old, "searched": record.searched}
        wanted = ["bare", "old"] + (["searched"] if record.variant is not None else [])
        self._findings.same("scores", where, "what was scored", sorted(record.outcomes), sorted(wanted))
        tasks = {len(outcomes) for outcomes in record.outcomes.values()}
        if len(tasks) > 1:
            self._findings.mismatch("scores", where, f"outcomes of {sorted(tasks)} tasks are no pairs")
        for what, interval in scores.items():
            answered = [each for each in record.outcomes.get(what, []) if each is not None]
            if interval is None:
                continue
            check_interval(self._findings, where, interval)
            self._findings.same("scores", where, f"the tasks of {what}", interval.n, len(answered))
            if answered:
                mean = math.fsum(answered) / len(answered)
                self._findings.near("scores", where, f"the mean of {what}", interval.mean, mean)

    def _opened(self, where: str, record: SealedOpened, champion: str) -> None:
        """An access: counted on, of the same tasks, for a score that follows."""
        check, sealed = self._findings, self.sealed
        count = (sealed.accesses or 0) + 1
        check.same("sealed", where, "the number of the access", record.count, count)
        check.same("sealed", where, "who is to be scored", record.variant, champion)
        if record.when in ("growth", "generalise"):
            # Other tasks than those of the scores: of what the tree grew or the run left out, after the last score.
            if self._access is not None or "final" not in self._found:
                what = "of what was grown" if record.when == "growth" else "that were left out"
                check.mismatch("sealed", where, f"tasks {what} were opened before the last score")
            sealed.accesses = count
            sealed.places.append(f"{where}, cycle {record.cycle}: {record.when}, {record.variant}")
            return
        if self._access is not None:
            check.mismatch("sealed", where, "the sealed split was opened before, and no score followed")
        if record.when == "initial" and count > 1:
            check.mismatch("sealed", where, "the sealed split was opened for a first score once more")
        if self._finished:
            check.mismatch("sealed", where, "the sealed split was opened after the run had finished")
        if sealed.tasks is not None:
            check.same("sealed", where, "the number of sealed tasks", record.tasks, sealed.tasks)
            check.same("sealed", where, "the digest of the sealed tasks", record.digest, self._digest)
        sealed.accesses, sealed.tasks, self._digest = count, record.tasks, record.digest
        sealed.places.append(f"{where}, cycle {record.cycle}: {record.when}, {record.variant}")
        self._access = record

    def _sealed(self, where: str, record: Evaluated) -> None:
        check = self._findings
        self.sealed.scores.append(record.when)
        if record.when in self._found or record.when == "cycle":
            check.mismatch("sealed", where, f"the sealed split was scored once more ({record.when})")
        if record.when == "initial" and (record.cycle != 0 or self._found):
            check.mismatch("sealed", where, "the first sealed score does not come first")
        if self._finished:
            check.mismatch("sealed", where, "the sealed split was scored after the run had finished")
        if self.sealed.accesses is not None:
            access, self._access = self._access, None
            if access is None or access.when != record.when or access.cycle != record.cycle:
                check.mismatch("sealed", where, "it was scored without an access on record")
            else:
                check.same("sealed", where, "the number of sealed tasks", len(record.outcomes), access.tasks)
        self._found.setdefault(record.when, record)

    def _tallies(self, where: str, record: Evaluated) -> None:
        attempts: dict[str, int] = {}
        successes: dict[str, int] = {}
        for tally in record.tallies:
            attempts[tally.skill] = attempts.get(tally.skill, 0) + tally.attempts
            successes[tally.skill] = successes.get(tally.skill, 0) + tally.successes
            if not 0 <= tally.successes <= tally.attempts:
                self._findings.mismatch(
                    "scores",
                    where,
                    f"{tally.successes} of {tally.attempts} attempts at {tally.skill} succeeded",
                )
        for skill, share in record.skills.items():
            self._findings.same(
                "scores", where, f"the tasks of {skill} by its tallies", share.n, attempts.get(skill, 0)
            )
            # Partial scores add to successes, and never take from them more than the rest of the tasks.
            least = successes.get(skill, 0) / share.n if share.n else 0.0
            if share.n and not 0.0 <= share.score <= 1.0:
                self._findings.mismatch("scores", where, f"{skill} has a score of {share.score}")
            if self._whole and share.n:
                self._findings.near(
                    "scores", where, f"the score of {skill} by its tallies", share.score, least
                )

    @property
    def _whole(self) -> bool:
        """Whether the suite gives no partial scores: of the shipped ones, the primer."""
        return self._settings.text("suite", "name", "") == "primer"

    def _outcomes(self, where: str, record: Evaluated) -> None:
        check = self._findings
        answered = [outcome for outcome in record.outcomes if outcome is not None]
        if any(not 0 <= outcome <= 1 for outcome in answered):
            check.mismatch("scores", where, "an outcome lies outside of [0, 1]")
            return
        check.same("scores", where, "the number of answered tasks", record.score.n, len(answered))
        if answered:
            check.near(
                "scores",
                where,
                "the mean of the outcomes",
                record.score.mean,
                math.fsum(answered) / len(answered),
            )
        for skill, outcomes in self._by_skill(record).items():
            of = [outcome for outcome in outcomes if outcome is not None]
            share = record.skills.get(skill)
            check.same(
                "scores", where, f"the tasks of {skill} by the outcomes", share.n if share else 0, len(of)
            )
            if share is not None and of:
                check.near(
                    "scores",
                    where,
                    f"the score of {skill} by the outcomes",
                    share.score,
                    math.fsum(of) / len(of),
                )

    def _by_skill(self, record: Evaluated) -> Mapping[str, Sequence[float | None]]:
        """Outcomes by skill: tasks come skill by skill, level by level, as many in each cell."""
        low, high = self._settings.numbers("suite", "levels", (1, 16))
        each = self._settings.whole("suite", "sealed_per_cell", 8)
        sizes = {}
        for skill in sorted(record.skills):
            least, most = self._levels.get(skill, (1, 0))
            sizes[skill] = int(min(high, most) - max(low, least) + 1) * each
        if sum(sizes.values()) != len(record.outcomes):
            # A suite with few tasks has fewer in a cell; where all were answered, each skill says how many.
            sizes = {skill: share.n for skill, share in sorted(record.skills.items())}
        if sum(sizes.values()) != len(record.outcomes):
            return {}
        outcomes = iter(record.outcomes)
        return {skill: list(islice(outcomes, size)) for skill, size in sizes.items()}


def is_paired_interval(of: Difference) -> bool:
    """Whether some pairs of scores in [0, 1] have this mean difference and this interval.

    Of the pairs their number and their mean are known, and their squares add up to something between n times the mean's
    square and n.
    """
    if not (of.n > 0 and -1 <= of.gain <= 1):
        return False
    (_, *narrow), (_, *wide) = (
        gain_of_sums(of.n, of.gain * of.n, of.n * square) for square in (of.gain**2, 1.0)
    )
    near = 1e-9
    holds = wide[0] - near <= of.low <= narrow[0] + near and narrow[1] - near <= of.high <= wide[1] + near
    centre = of.gain * of.n / (of.n + 2)
    clipped = of.low <= near - 1 or of.high >= 1 - near
    return holds and (clipped or abs(of.low + of.high - 2 * centre) <= near)


def check_interval(check: Findings, where: str, score: Interval) -> None:
    """An interval holds its mean, and is that of so many tasks."""
    # Older versions rounded an end of a whole score a little inwards.
    if (
        not (0 <= score.low <= score.mean + 1e-12 and score.mean <= score.high + 1e-12 <= 1 + 2e-12)
        and score.n
    ):
        check.mismatch(
            "scores", where, f"the interval [{score.low}, {score.high}] does not hold its mean {score.mean}"
        )
        return
    low, high = wilson(score.mean, score.n)
    check.near("scores", where, "the interval's lower end", score.low, low)
    check.near("scores", where, "the interval's upper end", score.high, high)
