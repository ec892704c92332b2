"""One learning cycle of a server, in a process of its own: `python -m moevolve.serve.learner FOLDER`.

Reads the server's run, trains a copy of the champion on what some clients stand for, and puts it before two gates: what
other clients stand for, and the skills of the run that is served. Writes weights and lessons, and tells its records on
stdout, one a line; the server, which holds the journal, puts them on file.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from moevolve.config import Config
from moevolve.errors import MoevolveError, UsageError
from moevolve.gate.betting import GateVerdict, PairedGate
from moevolve.journal.store import MemoryStore, RunStore
from moevolve.learning.buffer import Buffer, Confirmed
from moevolve.learning.distill import distill
from moevolve.loop import model
from moevolve.models.engine import Engine
from moevolve.models.engine_policy import EnginePolicy
from moevolve.models.prompts import BarePrompts
from moevolve.protocol.requests import GenerateRequest
from moevolve.protocol.sampling import Sampling
from moevolve.protocol.training import Example
from moevolve.randomness import key, rng
from moevolve.records import (
    CycleFinished,
    CycleStarted,
    Gated,
    Learned,
    Lesson,
    Proposed,
    Recipe,
    Record,
    RunStarted,
    Trained,
    VariantAdded,
)
from moevolve.serve.champions import Champions
from moevolve.serve.claims import Claim, Parts, claims, parted
from moevolve.serve.deployed import SKILL
from moevolve.serve.interactions import Interactions
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task

LEAST = 8
"""Claims to train on, and claims to judge by, below which there is nothing to learn yet."""
ALPHA = 0.05
"""Bound on the probability that a candidate that is no better passes the feedback's gate."""
CHECKS = 192
"""Tasks of the run's skills on which a candidate must not be worse."""
REHEARSED = 480
"""Tasks of the run's skills that the champion answers once more, so that learning does not cost it what it can do."""
LONGEST = 512
"""Tokens of an example; longer ones are left out."""

FULL = Recipe(learning_rate=1e-3, steps=60, batch=64, recent=0.5)
ADAPTER = Recipe(learning_rate=5e-4, steps=40, batch=4, recent=1.0)
"""Recipes of a model that trains as a whole, and of one that trains an adapter."""

NOTHING = 4
"""Exit code where there is not enough feedback yet."""

Tell = Callable[[Record], None]


class NotEnough(UsageError):
    """Too little feedback, or too few clients."""

    exit_code = NOTHING


def learn(folder: Path, threads: int, tell: Tell) -> None:
    """Does one cycle.

    Args:
        folder: the server's run, whose journal another process holds.
        threads: of the engines.
        tell: takes the records in order.

    Raises:
        NotEnough: there is nothing to learn from.
    """
    with RunStore.open(folder) as store:
        records = [entry.record for entry in store.entries()]
        first = records[0]
        assert isinstance(first, RunStarted), "a run begins with this record"
        cycle = 1 + sum(isinstance(record, CycleStarted) for record in records)
        variants = sum(isinstance(record, VariantAdded) for record in records)
        past = next((record for record in reversed(records) if isinstance(record, CycleFinished)), None)
        champions = Champions(store)
        champion = champions.newest()
        kept = Interactions(store)
        parts = parted(claims(kept.all(), kept.feedback()), first.seed, cycle)
        _enough(parts)
        base = champions.base(threads)
        ours = champions.engine(base, champion)
        theirs = champions.engine(base, champion)
        tell(CycleStarted(cycle=cycle, champion=champion.variant))
        lessons = _lessons(folder, parts.train, first.run, cycle, champion.variant)
        recipe = FULL if theirs.adapter is None else ADAPTER
        tasks = model.tasks(champions.config) if first.suite else None
        known: list[Confirmed] = []
        rehearsed = 0
        if tasks:
            known, rehearsed = _rehearsal(ours, tasks, champions.config, (first.seed, cycle))
        buffer = _buffer(parts.train, known, theirs, cycle)
        tell(
            Learned(
                cycle=cycle,
                lessons=lessons,
                confirmed=len(parts.train),
                buffer=len(buffer),
                recipe=recipe,
                tokens=rehearsed,
            )
        )
        tokens = 0

        def report(record: Trained) -> None:
            nonlocal tokens
            tokens += record.tokens
            tell(record)

        distill(
            theirs,
            buffer,
            recipe,
            cycle,
            rng(first.seed, cycle, "deployed"),
            report,
            prompts=BarePrompts(theirs),
            spread=champions.config.learn.positions == "spread",
        )
        weights = theirs.weights_hash
        theirs.write_weights(store.weights_dir / f"{weights}.safetensors")
        name = f"v{variants:04d}"
        summary = f"{len(parts.train)} answers that {len(parts.trainers)} clients stand for"
        tell(
            VariantAdded(
                variant=name,
                parents=[champion.variant],
                cycle=cycle,
                level="weights",
                weights=weights,
                program="",
                operator="feedback",
                summary=summary,
                score=None,
            )
        )
        tell(
            Proposed(
                cycle=cycle,
                level="weights",
                variant=name,
                parent=champion.variant,
                operator="feedback",
                summary=summary,
                files=[],
            )
        )
        gated = _gate(ours, theirs, parts, tasks, champions, (first.seed, cycle), name, champion.variant)
        tell(gated)
        tell(
            CycleFinished(
                cycle=cycle,
                champion=name if gated.decision == "promote" else champion.variant,
                tokens_generated=(past.tokens_generated if past else 0) + rehearsed + (gated.tokens or 0),
                tokens_trained=(past.tokens_trained if past else 0) + tokens,
                lessons=(past.lessons if past else 0) + lessons,
                variants=variants + 1,
            )
        )


