"""The growth of a run's skill tree, decided again from the trials on record."""

from __future__ import annotations

import math

from moevolve.auditor.findings import Findings
from moevolve.auditor.remembering import MERGE
from moevolve.auditor.statistics import wilson
from moevolve.records import Controlled, Grown, GrowthScored, Record, RunStarted, SealedOpened, Tally

LEARNABLE, DEAD, HEALED = 0.05, 0.2, 0.6


class Growth:
    """Changes of the skill tree in order.

    Args:
        findings: takes what is wrong.
    """

    def __init__(self, findings: Findings) -> None:
        self.behaviours: dict[str, str] = {}
        """Content hash of plans on what was grown -> the variant whose they are."""
        self._findings = findings
        self._suite: set[str] = set()
        self._made: dict[str, str] = {}
        """Leaf that was grown -> the change that added it."""
        self._names = 0
        self._added: set[str] = set()
        self._opened: SealedOpened | None = None

    def take(self, seq: int, record: Record, champion: str) -> None:
        """Follows the run by one record; `champion` is the one before it."""
        where, check = f"record {seq}", self._findings
        match record:
            case RunStarted():
                self._suite = {skill.path for skill in record.skills}
            case Grown():
                self._grown(where, record, champion)
            case Controlled(command="rollback", done=True) if not record.variant.startswith(MERGE):
                if record.variant not in self._added:
                    check.mismatch(
                        "growth", where, f"{record.variant} was rolled back and had never been added"
                    )
                self._added.discard(record.variant)
            case SealedOpened(when="growth"):
                self._opened = record
            case GrowthScored():
                self._scored(where, record, champion)
            case _:
                pass

    def _grown(self, where: str, record: Grown, champion: str) -> None:
        check = self._findings
        self._names += 1
        check.same("growth", where, "the change's name", record.growth, f"g{self._names:03d}")
        check.same("growth", where, "who was tried", record.variant, champion)
        paths = {leaf.path for leaf in record.leaves}
        strange = {tally.skill for tally in record.trial} - paths
        if strange:
            check.mismatch("growth", where, f"its trial holds attempts at {sorted(strange)[0]}")
        levels = {leaf.path: leaf.levels for leaf in record.leaves}
        for tally in record.trial:
            low, high = levels.get(tally.skill, (1, 0))
            if not low <= tally.level <= high or not 0 <= tally.successes <= tally.attempts:
                check.mismatch("growth", where, f"its trial at {tally.skill}, level {tally.level} is none")
        wanted = "added" if speaks_for(record.change, record.trial) else "declined"
        check.same("growth", where, "what the trial decides", record.decision, wanted)
        if record.decision != "added":
            return
        self._added.add(record.growth)
        for path in paths:
            if record.change in ("compose", "split"):
                if path in self._suite:
                    check.mismatch("growth", where, f"it adds {path}, which the suite has")
                self._made[path] = record.growth
            elif record.change == "retire" and path not in self._made:
                check.mismatch("growth", where, f"it retires {path}, which the tree did not grow")

    def _scored(self, where: str, record: GrowthScored, champion: str) -> None:
        check = self._findings
        check.same("growth", where, "who was scored", record.variant, champion)
        if record.behaviour is not None:
            self.behaviours[record.behaviour] = record.variant
        access, self._opened = self._opened, None
        answered = sum(share.n for share in record.skills.values())
        if access is None:
            check.mismatch("growth", where, "its sealed tasks were opened without an access on record")
        else:
            check.same("growth", where, "the number of sealed tasks", answered + record.missing, access.tasks)
        for path, share in sorted(record.skills.items()):
            n = sum(tally.attempts for tally in record.tallies if tally.skill == path)
            right = sum(tally.successes for tally in record.tallies if tally.skill == path)
            check.same("growth", where, f"the tasks of {path} by its tallies", share.n, n)
            if n and share.score + 1e-9 < right / n:
                check.mismatch("growth", where, f"the score of {path} is below its successes")


def speaks_for(change: str, trial: list[Tally]) -> bool:
    """Whether a trial adds a change: new cells succeed above `LEARNABLE`; both sides of a split differ; what is retired
    fails nearly always, or both sides of it succeed; each at 95 %."""
    leaves: dict[str, list[int]] = {}
    for tally in trial:
        counts = leaves.setdefault(tally.skill, [0, 0])
        counts[0] += tally.successes
        counts[1] += tally.attempts
    wins, n = (sum(each[place] for each in leaves.values()) for place in (0, 1))
    if not n:
        return False
    low, high = wilson(wins / n, n)
    if change in ("levels", "compose"):
        return low >= LEARNABLE
    rates = [(w / m, *wilson(w / m, m)) for _, (w, m) in sorted(leaves.items()) if m]
    if change == "split":
        if len(rates) != 2:
            return False
        # The square-and-add interval of a difference (Newcombe 1998, method 10).
        (p, p_low, p_high), (q, q_low, q_high) = rates
        under, over = math.hypot(q - q_low, p_high - p), math.hypot(q_high - q, p - p_low)
        return q - p - under > 0 or q - p + over < 0
    return high <= DEAD or (len(rates) == 2 and all(each[1] >= HEALED for each in rates))
