"""What the gate promises, by simulation: errors and power of decisions and of whole runs.

    python benches/gate.py [--quick] [--require] [--json]

No model runs. A task of a skill is right with a variant's probability there, and two variants' answers to one task are
correlated as jointly normal ones are (`CORRELATION`), which leaves some 15 % of tasks on which two equal variants differ.
Twelve skills at levels from .1 to .9, as the primer's. `--require` exits 1 where a promise is not kept.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing import Pool
from random import Random
from statistics import NormalDist, fmean

from moevolve.gate import confirmed
from moevolve.gate.betting import GateVerdict, Paired, PairedGate
from moevolve.gate.finite import SpentTasks, detectable
from moevolve.gate.screening import corrected_best
from moevolve.gate.spending import AlphaSpending
from moevolve.tasks.task import Task
from promises import Row, told

SKILLS = [f"branch/{number:02}" for number in range(12)]
LEVELS = dict(zip(SKILLS, (0.1, 0.2, 0.3, 0.3, 0.4, 0.5, 0.5, 0.6, 0.7, 0.7, 0.8, 0.9), strict=True))
CORRELATION = 0.85
MARGIN, MIN_N, MAX_N, CONFIRM_N = 0.05, 192, 3072, 6144
NORMAL = NormalDist()

Levels = Mapping[str, float]


# ---------------------------------------------------------------- the world


@cache
def joint(ours: float, theirs: float) -> tuple[float, float, float]:
    """Probabilities on one task: candidate alone right, the other alone, both."""
    if not (0 < ours < 1 and 0 < theirs < 1):
        both = ours * theirs
    else:
        a, b = NORMAL.inv_cdf(ours), NORMAL.inv_cdf(theirs)
        shared, own = math.sqrt(CORRELATION), math.sqrt(1 - CORRELATION)
        points = [-6 + 0.06 * (index + 0.5) for index in range(200)]
        both = 0.06 * math.fsum(
            NORMAL.pdf(z) * NORMAL.cdf((a + shared * z) / own) * NORMAL.cdf((b + shared * z) / own)
            for z in points
        )
    return ours - both, theirs - both, both


def pairs(rng: Random, skill: str, n: int, ours: float, theirs: float, best: bool = False) -> list[Paired]:
    """Fresh tasks of one skill, both answered."""
    win, loss, both = joint(round(ours, 3), round(theirs, 3))
    kinds = (
        Paired(skill, 1.0, 0.0, best),
        Paired(skill, 0.0, 1.0, best),
        Paired(skill, 1.0, 1.0, best),
        Paired(skill, 0.0, 0.0, best),
    )
    return rng.choices(kinds, (win, loss, both, max(0.0, 1 - win - loss - both)), k=n)


def decide(
    rng: Random, alpha: float, candidate: Levels, champion: Levels, holders: Levels | None = None
) -> tuple[GateVerdict, PairedGate]:
    """One decision; `holders` are levels of the variants that hold a best level in the champion's stead."""
    holders = holders or {}
    gate = PairedGate(alpha, MARGIN, MIN_N, MAX_N, SKILLS, confirm_n=CONFIRM_N, best=list(holders))
    while gate.verdict.decision is None:
        batch: list[Paired] = []
        for want in gate.wants():
            other = holders[want.skill] if want.best else champion[want.skill]
            batch += pairs(rng, want.skill, want.n, candidate[want.skill], other, want.best)
        gate.update(batch)
    return gate.verdict, gate


def shifted(changes: Sequence[float]) -> dict[str, float]:
    return {skill: min(0.99, max(0.01, LEVELS[skill] + d)) for skill, d in zip(SKILLS, changes, strict=True)}


# ---------------------------------------------------------------- one run of each promise


def null_run(seed: int) -> tuple[int, float]:
    """30 decisions on candidates equal to the champion: false promotions, and mean pairs of a decision."""
    rng, spending, pairs_seen = Random(f"null {seed}"), AlphaSpending(), 0
    for _ in range(30):
        verdict, _ = decide(rng, spending.level, LEVELS, LEVELS)
        spending = spending.after(promoted=verdict.decision == "promote")
        pairs_seen += verdict.n
    return spending.promotions, pairs_seen / 30


