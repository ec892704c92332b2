"""The journal of a run that never happened: eight cycles with the shape of a real one, the same every time.

As a script it is a writer process: `python synthetic_run.py DIR` creates a run, writes it up to the middle of
cycle 3, and then one more record for every line it reads on standard input.
"""

import math
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

import msgspec
from memory_run import MemoryRun

from moevolve.journal import samples
from moevolve.records import (
    Attempted,
    Chosen,
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
    Sample,
    Sandbox,
    Screened,
    SkillInfo,
    SkillScore,
    State,
    Tally,
    Timing,
    Trained,
    VariantAdded,
)

CYCLES = 8
LEAVES = {
    "compose/caesar_reverse": (0.18, 0.055),
    "compose/dedupe_reverse": (0.25, 0.04),
    "compose/sort_reverse": (0.31, 0.03),
    "number/add": (0.30, -0.008),
    "number/compare": (0.70, 0.02),
    "number/count": (0.58, 0.015),
    "number/parity": (0.61, 0.012),
    "number/subtract": (0.28, 0.0),
    "text/caesar": (0.52, 0.055),
    "text/dedupe": (0.55, 0.03),
    "text/reverse": (0.50, 0.06),
    "text/sort": (0.54, 0.03),
}
OPERATORS = [
    "sample and vote, n=5",
    "split in chunks of 4, join reversed",
    "retry at temperature .8",
    "recall 3 lessons",
]


def leaf_score(path: str, progress: float) -> float:
    start, slope = LEAVES[path]
    return min(1.0, start + slope * progress)


def evaluated(cycle: int, split: str, when: str, variant: str) -> Evaluated:
    scores = {path: leaf_score(path, cycle) for path in LEAVES}
    mean = sum(scores.values()) / len(scores) + (0.012 * math.sin(3 * cycle) if split == "dev" else 0.0)
    half = 0.02 if split == "sealed" else 0.035
    return Evaluated(
        cycle=cycle,
        split=split,  # type: ignore[arg-type]
        when=when,  # type: ignore[arg-type]
        variant=variant,
        score=Interval(mean=mean, low=mean - half, high=mean + half, n=1536 if split == "sealed" else 480),
        skills={path: SkillScore(score=value, n=128) for path, value in scores.items()},
        tokens=20_000,
        tallies=[
            Tally(skill=path, level=level, attempts=8, successes=8 * (level <= int(value * 12)))
            for path, value in scores.items()
            for level in range(1, 17)
        ],
    )


def gated(cycle: int, level: str, candidate: str, champion: str, decision: str, gain: float) -> Gated:
    reasons = {
        "promote": "evidence reached 1/alpha",
        "archive": "no decision in 640 tasks",
        "discard": "worse",
    }
    return Gated(
        cycle=cycle,
        level=level,  # type: ignore[arg-type]
        candidate=candidate,
        champion=champion,
        decision=decision,  # type: ignore[arg-type]
        reason=reasons[decision],
        n=420 if decision == "promote" else 640,
        wins=90 if gain > 0 else 41,
        losses=48 if gain > 0 else 62,
        gain=gain,
        evidence=3.4 if decision == "promote" else -0.4,
        alpha=0.05,
        skills={path: gain for path in LEAVES},
        tokens=9_000,
        vetoes=["number/add"] if decision == "archive" else [],
    )


def records() -> Iterator[Record]:
    """Every record of the run, in order."""
    yield RunStarted(
        run="first",
        seed=11,
        arm="full",
        suite="primer",
        answers="policy",
        skills=[SkillInfo(path=path, summary=path, levels=(1, 16)) for path in LEAVES],
        config='{"cycles": 8, "seed": 11}',
        champion="v0000",
        weights="w0",
        program="p0",
        parameters=1_924_736,
    )
    yield VariantAdded(
        variant="v0000",
        parents=[],
        cycle=0,
        level="seed",
        weights="w0",
        program="p0",
        operator="",
        summary="",
        score=None,
    )
    yield evaluated(0, "sealed", "initial", "v0000")
    yield evaluated(0, "dev", "initial", "v0000")
    champion, number = "v0000", 0
    for cycle in range(1, CYCLES + 1):
        yield CycleStarted(cycle=cycle, champion=champion)
        yield Attempted(
            cycle=cycle,
            stage="practice",
            variant=champion,
            source="program" if cycle % 2 else "direct",
            tallies=[
                Tally(
                    skill=path,
                    level=4,
                    attempts=80,
                    successes=round(80 * leaf_score(path, cycle)),
                    failures={"wrong": 20, "malformed": 1, "timeout": int(path == "number/add")},
                )
                for path in LEAVES
            ],
            tokens=40_000,
        )
        yield Learned(cycle=cycle, lessons=120, confirmed=300 + cycle, buffer=300 * cycle, recipe=Recipe())
        for step in (20, 40, 60):
            yield Trained(
                cycle=cycle,
                step=step,
                steps=60,
                loss=0.9 / cycle + 0.01 * (60 - step) / 10,
                gradient_norm=1.2,
                learning_rate=1e-3,
                tokens=30_000,
                expert_load=[[0.125] * 7 + [0.0], [0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]],
            )
        for level in ("weights", "program"):
            number += 1
            name = f"v{number:04}"
            what = "distil 60 steps" if level == "weights" else OPERATORS[cycle % len(OPERATORS)]
            yield VariantAdded(
                variant=name,
                parents=[champion],
                cycle=cycle,
                level=level,  # type: ignore[arg-type]
                weights=f"w{number}",
                program=f"p{number}",
                operator="distil" if level == "weights" else what.split(" ")[0],
                summary=what,
                score=None,
            )
            yield Proposed(
                cycle=cycle,
                level=level,  # type: ignore[arg-type]
                variant=name,
                parent=champion,
                operator="distil" if level == "weights" else what.split(" ")[0],
                summary=what,
                files=[] if level == "weights" else ["solve.py"],
            )
            passed = not (level == "program" and cycle == 5)
            if level == "program":
                yield Screened(
                    cycle=cycle,
                    variant=name,
                    score=0.5 + 0.02 * cycle,
                    baseline=0.5,
                    n=96,
                    passed=passed,
                    failures={},
                )
                yield Chosen(
                    cycle=cycle, chosen=name if passed else None, not_chosen=[], unscreened=[], tokens=2_000
                )
            if passed:
                decision = ["promote", "archive", "promote", "discard", "promote"][(number * 3) % 5]
                gain = {"promote": 0.043, "archive": 0.011, "discard": -0.031}[decision]
                yield gated(cycle, level, name, champion, decision, gain)
                champion = name if decision == "promote" else champion
        yield evaluated(cycle, "dev", "cycle", champion)
        yield Guarded(
            cycle=cycle,
            guard="provenance",
            checked=960,
            vetoed=int(cycle == 4),
            detail="answer not the policy's",
        )
        yield CycleFinished(
            cycle=cycle,
            champion=champion,
            tokens_generated=90_000 * cycle,
            tokens_trained=50_000 * cycle,
            lessons=120 * cycle,
            variants=number + 1,
        )
    yield evaluated(CYCLES, "sealed", "final", champion)
    yield RunFinished(cycles=CYCLES, champion=champion)