def _enough(parts: Parts) -> None:
    if len(parts.train) < LEAST or len(parts.judge) < LEAST:
        raise NotEnough(
            f"{len(parts.train)} answers of {len(parts.trainers)} clients to learn from and {len(parts.judge)} of "
            f"{len(parts.judges)} others to judge by: at least {LEAST} each are needed, from two clients or more"
        )


def _lessons(folder: Path, train: Iterable[Claim], run: str, cycle: int, variant: str) -> int:
    lessons = [
        Lesson(
            id=lesson_id(claim.sources[0]),
            skill=SKILL,
            level=1,
            text=f"{claim.prompt}{claim.answer}",
            prompt=claim.prompt,
            answer=claim.answer,
            success=True,
            run=run,
            cycle=cycle,
            variant=variant,
        )
        for claim in train
    ]
    with MemoryStore(memory_of(folder)) as memory:
        memory.put(lessons)
    return len(lessons)


def memory_of(folder: Path) -> Path:
    """Where the lessons of the server's run lie: its own, so that they can be erased."""
    return folder.parent / "memory"


def lesson_id(interaction: str) -> str:
    """The lesson that an interaction becomes."""
    return hashlib.blake2b(f"deployed/{interaction}".encode(), digest_size=12).hexdigest()


def _rehearsal(
    engine: Engine, tasks: Suite, config: Config, stage: tuple[int, int]
) -> tuple[list[Confirmed], int]:
    """The champion's own answers to train tasks of the run's skills that the grader confirms, and the tokens drawn."""
    drawn = _drawn(tasks, config, "train", REHEARSED, (*stage, "deployed rehearsal"))
    answers, tokens = _answers(engine, drawn, config, (*stage, "deployed rehearsal"))
    prompts = model.prompts(config, engine)
    return [
        Confirmed(
            engine.decode(prompts.ask(task.prompt), special=True),
            engine.decode(prompts.say(answer)[:-1], special=True),
            task.skill,
            task.level,
            0,
        )
        for task, answer in zip(drawn, answers, strict=True)
        if answer and tasks.grade(task, answer).success
    ], tokens


def _buffer(train: Sequence[Claim], known: Sequence[Confirmed], engine: Engine, cycle: int) -> Buffer:
    """What is trained on: the claims, and what must not be forgotten."""
    items = [Confirmed(claim.prompt, claim.answer, SKILL, 1, cycle) for claim in train]
    fitting = [item for item in items if len(engine.encode(item.prompt + item.answer, whole=False)) < LONGEST]
    return Buffer(len(known) + len(fitting) + 1, [*known, *fitting])


