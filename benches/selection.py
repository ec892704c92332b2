"""Selection policies on the trees of finished runs: which would have found the best program sooner.

Nothing is attempted again: a step of a policy at a node reveals the children that the run made of it. Figures are the best
score known after a quarter and a half of the tree's steps, and the steps to its best, each a mean over seeds with its 95 %
interval.

    python benches/selection.py runs/quick [runs/other ...] [--seeds 100] [--policies dgm,hgm]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from moevolve.journal.store import RunStore
from moevolve.selection.replayed import recorded, reveal
from moevolve.selection.table import POLICIES, policy
from moevolve.selection.tree import Tree


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--policies", default=",".join(POLICIES))
    arguments = parser.parse_args()
    for folder in arguments.runs:
        with RunStore.open(folder) as store:
            tree = recorded(entry.record for entry in store.entries())
        print(f"{folder}: {len(tree)} variants")
        print(f"{'policy':<20}{'after 1/4':>18}{'after 1/2':>18}{'steps to the best':>22}")
        for name in arguments.policies.split(","):
            print(f"{name:<20}" + "".join(walks(tree, name, arguments.seeds)))


def walks(tree: Tree, name: str, seeds: int) -> list[str]:
    """One policy's row."""
    quarter, half, steps = [], [], []
    for seed in range(seeds):
        best = reveal(tree, policy(name), seed).best
        quarter.append(best[len(best) // 4])
        half.append(best[len(best) // 2])
        steps.append(float(best.index(best[-1])))
    return [f"{said(quarter):>18}", f"{said(half):>18}", f"{said(steps, 1):>22}"]


def said(values: Sequence[float], digits: int = 3) -> str:
    """A mean with half of its 95 % interval."""
    half = 1.96 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{fmean(values):.{digits}f} ± {half:.{digits}f}"


if __name__ == "__main__":
    main()