def traded_run(seed: int) -> tuple[int, float]:
    """30 decisions on candidates that are no better on the whole: gains at six skills, the same losses at the others."""
    rng, spending, pairs_seen = Random(f"traded {seed}"), AlphaSpending(), 0
    for _ in range(30):
        candidate = shifted([0.04, -0.04] * 6)
        verdict, _ = decide(rng, spending.level, candidate, LEVELS)
        spending = spending.after(promoted=verdict.decision == "promote")
        pairs_seen += verdict.n
    return spending.promotions, pairs_seen / 30


def gain_decision(seed: int) -> tuple[int, float]:
    """One decision, the run's first to thirtieth in turns, on a candidate .05 better at every skill."""
    spending = AlphaSpending(decisions=seed % 30)
    verdict, _ = decide(Random(f"gain {seed}"), spending.level, shifted([0.05] * 12), LEVELS)
    return int(verdict.decision == "promote"), verdict.n


def uneven_decision(seed: int) -> tuple[int, float]:
    """The same mean gain, from .01 to .09 by skill."""
    changes = [0.05 + 0.04 * math.sin(2.1 * index) for index in range(12)]
    verdict, _ = decide(
        Random(f"uneven {seed}"), AlphaSpending(decisions=seed % 30).level, shifted(changes), LEVELS
    )
    return int(verdict.decision == "promote"), verdict.n


def harm_decision(seed: int) -> tuple[int, float]:
    """One skill .10 worse, the others .06 better."""
    changes = [0.06] * 12
    changes[seed % 12] = -0.1 if LEVELS[SKILLS[seed % 12]] > 0.11 else -0.09
    verdict, _ = decide(Random(f"harm {seed}"), AlphaSpending().level, shifted(changes), LEVELS)
    return int(verdict.decision == "promote"), verdict.n


def margin_decision(seed: int) -> tuple[int, float]:
    """One skill exactly at the margin, the others .06 better: the worst case of the error rate of a skill."""
    changes = [0.06] * 12
    changes[1 + seed % 11] = -MARGIN
    verdict, _ = decide(Random(f"margin {seed}"), AlphaSpending().level, shifted(changes), LEVELS)
    return int(verdict.decision == "promote"), verdict.n


def chain_run(seed: int) -> tuple[float, float]:
    """Promotions in a row while every candidate pays for its gains with one of three skills.

    Returns the farthest that a champion's skill lay below its best level so far, and the number of promotions, at most 10.
    """
    rng, spending = Random(f"chain {seed}"), AlphaSpending()
    levels: dict[str, dict[str, float]] = {"v0": {skill: 0.3 for skill in SKILLS}}
    champion, held, worst = "v0", confirmed.begin(SKILLS, "v0"), 0.0
    best = dict(levels["v0"])
    for index in range(60):
        if spending.promotions == 10:
            break
        candidate = f"v{index + 1}"
        victim = SKILLS[rng.randrange(3)]
        change = {skill: rng.uniform(0.02, 0.08) for skill in SKILLS} | {victim: -rng.uniform(0.0, 0.04)}
        levels[candidate] = {skill: min(0.99, p + change[skill]) for skill, p in levels[champion].items()}
        others = {
            skill: levels[variant][skill] for skill, variant in confirmed.elsewhere(held, champion).items()
        }
        verdict, gate = decide(rng, spending.level, levels[candidate], levels[champion], others)
        spending = spending.after(promoted=verdict.decision == "promote")
        if verdict.decision == "promote":
            held = confirmed.promoted(held, gate, candidate, champion)
            champion = candidate
            for skill, p in levels[champion].items():
                worst, best[skill] = max(worst, best[skill] - p), max(best[skill], p)
    return worst, spending.promotions


