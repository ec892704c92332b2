"""One learning cycle of a server, in a process of its own: `python -m moevolve.serve.learner FOLDER`.

Reads the server's run, trains a copy of the champion on what some clients stand for, and puts it before two gates: what
other clients stand for, and the skills of the run that is served. Writes weights and lessons, and tells its records on
stdout, one a line; the server, which holds the journal, puts them on file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from moevolve.errors import MoevolveError, UsageError
from moevolve.gate.spending import AlphaSpending
from moevolve.journal.archive import Variant
from moevolve.journal.lessons import MemoryStore, memory_folder
from moevolve.journal.store import RunStore
from moevolve.learning.buffer import Buffer, Confirmed
from moevolve.learning.distill import distill
from moevolve.loop import entries, resolve
from moevolve.models.asking import asked_tokens
from moevolve.models.champions import Champion, Champions
from moevolve.models.engine import Engine
from moevolve.models.engine_policy import EnginePolicy
from moevolve.models.prompts import BarePrompts
from moevolve.protocol.policy import Policy
from moevolve.randomness import rng
from moevolve.records import (
    PASSED,
    CycleFinished,
    CycleStarted,
    Gated,
    Learned,
    Lesson,
    Recipe,
    Record,
)
from moevolve.rollouts.runner import Stage
from moevolve.serve.consensus import ConsensusLabel, TrainJudgeSplit, consensus_labels, train_judge_split
from moevolve.serve.deployed import SKILL
from moevolve.serve.interactions import Interactions
from moevolve.serve.judging import LONGEST, SkillTasks, by_feedback, short, with_skills

LEAST = 8
"""Labels to train on, and labels to judge by, below which there is nothing to learn yet."""
REHEARSED = 1536
"""Tasks of the run's skills that the champion answers once more, so that learning does not cost it what it can do: with a
third of them, and half of a batch, skills that were mastered lost .06 to .09."""

FULL = Recipe(learning_rate=6e-4, steps=60, batch=64, recent=0.35)
ADAPTER = Recipe(learning_rate=5e-4, steps=40, batch=4, recent=1.0)
"""Recipes of a model that trains as a whole, and of one that trains an adapter; where there is something to rehearse, an
adapter's labels have the share that they have of the other."""

EVENNESS = 1
"""Half of a server's error budget is for its first decision without a promotion: clients' labels are few."""

NOTHING = 4
"""Exit code where there is not enough feedback yet."""

Tell = Callable[[Record], None]


class NotEnough(UsageError):
    """Too little feedback, or too few clients."""

    exit_code = NOTHING


def learn(folder: Path, threads: int, tell: Tell, device: str = "cpu") -> None:
    """Does one cycle.

    Args:
        folder: the server's run, whose journal another process holds.
        threads: of the engines.
        tell: takes the records in order.
        device: of the engines.

    Raises:
        NotEnough: there is nothing to learn from.
    """
    with RunStore.open(folder) as store:
        champions = Champions(store, Engine)
        first, past = champions.started, champions.view
        cycle = 1 + past.cycles_started
        variants = len(past.variants)
        champion = champions.newest()
        kept = Interactions(store)
        labels = consensus_labels(kept.all(), kept.feedback())
        _any_use(labels)
        # The run's suite may be a user's own: its copy lies in the run's folder.
        config = resolve.with_files(champions.config, folder.parent) if first.suite else champions.config
        base = champions.base(threads, device)
        fitting = short(labels, base)
        split = train_judge_split(fitting, first.seed, cycle)
        _enough(split, len(labels) - len(fitting))
        ours = champions.engine(base, champion)
        theirs = champions.engine(base, champion)
        tell(CycleStarted(cycle=cycle, champion=champion.variant))
        lessons = _lessons(folder, split.train, first.run, cycle, champion.variant)
        recipe = FULL if theirs.adapter is None else ADAPTER
        policies: dict[str, Policy] = {}
        tasks = None
        if first.suite:
            prompts = resolve.prompts(config, base)
            policies[champion.weights] = EnginePolicy(ours, champion.weights, prompts)
            tasks = SkillTasks(config, resolve.suite(config), policies)
        stage = (first.seed, cycle)
        known, rehearsed = _rehearsal(ours, tasks, champion, stage) if tasks else ([], 0)
        if known:
            recipe = msgspec.structs.replace(recipe, recent=FULL.recent)
        buffer = _buffer(split.train, known, cycle)
        tell(
            Learned(
                cycle=cycle,
                lessons=lessons,
                confirmed=len(split.train),
                buffer=len(buffer),
                recipe=recipe,
                tokens=rehearsed,
            )
        )
        trained = distill(
            theirs,
            buffer,
            recipe,
            cycle,
            rng(*stage, "deployed"),
            tell,
            prompts=BarePrompts(theirs),
            spread=config.learn.positions == "spread",
        )
        weights = theirs.weights_hash
        file = theirs.write_weights(store.weights_dir / f"{weights}.safetensors")
        summary = f"{len(split.train)} answers that {len(split.trainers)} clients stand for"
        name, parents = f"v{variants:04d}", [champion.variant]
        child = Variant(name, parents, cycle, weights, "", "weights", "feedback", summary, None, "candidate")
        tell(entries.variant_added(child, weights_file=file))
        tell(entries.proposed(child, [], "weights"))
        spending = spending_of(store, config.gate.alpha)
        verdict = by_feedback(ours, theirs, split.judge, spending.level)
        reason = f"feedback of {len(split.judges)} other clients: {verdict.reason}"
        verdict, drawn = msgspec.structs.replace(verdict, reason=reason), 0
        if verdict.decision == "promote" and tasks:
            policies[weights] = EnginePolicy(theirs, weights, prompts)
            verdict, drawn = with_skills(
                verdict, tasks, weights, champion.weights, (*stage, "deployed check")
            )
        tell(
            entries.gated(child, champion.variant, "weights", verdict, spending.level, cycle, drawn, spending)
        )
        tell(
            CycleFinished(
                cycle=cycle,
                champion=name if verdict.decision == "promote" else champion.variant,
                tokens_generated=past.generated + rehearsed + drawn,
                tokens_trained=past.trained + trained,
                lessons=past.lessons + lessons,
                variants=variants + 1,
            )
        )


