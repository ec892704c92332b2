"""What it costs to open a long journal: CPU seconds and peak memory of the fold, and of one more record on top.

    python benches/journal.py [--entries 203000 1000000] [--require]

Each journal is made here, record by record as the loop would, and read in a process of its own. `--require` fails
where 203,000 entries take more than 2 s of CPU, a million more than 10 s, or the process more than 120 MiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from moevolve.journal.reader import RunReader, read
from moevolve.journal.store import RunStore
from moevolve.records import (
    Chosen,
    CycleFinished,
    CycleStarted,
    Evaluated,
    Interval,
    Proposed,
    Record,
    RunStarted,
    Screened,
    SkillInfo,
    SkillScore,
    Timing,
    VariantAdded,
)

CPU_SECONDS = 10.0e-6
"""Most CPU time for an entry, the process's start included."""
PEAK_MIB = 120.0
SKILLS = [f"skill/{number:02d}" for number in range(12)]
A_CYCLE = 100
"""Variants of a cycle."""
COMMIT = 5000


def records(count: int) -> Iterator[Record]:
    """A run of about `count` records: a hundred candidates a cycle, two records each, half of them screened."""
    yield RunStarted(
        run="long",
        seed=1,
        arm="program",
        suite="primer",
        answers="policy",
        skills=[SkillInfo(path=path, summary=path, levels=(1, 16)) for path in SKILLS],
        config="{}",
        champion="v0000",
        weights="w",
        program="p",
        parameters=1,
    )
    yield added(0, [])
    written, number, cycle = 2, 0, 0
    while written < count:
        cycle += 1
        yield CycleStarted(cycle=cycle, champion="v0000")
        names = []
        for _ in range(A_CYCLE):
            number += 1
            names.append(f"v{number:04d}")
            made = added(number, [f"v{number * 7 % number:04d}" if number % 3 else "v0000"])
            yield made
            yield Proposed(
                cycle=cycle,
                level="program",
                variant=made.variant,
                parent=made.parents[0],
                operator="vote",
                summary=made.summary,
                files=["solve.py"],
            )
            if number % 2 == 0 and count > 500_000:
                yield Screened(cycle=cycle, variant=made.variant, score=0.5, baseline=0.5, n=192, passed=True)
        yield Chosen(cycle=cycle, chosen=None, not_chosen=names[::2], unscreened=names[1::2], tokens=9)
        score = Interval(mean=0.5, low=0.4, high=0.6, n=480)
        yield Evaluated(
            cycle=cycle,
            split="dev",
            when="cycle",
            variant="v0000",
            score=score,
            skills={path: SkillScore(score=0.5, n=40) for path in SKILLS},
            tokens=1,
        )
        yield CycleFinished(
            cycle=cycle,
            champion="v0000",
            tokens_generated=0,
            tokens_trained=0,
            lessons=0,
            variants=number + 1,
        )
        written += 4 + A_CYCLE * 2 + (A_CYCLE // 2 if count > 500_000 else 0)


def added(number: int, parents: list[str]) -> VariantAdded:
    return VariantAdded(
        variant=f"v{number:04d}",
        parents=parents,
        cycle=number // A_CYCLE + 1,
        level="program" if number else "seed",
        weights="w" * 64,
        program=f"{number:064d}",
        operator="vote",
        summary=f"sub: columns(size 2, above {number % 9}); add: vote(samples {number % 7})",
        score=None,
    )


def write(path: Path, count: int) -> None:
    """Puts such a run into the folder `path`."""
    with RunStore.create(path) as store:
        batch: list[Record] = []
        for record in records(count):
            batch.append(record)
            if len(batch) == COMMIT:
                store.append(batch, Timing(at=1.0))
                batch = []
        store.append(batch, Timing(at=2.0))


def fold(path: Path) -> None:
    """Reads the run and prints what it took as JSON; then what one more record takes."""
    with RunStore.open(path) as store:
        reader = read(store)
        spent = time.process_time()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            json.dumps(
                {
                    "entries": reader.view.entries,
                    "variants": len(reader.view.variants),
                    "cpu_s": spent,
                    "peak_mib": peak,
                    "one_more_us": one_more(reader),
                }
            )
        )


def one_more(reader: RunReader) -> float:
    """CPU microseconds that a view takes for a record more."""
    view, start = reader.view, len(reader.view.variants)
    began = time.process_time()
    for number in range(start, start + 2000):
        view.take(view.entries, added(number, ["v0000"]), 3.0)
    return (time.process_time() - began) / 2000 * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, nargs="+", default=[203_000, 1_000_000])
    parser.add_argument("--require", action="store_true", help="fail where a bound is not met")
    parser.add_argument("--fold", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fold is not None:
        fold(options.fold)
        return 0
    late = []
    for count in options.entries:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run"
            write(path, count)
            done = subprocess.run(
                [sys.executable, __file__, "--fold", str(path)], check=True, capture_output=True, text=True
            )
        found = json.loads(done.stdout)
        print(
            f"{found['entries']:,} entries, {found['variants']:,} variants: {found['cpu_s']:.2f} s of CPU, "
            f"{found['peak_mib']:.0f} MiB at most, one record more {found['one_more_us']:.1f} us"
        )
        if found["cpu_s"] > CPU_SECONDS * found["entries"] or found["peak_mib"] > PEAK_MIB:
            late.append(count)
    return 1 if options.require and late else 0


if __name__ == "__main__":
    sys.exit(main())
