"""What becomes of a skill that hardly gets any attempts, with and without what protects it.

A run trains weights on four skills; one of them, which the shipped seed does well, gets one attempt in a hundred.
`protected` is the loop as it is: rehearsal picks a skill first, and the gate refuses weights under which some skill falls
beyond the margin. `unprotected` trains on the cycle's answers alone, and its gate looks at the mean.

    python benches/rare_skill.py --seeds 5 --require
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import moevolve
from moevolve.config import Config
from moevolve.journal.store import RunStore
from moevolve.loop.run import start
from moevolve.records import Attempted, Evaluated, Gated
from moevolve.skills import curriculum

RARE = "text/reverse"
OTHERS = ("number/add", "number/subtract", "number/parity")
SHARE = 0.01
MARGIN = 0.1


@contextmanager
def rare(skill: str, share: float) -> Iterator[None]:
    """Attempts of which `share` are of one skill."""
    before = curriculum.shares

    def shares(cells: Mapping[curriculum.Cell, float], focus: float) -> dict[curriculum.Cell, float]:
        found = before(cells, focus)
        own = sum(value for (path, _), value in found.items() if path == skill)
        scale = {True: share / own, False: (1 - share) / (1 - own)}
        return {cell: value * scale[cell[0] == skill] for cell, value in found.items()}

    curriculum.shares = shares
    try:
        yield
    finally:
        curriculum.shares = before


def configuration(seed: int, cycles: int, folder: Path, *, protected: bool) -> Config:
    """A run on four skills that trains weights alone."""
    settings: dict[str, Any] = {
        "arm": "weights",
        "suite.skills": [RARE, *OTHERS],
        "suite.levels": [1, 6],
        "suite.sealed_per_cell": 40,
        "attempts.tasks": 384,
        "attempts.samples": 4,
        "learn.steps": 60,
        "gate.margin": MARGIN,
        "gate.min_n": 96,
        "gate.max_n": 768,
        "gate.confirm_n": 1536,
        "gate.batch": 96,
        "evolve.nulls": "off",
        "guard.use": [],
    }
    if not protected:
        agent = folder / "agent"
        shutil.copytree(Path(moevolve.__file__).parent / "agents" / "seed", agent)
        recipe = agent / "learn.py"
        text = recipe.read_text(encoding="utf-8")
        assert "RECENT = 0.6" in text, "the seed's recipe says how much it rehearses"
        recipe.write_text(text.replace("RECENT = 0.6", "RECENT = 1.0"), encoding="utf-8")
        settings |= {"agent.path": str(agent), "gate.margin": 0.99}
    return Config.load("small", settings).override(seed=seed, cycles=cycles)


def measured(seed: int, cycles: int, *, protected: bool) -> tuple[float, float, int, float, int]:
    """The rare skill before and after, on so many sealed tasks; its share of the attempts; promotions."""
    with tempfile.TemporaryDirectory() as name, rare(RARE, SHARE):
        folder = Path(name)
        path = start(configuration(seed, cycles, folder, protected=protected), folder / "run")
        with RunStore.open(path) as store:
            records = [entry.record for entry in store.entries()]
    scores = [r.skills[RARE] for r in records if isinstance(r, Evaluated) and r.split == "sealed"]
    tallies = [tally for r in records if isinstance(r, Attempted) for tally in r.tallies]
    own = sum(tally.attempts for tally in tallies if tally.skill == RARE)
    promoted = sum(isinstance(r, Gated) and r.decision == "promote" for r in records)
    share = own / sum(tally.attempts for tally in tallies)
    return scores[0].score, scores[-1].score, scores[0].n, share, promoted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cycles", type=int, default=14)
    parser.add_argument(
        "--require", action="store_true", help="fail unless protection holds and its lack shows"
    )
    options = parser.parse_args()
    held = fell = 0
    print(f"{RARE}, {SHARE:.0%} of the attempts, {options.cycles} cycles, margin {MARGIN:g}", flush=True)
    for seed in range(1, options.seeds + 1):
        for protected in (True, False):
            before, after, n, share, promoted = measured(seed, options.cycles, protected=protected)
            down = before - after > MARGIN
            held += protected and not down
            fell += not protected and down
            print(
                f"seed {seed} {'protected' if protected else 'unprotected':<12} {before:.3f} > {after:.3f} "
                f"({after - before:+.3f}, n={n}), {share:.1%} of attempts, {promoted} promotions",
                flush=True,
            )
    print(f"protected: not down by more than the margin in {held} of {options.seeds} seeds")
    print(f"unprotected: down by more than the margin in {fell} of {options.seeds} seeds")
    return int(options.require and (held < options.seeds or 2 * fell < options.seeds))


if __name__ == "__main__":
    sys.exit(main())
