"""Both sides of a claim in one run: interleaved rounds, medians, one process for each number of threads."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

BUSY = 0.15
"""Share of processor time used by others above which a round does not count as quiet."""
PATIENCE = 5.0
"""Seconds to wait for a quiet machine before each round."""


@dataclass(frozen=True)
class Measured:
    """Tokens per second of every side at one number of threads, in round order."""

    threads: int
    isa: str
    rates: dict[str, list[float]]
    busy_rounds: int
    gflop: float = 0.0
    """Billions of floating-point operations in our matrix products for one token."""
    peak: dict[str, float] = field(default_factory=dict)
    """GFLOP/s of the machine on these threads: torch's f32 product, and ours by example `gemm_speed`'s method."""

    def median(self, side: str) -> float:
        return statistics.median(self.rates[side])

    @property
    def rival(self) -> str:
        """The fastest side that is not ours."""
        return max((side for side in self.rates if not side.startswith("moevolve")), key=self.median)

    @property
    def ratio(self) -> float:
        return self.median("moevolve") / self.median(self.rival)

    def ratio_to(self, words: str) -> float | None:
        """Ratio to the fastest side with these words in its name, None without one."""
        rates = [self.median(side) for side in self.rates if words in side]
        return self.median("moevolve") / max(rates) if rates else None

    @property
    def ratio_quartiles(self) -> tuple[float, float]:
        """Quartiles of the rounds' own ratios."""
        pairs = zip(self.rates["moevolve"], self.rates[self.rival], strict=True)
        low, _, high = statistics.quantiles([ours / theirs for ours, theirs in pairs], n=4)
        return low, high


def clock() -> float:
    """Seconds on the wall; with MOEVOLVE_BENCH_CLOCK=processor, this process's own processor time.

    The latter serves a machine that others use too, on one thread only: it does not see who waits for whom.
    """
    return (
        time.process_time() if os.environ.get("MOEVOLVE_BENCH_CLOCK") == "processor" else time.perf_counter()
    )


def _processor_time() -> tuple[int, int]:
    fields = [int(f) for f in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[3] + fields[4]


def quiet() -> bool:
    """Waits until nobody else uses the processors; False when they still do after `PATIENCE` seconds."""
    until = time.monotonic() + PATIENCE
    while True:
        total, idle = _processor_time()
        time.sleep(0.25)
        later, idle_later = _processor_time()
        if 1 - (idle_later - idle) / max(1, later - total) < BUSY:
            return True
        if time.monotonic() > until:
            return False


def rounds(
    sides: Mapping[str, Callable[[], int]],
    count: int,
    threads: int,
    isa: str,
    gflop: float = 0.0,
    peak: Mapping[str, float] | None = None,
) -> Measured:
    """Runs every side once a round, in turn.

    Args:
        sides: name -> one repetition, which returns the tokens that it handled.
        count: rounds; one more warms up.
        threads: what the sides were told to use.
        isa: the kernels in force.
        gflop: operations of our products for one token, in billions.
        peak: GFLOP/s that the machine reaches, by name.
    """
    rates: dict[str, list[float]] = {side: [] for side in sides}
    busy = 0
    for number in range(count + 1):
        note(f"  {threads} thread{'s' * (threads > 1)}, round {number} of {count}")
        busy += not quiet() and number > 0
        for side, repeat in sides.items():
            start = clock()
            tokens = repeat()
            rate = tokens / (clock() - start)
            if number:
                rates[side].append(rate)
    note("")
    return Measured(threads, isa, rates, busy, gflop, dict(peak or {}))


def note(text: str) -> None:
    """Narration on stderr; on a terminal each line takes the place of the one before."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def command_line(description: str, count: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=count)
    parser.add_argument("--json", action="store_true", help="figures on stdout as JSON")
    parser.add_argument("--require", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def bench(
    title: str,
    worker: Callable[[int, int], Measured],
    targets: Mapping[int, float],
    count: int,
) -> int:
    """The whole of a bench's main function.

    Args:
        title: what is measured, in tokens per second.
        worker: (threads, rounds) -> figures; runs in a process of its own for each number of threads.
        targets: threads -> least ratio to the faster rival.
        count: rounds unless `--rounds` says otherwise.

    Returns:
        The exit code.
    """
    options = command_line(title, count)
    if options.worker:
        print(json.dumps(asdict(worker(options.threads[0], options.rounds))))
        return 0
    results = [Measured(**in_process(threads, options.rounds)) for threads in options.threads]
    if options.json:
        print(json.dumps([_figures(r, targets) for r in results], indent=1))
    else:
        _table(title, results, targets)
    for result in results:
        if result.busy_rounds:
            print(
                f"warning: the machine was busy before {result.busy_rounds} of {options.rounds} rounds "
                f"with {result.threads} threads; the ratio may be off",
                file=sys.stderr,
            )
    missed = any(r.ratio < targets.get(r.threads, 0) for r in results)
    return int(options.require and missed)


def in_process(threads: int, count: int, *more: str) -> Any:
    """What this bench prints as a worker, in a process of its own, at a number of threads; `more` are its arguments."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads))
    arguments = ["--worker", "--threads", str(threads), "--rounds", str(count), *more]
    run = subprocess.run(
        [sys.executable, sys.argv[0], *arguments],
        env=os.environ | limits,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(run.stdout.splitlines()[-1])


def _figures(result: Measured, targets: Mapping[int, float]) -> dict[str, object]:
    return {
        "threads": result.threads,
        "isa": result.isa,
        "tokens_per_second": {side: round(result.median(side)) for side in result.rates},
        "rival": result.rival,
        "ratio": round(result.ratio, 3),
        "gflops": round(result.gflop * result.median("moevolve"), 1),
        "peak_gflops": {name: round(rate, 1) for name, rate in result.peak.items()},
        "ratio_quartiles": [round(q, 3) for q in result.ratio_quartiles],
        "target": targets.get(result.threads),
        "rounds": len(result.rates["moevolve"]),
        "busy_rounds": result.busy_rounds,
    }


def _table(title: str, results: Sequence[Measured], targets: Mapping[int, float]) -> None:
    sides = list(results[0].rates)
    print(f"{title}: tokens per second, median of {len(results[0].rates[sides[0]])} interleaved rounds")
    print("threads  " + "  ".join(f"{side:>24}" for side in sides) + "    ratio (quartiles)    target")
    for result in results:
        low, high = result.ratio_quartiles
        target = targets.get(result.threads)
        verdict = "" if target is None else f"{target:.1f}x {'met' if result.ratio >= target else 'MISSED'}"
        print(
            f"{result.threads:>7}  "
            + "  ".join(f"{result.median(side):>24,.0f}" for side in sides)
            + f"    {result.ratio:.2f}x ({low:.2f}-{high:.2f})    {verdict}"
        )
    print(f"kernels: {results[0].isa}; the ratio is to the fastest rival of each row")
    for result in results:
        against = [
            (words, result.ratio_to(words)) for words in ("eager", "grouped_mm", "compile", "moevolve f32")
        ]
        said = [f"{words} {ratio:.2f}x" for words, ratio in against if ratio is not None]
        print(f"{result.threads} threads: to {', '.join(said)}")
        if result.gflop:
            reached = result.gflop * result.median("moevolve")
            peaks = ", ".join(f"{name} {rate:.0f}" for name, rate in result.peak.items())
            print(
                f"{result.threads} threads: {reached:.0f} GFLOP/s in our products; a large product reaches {peaks}"
            )
