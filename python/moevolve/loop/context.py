"""One run's state and tools, which its stages share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from moevolve.agents.host import ProgramHost
from moevolve.config import Config
from moevolve.gate.finite import pools
from moevolve.guard.budget import RunBudget
from moevolve.guard.guard import GuardMemory
from moevolve.guard.guards import Guards
from moevolve.journal.archive import Archive, Variant
from moevolve.journal.proposers import Accounts
from moevolve.journal.store import RunStore
from moevolve.journal.writer import JournalWriter
from moevolve.learning.buffer import Buffer
from moevolve.loop import entries
from moevolve.loop import snapshot as snapshots
from moevolve.loop.arms import switches
from moevolve.loop.behaviours import Behaviours
from moevolve.loop.control import Control
from moevolve.loop.growing import Growing
from moevolve.loop.recalls import RecallLog
from moevolve.loop.selecting import policy_of
from moevolve.loop.snapshot import Snapshot
from moevolve.loop.tools import RecordedTools
from moevolve.loop.variants import VariantStore
from moevolve.loop.writing import Writers
from moevolve.memory.lessons import LessonMemory
from moevolve.proposers.table import PROPOSERS
from moevolve.protocol.policy import Policy
from moevolve.protocol.sampling import Sampling
from moevolve.randomness import rng
from moevolve.records import Level, Record, VariantAdded
from moevolve.rollouts.attempts import Counts, Rollouts
from moevolve.rollouts.executors.local import LocalExecutor, Programs
from moevolve.rollouts.grading import CoinGrader, Grader, SealedGrader
from moevolve.rollouts.runner import RolloutRequest, RolloutRunner, Stage
from moevolve.rollouts.strangers import StrangersWords
from moevolve.skills.curriculum import allocate
from moevolve.skills.mastery import Mastery
from moevolve.tasks.grader.seal import seal
from moevolve.tasks.grading import BROKEN
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task


class RunContext:
    """One run.

    Args:
        config: the resolved configuration.
        run: the run's name; two runs of one configuration share it.
        suite: the tasks.
        store: weights and programs.
        host: runs programs.
        lessons: the run's memory.
        journal: takes the records.
        control: what a person asks of the run.
        progress: takes what is being done, and which share of the cycle is behind.
        writers: who writes edits beside programs and policy.
        recorded: the run that is done again.
    """

    def __init__(
        self,
        config: Config,
        run: str,
        suite: Suite,
        store: VariantStore,
        host: ProgramHost,
        lessons: LessonMemory,
        journal: JournalWriter,
        control: Control,
        progress: Callable[[str, float], None],
        writers: Writers,
        recorded: RunStore | None = None,
    ) -> None:
        self.recorded = recorded
        self.config = config
        self.run = run
        self.suite = suite
        self.store = store
        self.host = host
        self.lessons = lessons
        self.journal = journal
        self.control = control
        self.progress = progress
        self.arm = switches(config)
        self.sealed = SealedGrader(suite, config.sandbox)
        self.seal = seal(suite)
        self.behaviours = Behaviours(journal.store, store, host, suite)
        programs = Programs(host, suite, store.genome, self.behaviours.of)
        self.budget = RunBudget(config.guard)
        recall = lessons.recall if lessons.on else None
        self.executor = LocalExecutor(self.policies, programs, recall)
        self.recalls = RecallLog()
        """What attempts recalled since the last snapshot."""
        verdicts = self.sealed if self.arm.verdicts else CoinGrader()
        self.runner = RolloutRunner(self.executor, verdicts, suite.secret, self.expect, self.recalls.take)
        self.writers = writers
        self.proposers = [PROPOSERS[name](host, writers.command) for name in config.evolve.proposers]
        self._accounts = Accounts()
        self._accounted = 0
        self.selection = policy_of(config)
        self.skills = sorted(suite.skills)
        levels = {path: skill.levels for path, skill in suite.skills.items()}
        self.cells = suite.cells
        self.direct = Mastery(levels)
        self.through = Mastery(levels)
        self.buffer = Buffer(config.learn.buffer)
        self.archive = Archive()
        self.state = Snapshot()
        self.growing = Growing(self, self.behaviours)
        self.guards = Guards(self)
        self.pausing = False
        """Whether a person wants the run to pause once the cycle has ended."""
        self.counts = Counts()
        """Of the cycle under way."""

    @property
    def champion(self) -> Variant:
        """The variant that the next cycle starts from."""
        return self.archive[self.state.champion]

    @cached_property
    def few_tasks(self) -> dict[str, int]:
        """Skill -> tasks of its gate split, where these are few enough to be spent by a decision."""
        return pools(self.suite)

    @property
    def memory(self) -> GuardMemory:
        """What the run's guards remember."""
        return self.state.guards

    def policies(self, weights: Sequence[str]) -> dict[str, Policy]:
        """The policies with these weights, within the run's budget."""
        return {name: self.budget.policy(policy) for name, policy in self.store.policies(weights).items()}

    def restore(self, state: Snapshot) -> None:
        """Goes back to the end of a finished cycle."""
        self.state = state
        self.budget.restore(state.tokens_generated, state.requests)
        self.budget.keep_back(*state.first_score)
        self.archive = Archive()
        for variant in state.variants:
            self.archive.add(variant)
        self.buffer = Buffer(self.config.learn.buffer, state.buffer)
        # Memory may lack what the cycle wrote, if the run was killed in between.
        self.lessons.write(state.writes)
        self.lessons.open_cycle(state.cycle + 1)
        for mastery, table in ((self.direct, state.direct), (self.through, state.program)):
            for counts in table:
                mastery.observe(*counts)
        self.growing.restore()

    def accounts(self) -> Accounts:
        """What proposers came to so far, by the journal's records up to now."""
        fresh = self.journal.store.entries(self._accounted, self.journal.cursor - self._accounted)
        for entry in fresh:
            self._accounts.take(entry.record)
        self._accounted = self.journal.cursor
        return self._accounts

    def expect(self, session: int, task: Task) -> None:
        """Says which task the attempt of a session is at, for its environment."""
        if isinstance(self.host.tools, RecordedTools):
            self.host.tools.expect(session, task)

    def close_processes(self) -> None:
        """Ends the processes of graders and tools, and connections to a writer's server."""
        self.sealed.close()
        self.growing.close()
        self.writers.close()
        if isinstance(self.host.tools, RecordedTools):
            self.host.tools.close()

    def close(self, records: Sequence[Record]) -> None:
        """Writes a cycle's last records together with the snapshot that the next cycle starts from."""
        self.state.buffer = self.buffer.items()
        self.state.direct = self.direct.table()
        self.state.program = self.through.table()
        self.growing.save()
        self.state.variants = list(self.archive)
        self.state.requests = self.budget.requests
        records = [*self.recalls.records(self.state.cycle), *records]
        self.state.cursor = self.journal.cursor + len(records)
        self.journal.write(records, puts=[snapshots.save(self.state)])
        self.lessons.write(self.state.writes)
        self.lessons.open_cycle(self.state.cycle + 1)
        # What programs said has led to records, and no cycle before this one is done again.
        self.host.transcripts.clear()

    def tasks(
        self,
        split: str,
        cycle: int,
        stage: str,
        count: int,
        weights: dict[tuple[str, int], float] | None = None,
        focus: float = 0.0,
    ) -> list[Task]:
        """`count` tasks, shared out over (skill, level) by `weights`; evenly without."""
        seed = self.config.seed
        even = dict.fromkeys(self.cells, 1.0)
        cells = allocate(weights or even, count, focus, rng(seed, cycle, stage, "cells"))
        return self.suite.sample(split, cells, seed, cycle, stage)

    def rollouts(
        self,
        variant: Variant,
        tasks: Sequence[Task],
        stage: Stage,
        *,
        parts: bool = False,
        twice: bool = False,
        grader: Grader | None = None,
    ) -> RolloutRequest:
        """One attempt through a variant's program on every task."""
        return RolloutRequest(
            variant=variant.id,
            weights=variant.weights,
            program=variant.program,
            tasks=tasks,
            stage=stage,
            limits=self.host.roles.solver,
            parts=parts,
            twice=twice,
            grader=grader,
        )

    def bare(
        self,
        variant: Variant,
        tasks: Sequence[Task],
        stage: Stage,
        *,
        samples: int = 1,
        temperature: float = 0.0,
        grader: Grader | None = None,
    ) -> RolloutRequest:
        """Attempts by a variant's policy without its program: by default its likeliest answer to every task."""
        return RolloutRequest(
            variant=variant.id,
            weights=variant.weights,
            program=None,
            tasks=tasks,
            stage=stage,
            samples=samples,
            sampling=Sampling(max_tokens=self.config.policy.max_tokens, temperature=temperature),
            grader=grader,
        )

    def roll(self, *requests: RolloutRequest) -> list[Rollouts]:
        """Runs rollouts and counts what they took."""
        found = self.runner.run(*requests)
        for rollouts in found:
            self.count(rollouts.counts)
        self.note_broken(found)
        return found

    def note_broken(self, found: Sequence[Rollouts]) -> None:
        """Puts checks of the suite that failed on record."""
        broken = [
            attempt
            for rollouts in found
            for attempt in rollouts.attempts
            if attempt.verdict.failure in BROKEN
        ]
        if broken:
            graded = sum(len(rollouts.attempts) for rollouts in found)
            self.journal.write([entries.checks(self.state.cycle + 1, broken, graded)])

    def joined(self, variant: Variant) -> VariantAdded:
        """The record of a variant that has joined the archive."""
        return entries.variant_added(
            variant, self.behaviours.name(variant.program), self.store.weights_file(variant.weights)
        )

    def attempts(
        self, variants: Sequence[Variant], tasks: Sequence[Task], stage: Stage, grader: Grader | None
    ) -> list[Rollouts]:
        """A guard's: one attempt on every task through each variant's program; see `moevolve.guard.guard.Watched`."""
        requests = [self.rollouts(each, tasks, stage, grader=grader or self.sealed) for each in variants]
        found = self.runner.run(*requests)
        # What a plan makes of a bait is no business of the guard of answers.
        self.count(Counts(tokens=sum(rollouts.counts.tokens for rollouts in found)))
        return found

    def strangers(self, variants: Sequence[Variant], tasks: Sequence[Task], stage: Stage) -> list[Rollouts]:
        """The same attempts as of `attempts`, each with the policy's words for another one."""

        def policies(weights: Sequence[str]) -> dict[str, Policy]:
            return {name: StrangersWords(policy) for name, policy in self.policies(weights).items()}

        executor = LocalExecutor(policies, self.executor.programs, self.executor.recall, together=True)
        runner = RolloutRunner(executor, self.sealed, self.suite.secret, self.expect, self.recalls.take)
        found = runner.run(*[self.rollouts(each, tasks, stage, grader=self.sealed) for each in variants])
        self.count(Counts(tokens=sum(rollouts.counts.tokens for rollouts in found)))
        return found

    def count(self, counts: Counts) -> None:
        """Adds what a stage took to the cycle's and the run's counts."""
        self.counts += counts
        self.state.tokens_generated += counts.tokens

    def bill(self, cycle: int, stage: str) -> None:
        """Puts what a server charged for a stage on record."""
        if bill := self.store.bill(cycle, stage):
            self.journal.write(bill)

    def child(
        self,
        parent: Variant,
        cycle: int,
        weights: str,
        program: str,
        level: Level,
        operator: str,
        summary: str,
        step: int | None = None,
        author: Variant | None = None,
        other: str = "",
    ) -> Variant:
        """Adds a candidate to the archive.

        Args:
            parent: the variant whose half was changed.
            cycle: the cycle under way.
            weights: the candidate's.
            program: the candidate's.
            level: which of the two is new.
            operator: what made the change.
            summary: the change in words.
            step: the step of selection that chose the parent, where one did.
            author: the variant whose way of improving it has, where that is not the parent's.
            other: the variant that its program takes from beside the parent's, where it is a crossover.
        """
        name = f"v{self.state.next_variant:04d}"
        self.state.next_variant += 1
        # What is new comes from the parent or, for weights, from the learner's; the other half may be another variant's.
        halves = [("weights", self.state.learner if level == "weights" else weights)]
        halves += [("program", program)] if level == "weights" else []
        parents = [parent.id, *([author.id] if author is not None else []), *([other] if other else [])]
        for half, value in halves:
            if value != getattr(parent, half):
                parents.append(next(v.id for v in self.archive if getattr(v, half) == value))
        return self.archive.add(
            Variant(
                name,
                list(dict.fromkeys(parents)),
                cycle,
                weights,
                program,
                level,
                operator,
                summary,
                None,
                "candidate",
                step,
            )
        )
