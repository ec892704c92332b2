"""The loop: run, evaluate, learn, evolve, gate, and repeat from a higher baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from moevolve.agents.genome import seed_genome
from moevolve.agents.host import ProgramHost
from moevolve.config import Config
from moevolve.errors import SpendingLimitError
from moevolve.gate.betting import PairedGate
from moevolve.gate.pairing import Pairs
from moevolve.journal.archive import Archive, Variant
from moevolve.learning.buffer import Buffer
from moevolve.learning.distill import distill
from moevolve.learning.reinforce import reinforce
from moevolve.loop import entries
from moevolve.loop import snapshot as snapshots
from moevolve.loop.arms import switches
from moevolve.loop.ledger import Ledger
from moevolve.loop.snapshot import Snapshot
from moevolve.loop.variants import VariantStore
from moevolve.memory.lessons import LessonBook
from moevolve.models.engine import Engine
from moevolve.proposers.search import Proposal, Trial, brief_for, children, report_for
from moevolve.protocol.sampling import Sampling
from moevolve.randomness import key, rng
from moevolve.records import (
    Attempted,
    Chosen,
    CycleFinished,
    CycleStarted,
    Decision,
    Evaluated,
    Guarded,
    Learned,
    Level,
    Recipe,
    Record,
    RunFinished,
    RunStarted,
    SkillInfo,
    Trained,
)
from moevolve.rollouts.attempts import Attempt, Rollouts, answered, tally
from moevolve.rollouts.counting import Usage
from moevolve.rollouts.executors.local import LocalExecutor
from moevolve.rollouts.grading import CoinGrader, Grader, SealedGrader
from moevolve.rollouts.runner import RolloutRequest, RolloutRunner, Stage
from moevolve.rollouts.scoring import mean
from moevolve.selection.parents import DgmParents
from moevolve.skills.curriculum import allocate, by_amplification, by_practice
from moevolve.skills.mastery import Mastery
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task

SEED = "v0000"
FADE = 0.4
"""What is left of older counts after a cycle, or once the program has changed: they describe another variant."""


class Loop:
    """One run. Build it, then `start` or `restore`, then `cycle` as often as wanted, then `finish`.

    Args:
        config: the resolved configuration.
        run: the run's name; two runs of one configuration share it.
        suite: the tasks.
        store: weights and programs.
        host: runs programs.
        lessons: the run's memory.
        ledger: the journal.
        progress: told what is being done, and which share of the cycle is behind.
    """

    def __init__(
        self,
        config: Config,
        run: str,
        suite: Suite,
        store: VariantStore,
        host: ProgramHost,
        lessons: LessonBook,
        ledger: Ledger,
        progress: Callable[[str, float], None],
    ) -> None:
        self.config = config
        self.run = run
        self.suite = suite
        self.store = store
        self.lessons = lessons
        self.ledger = ledger
        self.arm = switches(config)
        self.host = host
        self.sealed = SealedGrader(suite)
        grader = self.sealed if self.arm.verdicts else CoinGrader()
        self.runner = RolloutRunner(LocalExecutor(host, store.policies, store.genome, lessons.recall), grader)
        self.checked = self.vetoed = 0
        self.parents = DgmParents()
        self.state = Snapshot()
        self.archive = Archive()
        self.buffer = Buffer(config.learn.buffer)
        low, high = config.suite.levels
        self.levels = {path: (low, high) for path in sorted(suite.skills)}
        self.cells = [(path, level) for path in self.levels for level in range(low, high + 1)]
        self.direct = Mastery(self.levels)
        self.through = Mastery(self.levels)
        self._progress = progress

    # ------------------------------------------------------------------ beginning and end

    def start(self, weights: str, parameters: int) -> None:
        """Writes the first records and scores the seed on the sealed split."""
        genome = seed_genome()
        program = self.store.hold(genome)
        self.state = Snapshot(champion=SEED, trainee=weights, next_variant=1)
        self._add(Variant(SEED, [], 0, weights, program, "seed", "seed", "as shipped", None, "champion"))
        self.ledger.write(
            [
                RunStarted(
                    run=self.run,
                    seed=self.config.seed,
                    arm=self.config.arm,
                    suite=self.config.suite.name,
                    answers="policy",
                    skills=[
                        SkillInfo(path=path, summary=skill.summary, levels=skill.levels)
                        for path, skill in sorted(self.suite.skills.items())
                    ],
                    config=self.config.canonical(),
                    champion=SEED,
                    weights=weights,
                    program=program,
                    parameters=parameters,
                ),
                entries.variant_added(self.archive[SEED]),
            ]
        )
        self._progress("scoring the seed on the sealed split", 0.0)
        initial = self._evaluate(0, "sealed", "initial")
        self._progress("scoring the seed on the dev split", 0.0)
        self._close([initial, self._evaluate(0, "dev", "initial")])

    def restore(self, state: Snapshot) -> None:
        """Goes back to the end of a finished cycle."""
        self.state = state
        self.archive = Archive()
        for variant in state.variants:
            self.archive.add(variant)
        self.buffer = Buffer(self.config.learn.buffer, state.buffer)
        for mastery, table in ((self.direct, state.direct), (self.through, state.program)):
            for counts in table:
                mastery.observe(*counts)

    def finish(self) -> None:
        """Scores the champion on the same sealed tasks and closes the journal."""
        self._progress("scoring the champion on the sealed split", 1.0)
        self.store.release()
        scored: list[Record] = []
        try:
            scored.append(self._evaluate(self.state.cycle, "sealed", "final"))
        except SpendingLimitError as error:
            self.cut(error)
        self.ledger.write([*scored, RunFinished(cycles=self.state.cycle, champion=self.state.champion)])

    def cut(self, error: SpendingLimitError) -> None:
        """Notes that what was being done ends here, since the spending limit is reached."""
        cycle = self.state.cycle + 1
        self._bill(cycle, "cut short")
        self.ledger.write([Guarded(cycle=cycle, guard="budget", checked=1, vetoed=1, detail=str(error))])

    # ------------------------------------------------------------------ one cycle

    def cycle(self) -> None:
        """One cycle: attempts, then a weights candidate, then program candidates, each through the gate."""
        cycle = self.state.cycle + 1
        self.ledger.write([CycleStarted(cycle=cycle, champion=self.state.champion)])
        self.lessons.open_cycle(cycle)
        self.checked = self.vetoed = 0
        tried = self._learn(cycle) if self.arm.learns else self._practise(cycle, None)[0]
        if self.arm.searches:
            for generation in range(self.config.evolve.generations):
                self._search(cycle, generation, tried)
        self._progress("scoring the champion on the dev split", 0.95)
        dev = self._evaluate(cycle, "dev", "cycle")
        guard = Guarded(
            cycle=cycle,
            guard="provenance",
            checked=self.checked,
            vetoed=self.vetoed,
            detail="answers are put together from the policy's completions",
        )
        self.state.cycle = cycle
        finished = CycleFinished(
            cycle=cycle,
            champion=self.state.champion,
            tokens_generated=self.state.tokens_generated,
            tokens_trained=self.state.tokens_trained,
            lessons=self.state.lessons,
            variants=len(self.archive),
        )
        self._close([dev, guard, finished])

    def _close(self, records: Sequence[Record]) -> None:
        """Writes a cycle's last records together with the snapshot that the next cycle starts from."""
        self.state.cursor = self.ledger.cursor + len(records)
        self.state.buffer = self.buffer.items()
        self.state.direct = self.direct.table()
        self.state.program = self.through.table()
        self.state.variants = list(self.archive)
        self.ledger.write(records, puts=[snapshots.save(self.state)])

    def _practise(self, cycle: int, recipe: Recipe | None) -> tuple[list[Attempt], list[Attempt]]:
        """Attempts on train tasks, by the bare policy and through the program; returns the latest, and the bare ones."""
        config = self.config.attempts
        share = recipe.program_share if recipe else 1.0
        focus = recipe.focus if recipe else 0.0
        variant = self.archive[self.state.champion]
        seen: dict[str, list[Attempt]] = {}

        direct_tasks = round(config.tasks * (1 - share))
        if direct_tasks:
            self._progress("attempts by the bare policy", 0.02)
            weights = by_practice(self.direct, self.through)
            tasks = self._tasks("train", cycle, "direct", weights, direct_tasks, focus)
            stage = (self.config.seed, cycle, "direct")
            [direct] = self._roll(
                RolloutRequest(
                    variant=variant.id,
                    weights=variant.weights,
                    program=None,
                    tasks=tasks,
                    stage=stage,
                    samples=config.samples,
                    sampling=Sampling(
                        max_tokens=self.config.policy.max_tokens, temperature=self.config.policy.temperature
                    ),
                )
            )
            seen["direct"] = direct.attempts
            self._attempted(entries.attempted(cycle, "direct", variant.id, direct.attempts, direct.tokens))
        program_tasks = config.tasks - direct_tasks
        if program_tasks:
            self._progress("attempts through the program", 0.1)
            weights = by_amplification(self.direct, self.through)
            tasks = self._tasks("train", cycle, "program", weights, program_tasks, focus)
            stage = (self.config.seed, cycle, "program")
            [through] = self._roll(self._request(variant, tasks, stage, parts=True))
            if self.arm.learns and self.arm.filters:
                self.buffer.add_parts(through.attempts, through.parts, cycle)
            seen["program"] = through.attempts
            self._attempted(entries.attempted(cycle, "program", variant.id, through.attempts, through.tokens))

        for source, mastery in (("direct", self.direct), ("program", self.through)):
            if source in seen:
                mastery.fade(FADE)
                for t in tally(answered(seen[source])):
                    mastery.observe(t.skill, t.level, t.successes, t.attempts)
        confirmed = 0
        for attempts in seen.values():
            confirmed += self.buffer.add(answered(attempts), cycle, confirmed_only=self.arm.filters)
        latest = answered(seen.get("program") or seen.get("direct") or [])
        lessons = self.lessons.write(
            cycle, variant.id, ((a.task, a.answer, a.verdict.success) for a in latest)
        )
        self.state.lessons += lessons
        self.ledger.write(
            [
                Learned(
                    cycle=cycle,
                    lessons=lessons,
                    confirmed=confirmed,
                    buffer=len(self.buffer),
                    recipe=recipe,
                )
            ]
        )
        return latest, answered(seen.get("direct", []))

    def _learn(self, cycle: int) -> list[Attempt]:
        """Practises, trains a weights candidate on what was confirmed, and puts it before the gate."""
        champion = self.archive[self.state.champion]
        trial_program = self.state.recipe_program
        program = trial_program or champion.program
        recipe = self.host.recipe(
            self.store.genome(program),
            report_for(cycle, self.state.trials, self.direct, self.through),
            key(self.config.seed, cycle, "recipe"),
        )
        recipe = self.config.learn.bounded(recipe)
        tried, drawn = self._practise(cycle, recipe)
        if not len(self.buffer) or not recipe.steps:
            return tried
        engine = self.store.engine(self.state.trainee)

        def report(record: Record) -> None:
            step = getattr(record, "step", 0)
            self._progress(f"training, step {step}/{recipe.steps}", 0.15 + 0.25 * step / recipe.steps)
            self.ledger.write([record])

        self._progress(f"training, {recipe.steps} steps", 0.15)
        tokens, learnt, operator = self._train(engine, champion, drawn, recipe, cycle, report)
        if not tokens:
            return tried
        self.state.tokens_trained += tokens
        weights = self.store.keep(engine)
        del engine  # What it keeps for training is the largest thing in memory, and the gate loads two more.
        summary = f"{recipe.steps} steps at {recipe.learning_rate:g} {learnt}"
        operator = operator if trial_program is None else f"{operator} with a new recipe"
        # Its weights go on from the learner's, and it carries the program whose recipe is tried.
        parents = self._parents(champion, weights=self.state.trainee, program=program)
        child = self._child(parents, cycle, weights, program, "weights", operator, summary)
        self.ledger.write(
            [
                entries.variant_added(child),
                entries.proposed(child, ["learn.py"] if trial_program else [], "weights"),
            ]
        )
        decision, vetoes = self._gate(cycle, "weights", child, 0.4)
        back = decision == "discard" or bool(vetoes)
        self.state.trainee = self.archive[self.state.champion].weights if back else weights
        self.state.recipe_program = None
        return tried

    def _train(
        self,
        engine: Engine,
        champion: Variant,
        drawn: Sequence[Attempt],
        recipe: Recipe,
        cycle: int,
        report: Callable[[Trained], None],
    ) -> tuple[int, str, str]:
        """Trains a copy; returns the tokens, what they were, and what the change is called."""
        learn = self.config.learn
        spread = learn.positions != "plain"
        draw = rng(self.config.seed, cycle, "distill")
        if learn.loss == "sft":
            tokens = distill(
                engine,
                self.buffer,
                recipe,
                cycle,
                draw,
                report,
                prompts=self.store.prompts,
                spread=spread,
                schedule=learn.schedule,
            )
            return tokens, "on confirmed answers", "distill"
        drew = self.store.engine(champion.weights)
        tokens = reinforce(
            engine,
            drawn,
            recipe,
            cycle,
            draw,
            report,
            drew=drew,
            loss=learn.loss,
            clip=learn.clip,
            prompts=self.store.prompts,
            spread=spread,
            schedule=learn.schedule,
        )
        return tokens, f"by {learn.loss} on its own attempts", "reinforce"

    def _search(self, cycle: int, generation: int, tried: Sequence[Attempt]) -> None:
        """Lets a parent's own `improve.py` propose candidates; the best one on train tasks goes to the gate."""
        config = self.config.evolve
        seed = self.config.seed
        done = 0.55 + 0.4 * generation / config.generations
        self._progress(f"proposing programs, generation {generation + 1}/{config.generations}", done)
        parent = self.parents.choose(self.archive, rng(seed, cycle, "parent", generation))
        brief = brief_for(
            cycle,
            self.state.trials,
            self.config,
            self.archive,
            parent,
            self.store.genome(parent.program),
            tried,
            self.direct,
            self.through,
        )
        champion = self.archive[self.state.champion]
        policy = self.store.policies([champion.weights])[champion.weights]
        usage = Usage()
        candidates = self.host.improve(
            self.store.genome(parent.program),
            brief,
            key(seed, cycle, "improve", generation),
            lambda requests: usage.answer(policy, requests),
        )
        self.state.tokens_generated += usage.tokens
        self._bill(cycle, f"improve {generation}")
        known = {variant.program for variant in self.archive}
        proposals = children(self.store.genome(parent.program), candidates, known, self.store.hold)
        born = [
            self._child(
                self._parents(parent, weights=champion.weights),
                cycle,
                champion.weights,
                self.store.hold(proposal.genome),
                "program",
                proposal.operator,
                proposal.summary,
            )
            for proposal in proposals
        ]
        tasks = self._tasks(
            "train", cycle, f"screen/{generation}", dict.fromkeys(self.cells, 1.0), config.screen, 0.0
        )
        stage = (seed, cycle, "screen", generation)
        differing = [
            child for child, proposal in zip(born, proposals, strict=True) if proposal.solves_differently
        ]
        self._progress(f"screening {len(differing)} candidates", done + 0.05 / config.generations)
        baseline, *found = self._roll(
            *(self._request(variant, tasks, stage) for variant in (champion, *differing))
        )
        screened = dict(zip((child.id for child in differing), found, strict=True))
        base = mean(baseline.attempts)
        passed: list[Variant] = []
        for child, proposal in zip(born, proposals, strict=True):
            if child.id in screened:
                child = self._screened(child, proposal, screened[child.id].attempts, base)
                passed += [child] if child.status == "kept" else []
                continue
            # Nothing to measure yet: an edit of improve.py shows in its children, one of learn.py in training.
            child = self.archive.update(child.id, status="kept")
            if "learn.py" in proposal.files and self.state.recipe_program is None:
                self.state.recipe_program = child.program
            self.ledger.write(
                [entries.variant_added(child), entries.proposed(child, proposal.files, "program")]
            )
        self._bill(cycle, f"screen {generation}")
        # Of equals the first.
        best = max(passed, key=lambda variant: variant.score or 0.0, default=None)
        self.ledger.write(
            [
                Chosen(
                    cycle=cycle,
                    chosen=best.id if best else None,
                    not_chosen=[variant.id for variant in passed if variant is not best],
                    unscreened=[child.id for child in born if child.id not in screened],
                    tokens=usage.tokens + sum(rollouts.tokens for rollouts in (baseline, *found)),
                )
            ]
        )
        if best is not None:
            self._gate(cycle, "program", best, done + 0.2 / config.generations)

    def _screened(
        self, child: Variant, proposal: Proposal, attempts: Sequence[Attempt], base: float
    ) -> Variant:
        """Puts a candidate's screening score on record; the candidate is `kept` if it passes."""
        value = mean(attempts)
        passed = value > base + self.config.evolve.margin
        child = self.archive.update(child.id, score=value, status="kept" if passed else "rejected")
        self.ledger.write(
            [
                entries.variant_added(child),
                entries.proposed(child, proposal.files, "program"),
                entries.screened(child, attempts, base, passed=passed),
            ]
        )
        trial = Trial(child.cycle, proposal.operator, proposal.summary, value - base, "screened")
        self.state.trials.append(trial)
        return child

    # ------------------------------------------------------------------ the gate

    def _gate(self, cycle: int, level: Level, candidate: Variant, done: float) -> tuple[Decision, list[str]]:
        """Compares a candidate with the champion on fresh paired tasks and carries the decision out.

        Returns the decision and the skills that vetoed.
        """
        config = self.config.gate
        champion = self.archive[self.state.champion]
        gate = PairedGate(
            alpha=config.alpha,
            margin=config.margin,
            min_n=config.min_n,
            max_n=config.max_n,
            skills=sorted(self.suite.skills),
        )
        pairs = Pairs(sorted(self.suite.skills))
        batch = spent = 0
        while (verdict := gate.verdict).decision is None:
            self._progress(
                f"gate, {level}: {candidate.id} against {champion.id}, {verdict.n} tasks",
                done + 0.1 * min(1.0, verdict.n / config.max_n),
            )
            stage = (self.config.seed, cycle, "gate", candidate.id, batch)
            draw = rng(*stage)
            low, high = self.config.suite.levels
            paths = sorted(self.suite.skills)
            # Whole rounds of skills, so that the gate has seen each equally often whenever it looks.
            rounds = -(-config.batch // len(paths))
            cells = [(path, draw.randint(low, high)) for _ in range(rounds) for path in paths]
            tasks = self.suite.sample("gate", cells, *stage)
            theirs, ours = self._roll(
                self._request(candidate, tasks, stage), self._request(champion, tasks, stage)
            )
            spent += theirs.tokens + ours.tokens
            gate.update(pairs.take(theirs.attempts, ours.attempts))
            if pairs.unanswered >= config.max_n:
                gate.give_up(f"the policy left {pairs.unanswered} paired tasks unanswered")
            batch += 1
        decision = verdict.decision
        self._bill(cycle, f"gate {candidate.id}")
        self.ledger.write(
            [entries.gated(candidate, champion, level, decision, verdict, config.alpha, cycle, spent)]
        )
        status = {"promote": "champion", "archive": "kept", "discard": "rejected"}[decision]
        self.archive.update(candidate.id, status=status)
        if decision == "promote":
            self.archive.update(champion.id, status="kept")
            self.state.champion = candidate.id
            self.store.genome(candidate.program).write(self.ledger.store.path / "program")
            if level == "program":
                # What was counted for the old program says little about the new one.
                self.through.fade(FADE)
        self.state.trials.append(Trial(cycle, candidate.operator, candidate.summary, verdict.gain, decision))
        return decision, list(verdict.vetoes)

    # ------------------------------------------------------------------ small parts

    def _request(
        self,
        variant: Variant,
        tasks: Sequence[Task],
        stage: Stage,
        *,
        parts: bool = False,
        grader: Grader | None = None,
    ) -> RolloutRequest:
        """One attempt through a variant's program on every task."""
        return RolloutRequest(
            variant=variant.id,
            weights=variant.weights,
            program=variant.program,
            tasks=tasks,
            stage=stage,
            parts=parts,
            grader=grader,
        )

    def _roll(self, *requests: RolloutRequest) -> list[Rollouts]:
        """Runs rollouts and adds what they took to the run's and the cycle's counts."""
        found = self.runner.run(*requests)
        for rollouts in found:
            self.state.tokens_generated += rollouts.tokens
            self.checked += rollouts.checked
            self.vetoed += rollouts.vetoed
        return found

    def _tasks(
        self, split: str, cycle: int, stage: str, weights: dict[tuple[str, int], float], n: int, focus: float
    ) -> list[Task]:
        seed = self.config.seed
        cells = allocate(weights, n, focus, rng(seed, cycle, stage, "cells"))
        return self.suite.sample(split, cells, seed, cycle, stage)

    def _evaluate(
        self, cycle: int, split: Literal["sealed", "dev"], when: Literal["initial", "cycle", "final"]
    ) -> Evaluated:
        """Scores the champion: on the sealed tasks, the same before and after, or on fresh dev tasks."""
        each = self.config.suite.sealed_per_cell if split == "sealed" else self.config.suite.dev_per_cell
        cells = [cell for cell in self.cells for _ in range(each)]
        stage = (self.config.seed, 0, "sealed") if split == "sealed" else (self.config.seed, cycle, "dev")
        tasks = self.suite.sample(split, cells, *stage)
        champion = self.archive[self.state.champion]
        [scored] = self._roll(self._request(champion, tasks, stage, grader=self.sealed))
        self._bill(cycle, f"{split} {when}" if split == "sealed" else split)
        return entries.evaluated(cycle, split, when, champion.id, scored.attempts, scored.tokens)

    def _attempted(self, record: Attempted) -> None:
        self.ledger.write([record])
        self._bill(record.cycle, record.stage)

    def _bill(self, cycle: int, stage: str) -> None:
        """Puts what a server charged for a stage on record."""
        bill = self.store.bill(cycle, stage)
        if bill:
            self.ledger.write(bill)

    def _add(self, variant: Variant) -> Variant:
        self.archive.add(variant)
        return variant

    def _parents(self, first: Variant, *, weights: str, program: str | None = None) -> list[str]:
        """`first`, then the variants that weights and program come from where they are not its own."""
        parents = [first.id]
        if weights != first.weights:
            parents.append(next(variant.id for variant in self.archive if variant.weights == weights))
        if program is not None and program != first.program:
            parents.append(next(variant.id for variant in self.archive if variant.program == program))
        return list(dict.fromkeys(parents))

    def _child(
        self,
        parents: list[str],
        cycle: int,
        weights: str,
        program: str,
        level: Level,
        operator: str,
        summary: str,
    ) -> Variant:
        name = f"v{self.state.next_variant:04d}"
        self.state.next_variant += 1
        return self._add(
            Variant(name, parents, cycle, weights, program, level, operator, summary, None, "candidate")
        )