def finite_run(seed: int) -> tuple[int, float]:
    """30 examples, two agents of equal worth, drawn again and again as a generator does: promotions of a whole run."""
    rng = Random(f"finite {seed}")
    rows = [Task(prompt=f"{seed}-{index}", answer="x", skill="my/evals", level=1) for index in range(30)]
    spent, spending = SpentTasks(finite=["my/evals"]), AlphaSpending()
    seen = 0
    for _ in range(5):
        right, left = ({task.prompt for task in rng.sample(rows, 15)} for _ in range(2))
        gate = PairedGate(spending.level, MARGIN, 1, MAX_N, ["my/evals"])
        while gate.verdict.decision is None:
            drawn = [rng.choice(rows) for _ in range(96)]
            fresh = [drawn[index].prompt for index in spent.take(drawn)]
            gate.update([Paired("my/evals", float(p in right), float(p in left)) for p in fresh])
            if not fresh:
                gate.give_up("no fresh tasks are left")
        spent.close()
        seen += gate.verdict.n
        spending = spending.after(promoted=gate.verdict.decision == "promote")
    return spending.promotions, seen


def screening_run(seed: int) -> tuple[float, float]:
    """The best of eight by 192 screening tasks: how much its gain is overrated, raw and corrected."""
    rng = Random(f"screening {seed}")
    error = math.sqrt(0.15 / 192)
    true = ([0.0] * 8, [rng.gauss(0, 0.03) for _ in range(8)], [0.0] * 7 + [0.2])[seed % 3]
    seen = [rng.gauss(gain, error) for gain in true]
    chosen = max(range(8), key=seen.__getitem__)
    return seen[chosen] - true[chosen], corrected_best(seen, error, rng) - true[chosen]


# ---------------------------------------------------------------- the promises


def rate(results: Sequence[tuple[float, float]]) -> float:
    return fmean(result > 0 for result, _ in results)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs")
    parser.add_argument("--require", action="store_true", help="exit 1 where a promise is not kept")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    rows: list[Row] = []
    with Pool(2) as pool:

        def play(run: Callable[[int], tuple[float, float]], runs: int) -> list[tuple[float, float]]:
            return pool.map(run, range(max(20, runs // scale)), chunksize=2)

        for name, run in (("equal candidates", null_run), ("gains paid for by equal losses", traded_run)):
            results = play(run, 400)
            note = f"{len(results)} runs of 30 decisions, {fmean(n for _, n in results):.0f} pairs each"
            rows.append(Row(f"{name}: runs with a false promotion", rate(results), 0.05, True, note))
        for name, run, bound, least in (
            ("+.05 at every skill: promoted", gain_decision, 0.8, False),
            ("+.01 to +.09, +.05 in all: promoted", uneven_decision, 0.8, False),
            ("one skill -.10, others +.06: promoted", harm_decision, 0.05, True),
            ("one skill at the margin, others +.06: promoted", margin_decision, 0.05, True),
        ):
            results = play(run, 600)
            cost = sorted(n for _, n in results)
            note = f"pairs: mean {fmean(cost):.0f}, 9 of 10 within {cost[len(cost) * 9 // 10]:.0f}"
            rows.append(Row(name, rate(results), bound, least, f"{len(results)} decisions, {note}"))
        results = play(chain_run, 100)
        whole = sum(count == 10 for _, count in results)
        rows.append(
            Row(
                "ten promotions in a row: farthest below a best level, 20 runs",
                max(worst for worst, _ in results[:20]),
                MARGIN,
                True,
                f"{whole} of {len(results)} runs reach ten",
            )
        )
        beyond = rate([(worst > MARGIN, 0.0) for worst, _ in results])
        rows.append(
            Row("the same: runs with a skill beyond the margin", beyond, 0.05, True, f"{len(results)} runs")
        )
        results = play(finite_run, 400)
        note = f"{fmean(n for _, n in results):.0f} pairs a run; 30 tasks cannot show less than " + ", ".join(
            f"{detectable(30, alpha):+.2f} at {alpha:g}" for alpha in (0.05, AlphaSpending().level)
        )
        rows.append(Row("30 examples, equal agents: runs with a promotion", rate(results), 0.05, True, note))
        results = play(screening_run, 3000)
        raw, shrunk = fmean(r for r, _ in results), fmean(c for _, c in results)
        rows.append(
            Row("best of eight screened: overrated by", shrunk, raw / 2, True, f"uncorrected {raw:+.4f}")
        )
    return told(rows, options.json, options.require)


if __name__ == "__main__":
    sys.exit(main())