def spending_of(store: RunStore, alpha: float) -> AlphaSpending:
    """The error budget of a server's whole life, from the decisions in its journal: it outlives every restart."""
    decided = [
        record.decision for _, record, _ in store.records() if isinstance(record, Gated) and record.rule
    ]
    promotions = sum(decision in PASSED for decision in decided)
    return AlphaSpending(alpha=alpha, decisions=len(decided), promotions=promotions, evenness=EVENNESS)


def _any_use(labels: Sequence[ConsensusLabel]) -> None:
    """Refuses what is too little however it is divided, before a model is loaded for it."""
    clients = {name for label in labels for name in label.supporters}
    if len(labels) < 2 * LEAST or len(clients) < 2:
        raise NotEnough(
            f"{len(labels)} answers that {len(clients)} clients stand for: at least {2 * LEAST} are needed, from two "
            f"clients or more"
        )


def _enough(split: TrainJudgeSplit, long: int) -> None:
    if len(split.train) < LEAST or len(split.judge) < LEAST:
        left_out = f"; {long} of {LONGEST} tokens or more are left out" if long else ""
        raise NotEnough(
            f"{len(split.train)} answers of {len(split.trainers)} clients to learn from and {len(split.judge)} of "
            f"{len(split.judges)} others to judge by: at least {LEAST} each are needed, from two clients or more{left_out}"
        )


def _lessons(folder: Path, train: Iterable[ConsensusLabel], run: str, cycle: int, variant: str) -> int:
    lessons = [
        Lesson(
            id=lesson_id(label.sources[0]),
            skill=SKILL,
            level=1,
            text=f"{label.prompt}{label.answer}",
            prompt=label.prompt,
            answer=label.answer,
            success=True,
            run=run,
            cycle=cycle,
            variant=variant,
        )
        for label in train
    ]
    with MemoryStore(memory_folder(folder)) as memory:
        memory.put(lessons)
    return len(lessons)


def lesson_id(interaction: str) -> str:
    """The lesson that an interaction becomes."""
    return hashlib.blake2b(f"deployed/{interaction}".encode(), digest_size=12).hexdigest()


def _rehearsal(
    engine: Engine, tasks: SkillTasks, champion: Champion, stage: Stage
) -> tuple[list[Confirmed], int]:
    """The champion's own answers to train tasks of the run's skills that the grader confirms, and the tokens drawn."""
    [rollouts] = tasks.runner.run(
        *tasks.rollouts([champion.weights], "train", REHEARSED, (*stage, "deployed rehearsal"))
    )
    prompts = resolve.prompts(tasks.config, engine)
    return [
        Confirmed(
            engine.decode(
                asked_tokens(engine, prompts, attempt.task.question, (), worded=True), special=True
            ),
            engine.decode(prompts.say(attempt.answer)[:-1], special=True),
            attempt.task.skill,
            attempt.task.level,
            0,
            name=attempt.task.identity,
        )
        for attempt in rollouts.attempts
        if attempt.answer and attempt.verdict.success
    ], rollouts.counts.tokens


def _buffer(train: Sequence[ConsensusLabel], known: Sequence[Confirmed], cycle: int) -> Buffer:
    """What is trained on: the labels, and what must not be forgotten."""
    items = [Confirmed(label.prompt, label.answer, SKILL, 1, cycle) for label in train]
    return Buffer(len(known) + len(items) + 1, [*known, *items])


def main() -> int:
    """Runs one cycle and tells its records on stdout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    os.nice(10)

    def tell(record: Record) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(record) + b"\n")
        sys.stdout.buffer.flush()

    try:
        learn(options.folder, options.threads, tell, options.device)
    except MoevolveError as error:
        print(str(error), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