def _gate(
    ours: Engine,
    theirs: Engine,
    parts: Parts,
    tasks: Suite | None,
    champions: Champions,
    stage: tuple[int, int],
    candidate: str,
    champion: str,
) -> Gated:
    """Both gates' decision as one record; the second is asked only if the first says yes."""
    judge = [c for c in parts.judge if len(ours.encode(c.prompt + c.answer, whole=False)) < LONGEST]
    gate = PairedGate(
        alpha=ALPHA,
        margin=0.0,
        min_n=max(1, min(LEAST, len(judge))),
        max_n=max(1, len(judge)),
        skills=[SKILL],
    )
    before, after = likelihoods(ours, judge), likelihoods(theirs, judge)
    for start in range(0, len(judge), LEAST):
        if gate.verdict.decision is not None:
            break
        pairs = zip(after[start : start + LEAST], before[start : start + LEAST], strict=True)
        gate.update([(SKILL, new, old) for new, old in pairs])
    verdict = gate.verdict if gate.verdict.decision else gate.give_up(f"no proof in {len(judge)} answers")
    decision, reason = verdict.decision, f"feedback of {len(parts.judges)} other clients: {verdict.reason}"
    skills, vetoes = dict(verdict.skills), list(verdict.vetoes)
    tokens = 0
    if decision == "promote" and tasks is not None:
        check, tokens = _check(ours, theirs, tasks, champions, (*stage, "deployed check"))
        skills |= check.skills
        reason += f"; skills: {check.gain:+.3f} over {check.n} tasks"
        if check.decision == "discard" or check.vetoes or check.gain < -champions.config.gate.margin:
            decision, vetoes = "archive", list(check.vetoes)
            reason += ", which is a loss"
    assert decision is not None, "the gate has decided or given up"
    return Gated(
        cycle=stage[1],
        level="weights",
        candidate=candidate,
        champion=champion,
        decision=decision,
        reason=reason,
        n=verdict.n,
        wins=verdict.wins,
        losses=verdict.losses,
        gain=verdict.gain,
        evidence=verdict.evidence,
        alpha=ALPHA,
        skills=skills,
        vetoes=vetoes,
        tokens=tokens,
    )


def likelihoods(engine: Engine, judge: Sequence[Claim]) -> list[float]:
    """How likely each answer is, its end included, as the geometric mean of its tokens' probabilities."""
    prompts = BarePrompts(engine)
    rows = []
    for claim in judge:
        prompt = prompts.ask(claim.prompt)
        rows.append(Example(tokens=prompt + prompts.say(claim.answer), start=len(prompt)))
    return [math.exp(math.fsum(each) / len(each)) for each in engine.logprobs(rows)]


def _check(
    ours: Engine, theirs: Engine, tasks: Suite, champions: Champions, stage: tuple[int | str, ...]
) -> tuple[GateVerdict, int]:
    """The run's skills on fresh tasks of its gate split, candidate beside champion, one answer each without a program.

    Returns the verdict and the tokens drawn.
    """
    config = champions.config
    drawn = _drawn(tasks, config, "gate", CHECKS, stage)
    answered = [_answers(engine, drawn, config, stage) for engine in (theirs, ours)]
    scores = [
        [tasks.grade(task, answer).score for task, answer in zip(drawn, answers, strict=True)]
        for answers, _ in answered
    ]
    gate = PairedGate(
        alpha=ALPHA,
        margin=config.gate.margin,
        min_n=len(drawn),
        max_n=len(drawn),
        skills=sorted(tasks.skills),
    )
    gate.update([(task.skill, new, old) for task, new, old in zip(drawn, *scores, strict=True)])
    return gate.verdict, sum(tokens for _, tokens in answered)


def _drawn(tasks: Suite, config: Config, split: str, count: int, stage: tuple[int | str, ...]) -> list[Task]:
    """About `count` tasks, as many of each skill, at levels that the run works on."""
    paths = sorted(tasks.skills)
    low, high = config.suite.levels
    draw = rng(*stage)
    cells = [(path, draw.randint(low, high)) for _ in range(max(1, count // len(paths))) for path in paths]
    return tasks.sample(split, cells, *stage)


def _answers(
    engine: Engine, drawn: Sequence[Task], config: Config, stage: tuple[int | str, ...]
) -> tuple[list[str], int]:
    """The bare policy's likeliest answers, and the tokens drawn."""
    requests = [
        GenerateRequest(
            attempt=place,
            prompt=task.prompt,
            sampling=Sampling(max_tokens=config.policy.max_tokens, temperature=0.0),
            n=1,
            key=key(*stage, place),
        )
        for place, task in enumerate(drawn)
    ]
    policy = EnginePolicy(engine, "", model.prompts(config, engine))
    return [reply[0].text for reply in policy.answer(requests)], policy.generated


def main() -> int:
    """Runs one cycle and tells its records on stdout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    os.nice(10)

    def tell(record: Record) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(record) + b"\n")
        sys.stdout.buffer.flush()

    try:
        learn(options.folder, options.threads, tell)
    except MoevolveError as error:
        print(str(error), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
