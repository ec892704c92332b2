"""A small journal of a run that never happened, with everything a report shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from moevolve.records import (
    Arm,
    Attempted,
    CycleFinished,
    CycleStarted,
    Entry,
    Evaluated,
    Gated,
    Guarded,
    Interval,
    Learned,
    Proposed,
    Recipe,
    Record,
    RunFinished,
    RunStarted,
    Screened,
    SkillInfo,
    SkillScore,
    Tally,
    Timing,
    Trained,
    VariantAdded,
)

SKILLS = ("compose/sort_reverse", "number/add", "text/reverse")
PROGRAMS: Mapping[str, Mapping[str, str]] = {
    "seed": {"solve.py": "async def solve(task, agent):\n    return await agent.generate(task.prompt)\n"},
    "vote": {"solve.py": "async def solve(task, agent):\n    return await vote(task.prompt, n=5)\n"},
}
SEED_TOKENS, CYCLE_TOKENS, DIRECT_TOKENS = 1000, 5000, 700


def blob(program: str) -> bytes:
    """A program as the store holds it."""
    return msgspec.msgpack.encode(dict(sorted(PROGRAMS[program].items())))


def evaluated(cycle: int, split: str, when: str, variant: str, mean: float) -> Evaluated:
    return Evaluated(
        cycle=cycle,
        split=split,  # type: ignore[arg-type]
        when=when,  # type: ignore[arg-type]
        variant=variant,
        score=Interval(mean=mean, low=mean - 0.03, high=mean + 0.03, n=1536 if split == "sealed" else 384),
        skills={path: SkillScore(score=mean, n=128, level=int(10 * mean)) for path in SKILLS},
        tokens=SEED_TOKENS,
    )


def variant(
    name: str, parent: str | None, cycle: int, level: str, weights: str, program: str
) -> VariantAdded:
    return VariantAdded(
        variant=name,
        parent=parent,
        cycle=cycle,
        level=level,  # type: ignore[arg-type]
        weights=weights,
        program=program,
        operator={"weights": "distill", "program": "vote", "seed": "seed"}[level],
        summary={"weights": "60 steps", "program": "ask 5 times and vote", "seed": "as shipped"}[level],
        score=0.5 if level == "program" else None,
    )


def proposed(added: VariantAdded) -> Proposed:
    assert added.level != "seed" and added.parent is not None
    return Proposed(
        cycle=added.cycle,
        level=added.level,
        variant=added.variant,
        parent=added.parent,
        operator=added.operator,
        summary=added.summary,
        files=["solve.py"] if added.level == "program" else [],
    )


def gated(cycle: int, level: str, candidate: str, champion: str, decision: str) -> Gated:
    gain = {"promote": 0.06, "archive": 0.01, "discard": -0.04}[decision]
    return Gated(
        cycle=cycle,
        level=level,  # type: ignore[arg-type]
        candidate=candidate,
        champion=champion,
        decision=decision,  # type: ignore[arg-type]
        reason={"promote": "evidence for better", "archive": "no decision", "discard": "worse"}[decision],
        n=480,
        wins=60,
        losses=31,
        gain=gain,
        evidence=5.2 if decision == "promote" else -0.8,
        alpha=0.01,
        skills=dict.fromkeys(SKILLS, gain),
        vetoes=["number/add"] if decision == "archive" else [],
    )


def records(
    *,
    cycles: int = 2,
    seed: int = 11,
    arm: Arm = "full",
    gain: float = 0.12,
    finished: bool = True,
    programs: Sequence[str] = ("program-seed", "program-vote"),
) -> Iterator[Record]:
    """The run's records. Each cycle promotes a weights variant and, in turn, promotes or archives a program.

    Args:
        cycles: how many.
        seed: the run's seed.
        arm: the run's arm.
        gain: score won in each cycle.
        finished: whether the sealed final score and the last record are there.
        programs: hashes of the seed's and of the children's program.
    """
    seed_program, child_program = programs
    yield RunStarted(
        run=f"synthetic-{seed}",
        seed=seed,
        arm=arm,
        suite="primer",
        skills=[SkillInfo(path=path, summary=f"asks for {path}", levels=(1, 16)) for path in SKILLS],
        config="{}",
        champion="v0000",
        weights="weights-0",
        program=seed_program,
        parameters=1_924_736,
    )
    yield variant("v0000", None, 0, "seed", "weights-0", seed_program)
    yield evaluated(0, "sealed", "initial", "v0000", 0.4)
    champion, weights, program, number = "v0000", "weights-0", seed_program, 0
    for cycle in range(1, cycles + 1):
        yield CycleStarted(cycle=cycle, champion=champion)
        yield Attempted(
            cycle=cycle,
            stage="direct",
            variant=champion,
            source="direct",
            tallies=[
                Tally(skill=path, level=3, attempts=40, successes=20, failures={"wrong": 18, "timeout": 2})
                for path in SKILLS
            ],
            tokens=DIRECT_TOKENS,
        )
        yield Learned(cycle=cycle, lessons=30, confirmed=60, buffer=60 * cycle, recipe=Recipe())
        for step in (30, 60):
            yield Trained(
                cycle=cycle,
                step=step,
                steps=60,
                loss=1.5 / cycle - step / 100,
                gradient_norm=1.0,
                learning_rate=1e-3,
                tokens=900,
                expert_load=[[0.5, 0.5]],
            )
        weights = f"weights-{cycle}"
        number += 1
        trained = variant(f"v{number:04}", champion, cycle, "weights", weights, program)
        yield trained
        yield proposed(trained)
        yield gated(cycle, "weights", trained.variant, champion, "promote")
        champion = trained.variant
        number += 1
        made = variant(f"v{number:04}", champion, cycle, "program", weights, child_program)
        yield made
        yield proposed(made)
        yield Screened(cycle=cycle, variant=made.variant, score=0.55, baseline=0.5, n=96, passed=True)
        decision = "promote" if cycle % 2 else "archive"
        yield gated(cycle, "program", made.variant, champion, decision)
        if decision == "promote":
            champion, program = made.variant, child_program
        yield evaluated(cycle, "dev", "cycle", champion, 0.4 + gain * cycle)
        yield Guarded(cycle=cycle, guard="provenance", checked=500, vetoed=cycle % 2, detail="")
        yield CycleFinished(
            cycle=cycle,
            champion=champion,
            tokens_generated=CYCLE_TOKENS * cycle,
            tokens_trained=1800 * cycle,
            lessons=30 * cycle,
            variants=number + 1,
        )
    if finished:
        yield evaluated(cycles, "sealed", "final", champion, 0.4 + gain * cycles)
        yield RunFinished(cycles=cycles, champion=champion)


def entries(found: Iterator[Record] | Sequence[Record]) -> list[Entry]:
    """Records as a reader sees them, two seconds apart."""
    return [
        Entry(seq=seq, record=record, timing=Timing(at=2.0 * seq, took=2.0), hash=f"{seq:064x}")
        for seq, record in enumerate(found)
    ]
