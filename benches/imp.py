"""imp@k of improvers: the best of k candidates that a frozen improver makes of one start, less the start's own score.

    python benches/imp.py --k 20 --seeds 1,2,3,4,5 seed runs/improver [--suite FOLDER] [--solve FOLDER]

`seed` is the shipped improver, others are folders with an improve.py, such as `moevolve export RUN --improver DIR` writes.
Each seed is a run of one cycle and one generation from the same solve.py with all else frozen; the gain is that of the
screening, less the best one's luck. Means over seeds with 95 % intervals; the figures are what they are.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from moevolve.agents.genome import seed_genome
from moevolve.config import Config
from moevolve.journal.store import RunStore
from moevolve.loop.run import start
from moevolve.records import Chosen
from moevolve.report.arms import mean_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("improvers", nargs="+")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--suite", help="folder of another suite than the primer")
    parser.add_argument("--solve", type=Path, help="folder whose files the start has, beside the improver's")
    parser.add_argument("--screen", type=int, default=384)
    options = parser.parse_args()
    for name in options.improvers:
        gains = [
            imp(name, options.k, int(seed), options.screen, options.suite, options.solve)
            for seed in options.seeds.split(",")
        ]
        found = mean_of(gains)
        between = f" [{found.ci[0]:+.3f}, {found.ci[1]:+.3f}]" if found.ci else ""
        each = ", ".join(f"{gain:+.3f}" for gain in gains)
        print(
            f"{name}: imp@{options.k} {found.mean:+.3f}{between} over {len(gains)} seeds ({each})", flush=True
        )


def imp(name: str, k: int, seed: int, screen: int, suite: str | None, solve: Path | None) -> float:
    """The corrected gain of the best of `k` candidates; 0 where none gained."""
    with tempfile.TemporaryDirectory() as folder:
        agent = Path(folder) / "agent"
        seed_genome().write(agent)
        sources = [each for each in (solve, None if name == "seed" else Path(name)) if each is not None]
        for source in sources:
            for path in sorted(source.rglob("*")):
                if path.is_file() and path.name != "improver.toml":
                    copy = agent / path.relative_to(source)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        (agent / "agent.toml").write_text('edit = ["solve.py", "prompts/*"]\n')
        settings = {
            "agent.path": str(agent),
            "evolve.proposers": ["improver"],
            "evolve.candidates": k,
            "evolve.screen": screen,
            "evolve.generations": 1,
            "evolve.nulls": "off",
            **({"suite.path": suite} if suite else {}),
        }
        config = Config.load("quickstart", settings).override(seed=seed, arm="program", cycles=1)
        with RunStore.open(start(config, Path(folder) / "run")) as store:
            chosen = [entry.record for entry in store.entries() if isinstance(entry.record, Chosen)]
    return max(0.0, chosen[0].gain or 0.0) if chosen else 0.0


if __name__ == "__main__":
    main()
