"""Two comparisons that a candidate of clients' feedback must pass: other clients' answers, and the skills of the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random

import msgspec

from moevolve.config import Config
from moevolve.gate.betting import GateVerdict, Paired, PairedGate
from moevolve.gate.driver import KnownPairs, Match, RolloutPairs, decide
from moevolve.models.engine import Engine
from moevolve.models.prompts import BarePrompts
from moevolve.protocol.policy import Policy
from moevolve.protocol.sampling import Sampling
from moevolve.protocol.training import Example
from moevolve.randomness import rng
from moevolve.rollouts.executors.local import LocalExecutor
from moevolve.rollouts.grading import SealedGrader
from moevolve.rollouts.runner import RolloutRequest, RolloutRunner, Stage
from moevolve.serve.consensus import ConsensusLabel
from moevolve.serve.deployed import SKILL
from moevolve.tasks.suite import Cell, Suite

ALPHA = 0.05
"""Error rate of everything that can only refuse: the call "worse", and the check on the run's skills."""
BATCH = 8
"""Labels between two looks of the gate."""
CHECKS = 768
"""Tasks of the run's skills on which a candidate must not be worse."""
AGAIN = 256
"""Fresh tasks of each skill that seems to fall beyond the margin: few tell a skill that feedback spoilt from chance."""
LONGEST = 512
"""Tokens from which on a label is too long to train on and to judge by."""


class SkillTasks:
    """Tasks of a run's skills, with the bare policy's likeliest answers.

    Args:
        config: the run's.
        suite: its tasks.
        policies: by weights; more may join.
    """

    def __init__(self, config: Config, suite: Suite, policies: Mapping[str, Policy]) -> None:
        self.config = config
        self.skills = sorted(suite.skills)
        self.runner = RolloutRunner(LocalExecutor(lambda _: policies), SealedGrader(suite))
        self._suite = suite

    def rollouts(
        self, weights: Sequence[str], split: str, count: int, stage: Stage, skills: Sequence[str] = ()
    ) -> list[RolloutRequest]:
        """Each of `weights` on the same tasks: about `count`, as many of each skill (of all, or of `skills`), at levels that
        the run works on."""
        cells = self._cells(split, count, skills or self.skills, rng(*stage))
        tasks = self._suite.sample(split, cells, *stage)
        sampling = Sampling(max_tokens=self.config.policy.max_tokens, temperature=0.0)
        return [
            RolloutRequest(
                variant=each, weights=each, program=None, tasks=tasks, stage=stage, sampling=sampling
            )
            for each in weights
        ]

    def _cells(self, split: str, count: int, skills: Sequence[str], draw: Random) -> list[Cell]:
        """`count` cells, as many of each skill as it has tasks for. Of tasks that are listed each comes once: its likeliest
        answer stays what it is, so that a second look would be no evidence."""
        leaves = [self._suite[path] for path in skills]
        listed = {
            leaf.path: [
                level
                for level in range(leaf.levels[0], leaf.levels[1] + 1)
                for _ in range(leaf.listed.size(split, level))
            ]
            for leaf in leaves
            if leaf.listed is not None
        }
        for levels in listed.values():
            draw.shuffle(levels)
        return [
            (leaf.path, listed[leaf.path].pop() if leaf.path in listed else draw.randint(*leaf.levels))
            for _ in range(max(1, count // len(skills)))
            for leaf in leaves
            if leaf.path not in listed or listed[leaf.path]
        ]

    def fresh(self, skill: str) -> bool:
        """Whether there are tasks of a skill that no look has had."""
        return self._suite[skill].listed is None


def short(labels: Sequence[ConsensusLabel], engine: Engine) -> list[ConsensusLabel]:
    """The labels of fewer than `LONGEST` tokens."""
    return [
        label for label in labels if len(engine.encode(label.prompt + label.answer, whole=False)) < LONGEST
    ]


def by_feedback(ours: Engine, theirs: Engine, judge: Sequence[ConsensusLabel], alpha: float) -> GateVerdict:
    """The candidate `theirs` beside the champion `ours`, by how likely they find what other clients stand for.

    Args:
        ours: the champion.
        theirs: the candidate.
        judge: what is judged by.
        alpha: bound on the probability that a candidate which is no better passes: this decision's share.
    """
    least = max(1, len(judge))
    gate = PairedGate(
        alpha=alpha,
        margin=0.0,
        min_n=min(BATCH, least),
        max_n=least,
        skills=[SKILL],
        skill_alpha=ALPHA,
        worse=ALPHA,
    )
    scores = zip(likelihoods(theirs, judge), likelihoods(ours, judge), strict=True)
    return decide(gate, KnownPairs([Paired(SKILL, new, old) for new, old in scores], BATCH))


def with_skills(
    verdict: GateVerdict, tasks: SkillTasks, candidate: str, champion: str, stage: Stage
) -> tuple[GateVerdict, int]:
    """A promotion as the run's skills see it: taken back if they lose, together or one by itself. Returns it, and the tokens
    drawn.

    A skill that seems to fall beyond the margin is looked at once more, on fresh tasks: the first look chose it. Of one
    whose tasks are listed the first look had them all.

    Args:
        verdict: the feedback's.
        tasks: of the run's skills.
        candidate: its weights.
        champion: its weights.
        stage: where the tasks are drawn from.
    """
    margin = tasks.config.gate.margin
    check, drawn = _compared(tasks, candidate, champion, CHECKS, stage, tasks.skills)
    harmed = list(check.vetoes)
    suspects = [
        path
        for path in tasks.skills
        if check.skills.get(path, 0.0) < -margin and path not in harmed and tasks.fresh(path)
    ]
    if suspects and not harmed:
        again, more = _compared(
            tasks, candidate, champion, AGAIN * len(suspects), (*stage, "again"), suspects
        )
        drawn += more
        harmed += again.vetoes
    reason = f"{verdict.reason}; skills: {check.gain:+.3f} over {check.n} tasks"
    verdict = msgspec.structs.replace(verdict, skills=verdict.skills | check.skills, reason=reason)
    if check.decision == "discard" or harmed or check.gain < -margin:
        verdict = msgspec.structs.replace(
            verdict, decision="archive", vetoes=tuple(harmed), reason=f"{reason}, which is a loss"
        )
    return verdict, drawn


def _compared(
    tasks: SkillTasks, candidate: str, champion: str, count: int, stage: Stage, skills: Sequence[str]
) -> tuple[GateVerdict, int]:
    """The verdict on one batch of tasks of some skills, and the tokens drawn."""

    ours, theirs = tasks.rollouts((candidate, champion), "gate", count, stage, skills)

    def matches(batch: int) -> list[Match] | None:
        return None if batch else [Match(ours, theirs)]

    n = len(ours.tasks)
    gate = PairedGate(
        alpha=ALPHA, margin=tasks.config.gate.margin, min_n=n, max_n=n, skills=skills, worse=ALPHA
    )
    pairs = RolloutPairs(tasks.runner, matches)
    return decide(gate, pairs), pairs.counts.tokens


def likelihoods(engine: Engine, judge: Sequence[ConsensusLabel]) -> list[float]:
    """How likely each answer is, its end included, as the geometric mean of its tokens' probabilities."""
    prompts = BarePrompts(engine)
    rows = []
    for label in judge:
        prompt = prompts.ask(label.prompt)
        rows.append(Example(tokens=prompt + prompts.say(label.answer), start=len(prompt)))
    return [math.exp(math.fsum(each) / len(each)) for each in engine.logprobs(rows)]
