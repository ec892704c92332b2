"""What a run's skill tree has grown beside its suite: leaves and levels, their mastery, and who attempts and grades them.

It stands apart from the suite: scores, gate and screening know the suite alone, so that no score counts what is grown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from moevolve.loop import resolve
from moevolve.loop.behaviours import Behaviours
from moevolve.records import Grown
from moevolve.rollouts.attempts import Attempt, Rollouts
from moevolve.rollouts.executors.local import LocalExecutor, Programs
from moevolve.rollouts.grading import CoinGrader, SealedGrader
from moevolve.rollouts.runner import RolloutRequest, RolloutRunner
from moevolve.skills.growth import new_leaves, rolled_back
from moevolve.skills.mastery import Mastery
from moevolve.skills.prerequisites import Readiness, readiness
from moevolve.tasks.grown import composed_path, fits, grown
from moevolve.tasks.suite import Cell, Suite

if TYPE_CHECKING:
    from moevolve.loop.context import RunContext


class Growing:
    """The growth of one run.

    Args:
        run: the run.
        behaviours: the run's, which find out plans for what is grown.
    """

    def __init__(self, run: RunContext, behaviours: Behaviours) -> None:
        self._run = run
        self._behaviours = behaviours
        self._whole = resolve.whole(run.config)
        self._grader: tuple[Suite, SealedGrader] | None = None
        self._fits: dict[tuple[str, str], bool] = {}
        self.changes: list[Grown] = []
        """Changes in force, in order."""
        self.declined: list[Grown] = []
        self.taken_back: list[Grown] = []
        """Changes that a person took back."""
        self.latest: Sequence[Attempt] = ()
        """The cycle's attempts at what was grown, through the program."""
        self.suite: Suite = run.suite
        """The run's suite with what was grown."""
        self.direct = Mastery({})
        """Of the bare policy, over what was grown."""
        self.through = Mastery({})
        """Of the champion with its program, likewise."""

    def set(self, changes: Sequence[Grown]) -> None:
        """Makes `changes` the ones in force; what is known of leaves that stay is kept."""
        self.changes = list(changes)
        self.suite = grown(self._run.suite, self.changes)
        levels = self.levels
        self.direct, self.through = (_mastery(each.table(), levels) for each in (self.direct, self.through))
        self._fits.clear()
        self.close()

    def restore(self) -> None:
        """Goes back to the snapshot that the run goes on from."""
        state = self._run.state
        self.declined, self.taken_back = list(state.growth_declined), list(state.growth_taken_back)
        self.set(state.growth)
        # A change may have been taken back since.
        levels = self.levels
        self.direct, self.through = (
            _mastery(table, levels) for table in (state.growth_direct, state.growth_program)
        )

    def save(self) -> None:
        """Puts itself into the run's snapshot."""
        state = self._run.state
        state.growth, state.growth_declined = self.changes, self.declined
        state.growth_taken_back = self.taken_back
        state.growth_direct, state.growth_program = self.direct.table(), self.through.table()

    def roll_back(self, name: str) -> bool:
        """Takes back a change, and with it whatever builds on it; whether it was in force."""
        stay = rolled_back(self.changes, name)
        if stay is None:
            return False
        self.taken_back += [each for each in self.changes if each.growth == name]
        self.set(stay)
        return True

    @property
    def leaves(self) -> list[str]:
        """The leaves that the tree has grown."""
        return sorted(new_leaves(self.changes))

    @property
    def levels(self) -> dict[str, tuple[int, int]]:
        """Skill -> the levels that were grown: all of a new leaf, the opened ones of another."""
        found = {}
        for path, leaf in self.suite.skills.items():
            base = self._run.suite.skills.get(path)
            if base is None:
                found[path] = leaf.levels
            elif leaf.levels[1] > base.levels[1]:
                found[path] = base.levels[1] + 1, leaf.levels[1]
        return found

    @property
    def cells(self) -> list[Cell]:
        """Every grown (skill, level)."""
        return [(path, level) for path, (low, high) in self.levels.items() for level in range(low, high + 1)]

    @property
    def requires(self) -> dict[str, tuple[str, ...]]:
        """Skill -> the skills it builds on: the suite's, and those that a leaf was made of."""
        made = {path: tuple(change.parents) for path, change in new_leaves(self.changes).items()}
        opened = {path: (path,) for path in self.levels if path not in made}
        return self._run.suite.requires | made | opened

    def ready(self) -> Readiness:
        """How far what a skill builds on is mastered; of an opened level, the levels below it."""
        return readiness(self.requires, self._run.through, self.through)

    def mastery(self) -> Mastery:
        """Of the champion with its program, over the whole tree."""
        whole = Mastery({path: leaf.levels for path, leaf in self.suite.skills.items()})
        for each in (self._run.through, self.through):
            for counts in each.table():
                whole.observe(*counts)
        return whole

    def tops(self) -> dict[str, int | None]:
        """Leaf -> how far its levels may be opened: as far as its own generator goes."""
        found: dict[str, int | None] = {}
        new = new_leaves(self.changes)
        for path in self.suite.skills:
            if path in new:
                parent = new[path].parents[0]
                if new[path].change == "compose":
                    found[path] = found.get(parent, self._top(parent))
            else:
                found[path] = self._top(path)
        return {path: top for path, top in found.items() if top is None or top > self.suite[path].levels[1]}

    def _top(self, path: str) -> int | None:
        """A leaf of the suite's highest level, before the run's file bounded it; None where there is none."""
        leaf = self._whole.skills.get(path)
        if path in self._whole.endless or leaf is None:
            return None
        return leaf.levels[1] if leaf.listed is None else self._run.suite[path].levels[1]

    def fits(self, first: str, second: str) -> bool:
        """Whether two leaves make a third that the tree never had."""
        if (first, second) not in self._fits:
            path = composed_path(first, second)
            had = any(leaf.path == path for change in self.changes for leaf in change.leaves)
            self._fits[first, second] = not had and fits(self.suite, self.suite[first], self.suite[second])
        return self._fits[first, second]

    def roll(
        self, *requests: RolloutRequest, suite: Suite | None = None, sealed: bool = False
    ) -> list[Rollouts]:
        """Runs rollouts on what was grown and counts what they took.

        Args:
            requests: what is to be attempted.
            suite: the tree with what is only tried, or what the run never worked on; None for the tree as it is.
            sealed: whether the suite's own graders decide in every arm.
        """
        suite, run = suite or self.suite, self._run
        if self._grader is None or self._grader[0] is not suite:
            self.close()
            self._grader = suite, SealedGrader(suite, run.config.sandbox)
        verbs = _verbs(suite)
        programs = Programs(
            run.host, suite, run.store.genome, lambda program: self._behaviours.beside(program, verbs)[1]
        )
        executor = LocalExecutor(run.policies, programs, run.lessons.recall)
        verdicts = self._grader[1] if sealed or run.arm.verdicts else CoinGrader()
        runner = RolloutRunner(executor, verdicts, suite.secret, run.expect, run.recalls.take)
        found = runner.run(*requests)
        for rollouts in found:
            run.count(rollouts.counts)
        run.note_broken(found)
        return found

    def plans(self, program: str, suite: Suite | None = None) -> str:
        """Content hash of a program's behaviour on what was grown, or on another suite that `roll` was given."""
        return self._behaviours.beside(program, _verbs(suite or self.suite))[0]

    def close(self) -> None:
        """Ends the grader's process; more attempts would start another."""
        if self._grader is not None:
            self._grader[1].close()
        self._grader = None


def _verbs(suite: Suite) -> dict[str, str]:
    return {path: leaf.verb for path, leaf in suite.skills.items()}


def _mastery(table: Iterable[tuple[str, int, float, float]], levels: dict[str, tuple[int, int]]) -> Mastery:
    """What a table says of some levels."""
    made = Mastery(levels)
    for skill, level, wins, tries in table:
        if skill in levels and levels[skill][0] <= level <= levels[skill][1]:
            made.observe(skill, level, wins, tries)
    return made