def entries() -> list[Entry]:
    """The records as a reader sees them, four seconds apart."""
    return [
        Entry(seq=seq, record=record, timing=Timing(at=4.0 * seq, took=3.5), hash=f"{seq:064x}")
        for seq, record in enumerate(records())
    ]


def program(number: int) -> bytes:
    """The program of a variant, as a store holds it."""
    routes = "".join(f"    'v{each}': vote(samples={each}),\n" for each in range(number % 5))
    return msgspec.msgpack.encode(
        {"solve.py": f"ROUTES = {{\n{routes}}}\n\n\ndef solve(task):\n    return task\n"}
    )


def recorded(count: int | None = None, status: str = "running", alive: bool = True) -> MemoryRun:
    """The first `count` entries in memory, with programs, samples of attempts and walls."""
    everything = entries()
    found = everything[:count]
    run = MemoryRun(found, state_at(len(found), status), alive)
    run.walls = Sandbox(layers=["user namespace", "landlock", "seccomp"], missing=[])
    run.blobs = {f"p{number}": program(number) for number in range(20)}
    cycles = [entry.record.cycle for entry in found if isinstance(entry.record, CycleStarted)]
    kept = run.tables.setdefault(samples.TABLE, {})
    for cycle in cycles:
        for stage in ("program", "gate"):
            table, key, value = samples.put(cycle, stage, f"v{2 * cycle:04}", attempts(stage))
            assert table == samples.TABLE and value is not None
            kept[key] = value
    return run


def attempts(stage: str) -> list[Sample]:
    """Attempts that were kept of a stage: one that failed, one that was right."""
    return [
        Sample(
            task=f"text/reverse/{level}/88",
            skill="text/reverse",
            level=level,
            prompt=f"rev:{'abc' * level}=",
            answer="cba" * level if right else "cab",
            success=right,
            score=float(right),
            failure=None if right else "wrong",
            detail="" if right else "differs at letter 2",
            requests=[(f"rev:{'abc' * level}=", "cba" * level)] if stage == "program" else [],
            other="abc" if stage == "gate" else None,
            other_success=not right if stage == "gate" else None,
        )
        for level, right in ((3, False), (4, True))
    ]


def middle() -> int:
    """Entries up to the dev score of cycle 4."""
    return 1 + next(
        index
        for index, record in enumerate(records())
        if isinstance(record, Evaluated) and record.split == "dev" and record.cycle == 4
    )


def state_at(count: int, status: str = "running", pid: int = 1) -> State:
    """What the writer says after `count` entries."""
    total = len(entries())
    return State(
        status=status,  # type: ignore[arg-type]
        pid=pid,
        stage="cycle 3/8: gate, weights",
        done=count / total,
        seconds=4.0 * count,
        eta=4.0 * (total - count) if status == "running" else None,
    )


def write(folder: Path) -> None:
    """The writer process."""
    from moevolve.journal.store import RunStore

    everything = list(records())
    begun = (
        next(
            i for i, record in enumerate(everything) if isinstance(record, CycleStarted) and record.cycle == 3
        )
        + 2
    )
    with RunStore.create(folder) as store:
        store.append(everything[:begun], Timing(at=10.0))
        store.set_state(state_at(begun))
        print("ready", flush=True)
        for record in everything[begun:]:
            if not sys.stdin.readline():
                return
            store.append([record], Timing(at=20.0))
            store.set_state(state_at(len(store)))
            print(len(store), flush=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
