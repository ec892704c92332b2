"""One evaluation without a run: an agent and the bare policy on a suite's tasks, graded, and nothing learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import msgspec

from moevolve.config import Config
from moevolve.errors import UsageError
from moevolve.journal.store import RunStore
from moevolve.journal.writer import JournalWriter
from moevolve.loop import champion as champions
from moevolve.loop import opening, own_model, resolve, sharing
from moevolve.models.champions import Champions
from moevolve.models.engine import Engine
from moevolve.protocol.sampling import Sampling
from moevolve.records import Answers, Interval, SkillScore
from moevolve.rollouts.attempts import Attempt
from moevolve.rollouts.runner import RolloutRequest
from moevolve.rollouts.scoring import score
from moevolve.tasks.splits import SPLITS

Split = Literal["train", "dev", "gate", "sealed"]


class Measured(msgspec.Struct, frozen=True):
    """Graded attempts of an agent, or of the bare policy, with their score.

    Attributes:
        attempts: one a task.
        score: the mean with its interval.
        skills: the same by skill.
    """

    attempts: list[Attempt]
    score: Interval
    skills: dict[str, SkillScore]


class Evaluation(msgspec.Struct, frozen=True):
    """An agent beside the bare policy, on the same tasks."""

    suite: str
    answers: Answers
    agent: Measured
    bare: Measured
    tokens: int
    """Drawn for both."""


def evaluate(
    config: Config,
    splits: Sequence[Split],
    each: int,
    champion: Path | None = None,
    progress: Callable[[str], None] = lambda what: None,
    seed: int | None = None,
) -> Evaluation:
    """Evaluates what a run with this configuration would begin with.

    Args:
        config: policy, suite and agent.
        splits: whose tasks are attempted.
        each: tasks a (skill, level) and split of a generator; listed tasks all count once.
        champion: a run's folder, whose champion's weights answer and whose champion's program is the agent, unless `config`
            names another; `config` is then as of `champion.configuration`. None for what `config` names.
        progress: told what is being done.
        seed: which tasks of a split, and which samples; None takes the configuration's.

    Raises:
        UsageError: a suite, agent, split or policy that cannot be used.
        DivergedError: the run's graders have changed since it began.
    """
    if unknown := [split for split in splits if split not in SPLITS]:
        raise UsageError(f"there is no split {unknown[0]!r}: {', '.join(SPLITS)}")
    # What a run's champion worked under is settled: another suite's limits are none of its.
    config = resolve.with_files(config, limited=champion is None)
    drawn = config.seed if seed is None else seed
    if champion is not None:
        champions.check(config, champion, splits)
    with ExitStack() as stack:
        scratch = stack.enter_context(TemporaryDirectory(prefix="moevolve-eval-"))
        config = stack.enter_context(own_model.exported(config, Path(scratch) / "run"))
        if champion is not None:
            config = champions.with_program(config, champion, Path(scratch) / "champion")
        config, source = opening.settled(config)
        with opening.closing(source), RunStore.create(Path(scratch) / "run") as store:
            config = resolve.keep_files(config, store.path)
            journal = JournalWriter(store, 0, None, None)
            run, first_weights, _ = opening.opened(config, store, source, journal, lambda what, share: None)
            run.sealed.prove()
            progress("loading the policy")
            if champion is not None and isinstance(source, Engine):
                with RunStore.open(champion) as recorded:
                    following = Champions(recorded, Engine)
                    following.read(source, following.newest())
            weights = first_weights()
            program = run.store.hold(resolve.genome(config, store.path))
            suite = run.suite.opened()
            tasks = [
                task
                for split in splits
                for task in suite.sample(split, suite.spread(split, each), drawn, "eval", split)
            ]
            if champion is None:
                sharing.begin(run)
            else:
                champions.remember(run, champion)
            progress(f"{len(tasks)} tasks, by the agent and by the bare policy")
            sampling = Sampling(max_tokens=config.policy.max_tokens, temperature=0.0)
            common = {"variant": "eval", "weights": weights, "tasks": tasks, "stage": (drawn, "eval")}
            agent = RolloutRequest(**common, program=program, limits=run.host.roles.solver, grader=run.sealed)  # type: ignore[arg-type]
            bare = RolloutRequest(**common, program=None, sampling=sampling, grader=run.sealed)  # type: ignore[arg-type]
            graded = run.roll(agent, bare)
            run.close_processes()
            return Evaluation(
                suite=run.suite.name,
                answers=run.suite.answers,
                agent=_measured(graded[0].attempts),
                bare=_measured(graded[1].attempts),
                tokens=sum(each.counts.tokens for each in graded),
            )


def _measured(attempts: list[Attempt]) -> Measured:
    return Measured(attempts, *score(attempts))
