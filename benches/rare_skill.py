"""What becomes of a skill that hardly gets any attempts, with and without what protects it.

A run trains weights on four skills; one of them, which the shipped seed does well, gets one attempt in a hundred.
`protected` is the loop as it is, its champion at the end: rehearsal picks a skill first, and the gate refuses weights under
which some skill falls beyond the margin. `unprotected` trains on each cycle's answers alone, and what training arrives at is
taken as it is. Both are the bare policy's likeliest answers to the same tasks, and both arms' champions and trained weights
are told. A protected run that promoted nothing shows nothing: its champion is the seed, and `--require` does not count it.

    python benches/rare_skill.py --seeds 5 --require
"""

from __future__ import annotations

import argparse
import json
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
from moevolve.loop import snapshot
from moevolve.loop.run import start
from moevolve.models.champions import Champion, Champions
from moevolve.models.engine import Engine
from moevolve.records import Attempted, Gated, RunStarted
from moevolve.skills import curriculum
from moevolve.tasks.suite import suite

RARE = "text/reverse"
OTHERS = ("number/add", "number/subtract", "number/parity")
SHARE = 0.01
MARGIN = 0.05
LEVELS = (1, 6)
TASKS = 300
PRIMER = suite("primer")


@contextmanager
def rare(skill: str, share: float) -> Iterator[None]:
    """Attempts of which `share` are of one skill."""
    before = curriculum.shares

    def shares(
        cells: Mapping[curriculum.Cell, float], focus: float, even: float = curriculum.UNIFORM
    ) -> dict[curriculum.Cell, float]:
        found = before(cells, focus, even)
        own = sum(value for (path, _), value in found.items() if path == skill)
        scale = {True: share / own, False: (1 - share) / (1 - own)}
        return {cell: value * scale[cell[0] == skill] for cell, value in found.items()}

    curriculum.shares = shares
    try:
        yield
    finally:
        curriculum.shares = before


def configuration(seed: int, cycles: int, folder: Path, given: dict[str, Any], *, protected: bool) -> Config:
    """A run on four skills that trains weights alone."""
    settings: dict[str, Any] = {
        "arm": "weights",
        "suite.skills": [RARE, *OTHERS],
        "suite.levels": list(LEVELS),
        "attempts.tasks": 192,
        "attempts.samples": 1,
        "attempts.direct": 2500,
        "learn.steps": 120,
        "learn.batch": 96,
        "gate.margin": MARGIN,
        "gate.min_n": 96,
        "gate.max_n": 1536 if protected else 96,
        "gate.confirm_n": 6144 if protected else 0,
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
        settings |= {"agent.path": str(agent)}
    return Config.load("small", settings | given).override(seed=seed, cycles=cycles)


def measured(
    seed: int, cycles: int, given: dict[str, Any], *, protected: bool
) -> tuple[list[float], float, int]:
    """The rare skill of the seed, the champion and the trained weights; its share of the attempts; promotions."""
    with tempfile.TemporaryDirectory() as name, rare(RARE, SHARE):
        folder = Path(name)
        path = start(configuration(seed, cycles, folder, given, protected=protected), folder / "run")
        with RunStore.open(path) as store:
            records = [entry.record for entry in store.entries()]
            began = records[0]
            assert isinstance(began, RunStarted), "a journal begins with the start of a run"
            state = snapshot.latest(store)
            assert state is not None, "a run that has ended has a snapshot"
            champions = Champions(store, Engine)
            base = champions.base(0)
            variants = (
                Champion("seed", began.weights),
                champions.newest(),
                Champion("trained", state.learner),
            )
            scores = [accuracy(champions.engine(base, each)) for each in variants]
    tallies = [tally for r in records if isinstance(r, Attempted) for tally in r.tallies]
    own = sum(tally.attempts for tally in tallies if tally.skill == RARE)
    promoted = sum(isinstance(r, Gated) and r.decision == "promote" for r in records)
    return scores, own / sum(tally.attempts for tally in tallies), promoted


def accuracy(engine: Engine) -> float:
    """Share of dev tasks of the rare skill that the bare policy's likeliest answer solves."""
    cells = [(RARE, level) for level in range(LEVELS[0], LEVELS[1] + 1) for _ in range(TASKS // LEVELS[1])]
    tasks = PRIMER.sample("dev", cells, "rare skill")
    told = engine.generate([task.prompt for task in tasks], max_tokens=24)
    right = [PRIMER.grade(task, each.text).success for task, each in zip(tasks, told, strict=True)]
    return sum(right) / len(right)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cycles", type=int, default=14)
    parser.add_argument(
        "--require", action="store_true", help="fail unless protection holds and its lack shows"
    )
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=JSON", help="another setting of the runs"
    )
    options = parser.parse_args()
    given = {key: json.loads(value) for key, _, value in (each.partition("=") for each in options.set)}
    held = 0
    down = {(protected, which): 0 for protected in (True, False) for which in ("champion", "trained weights")}
    still: list[int] = []
    print(f"{RARE}, {SHARE:.0%} of the attempts, {options.cycles} cycles, margin {MARGIN:g}", flush=True)
    for seed in range(options.first, options.first + options.seeds):
        for protected in (True, False):
            scores, share, promoted = measured(seed, options.cycles, given, protected=protected)
            before, champion, trained = scores
            for which, score in (("champion", champion), ("trained weights", trained)):
                down[protected, which] += before - score > MARGIN
            held += protected and promoted > 0 and before - champion <= MARGIN
            if protected and not promoted:
                still.append(seed)
            print(
                f"seed {seed} {'protected' if protected else 'unprotected':<12} seed {before:.3f}, champion "
                f"{champion:.3f} ({promoted} promotions), trained weights {trained:.3f}, n={TASKS}; "
                f"{share:.1%} of attempts",
                flush=True,
            )
    for protected, name in ((True, "protected"), (False, "unprotected")):
        fell = [f"{which} in {down[protected, which]}" for which in ("champion", "trained weights")]
        print(f"{name}: down by more than the margin: {', '.join(fell)} of {options.seeds} seeds")
    if still:
        print(
            f"protected: nothing was promoted in seeds {', '.join(map(str, still))}, so that these show nothing"
        )
    print(f"protected: promoted, and not down by more than the margin, in {held} of {options.seeds} seeds")
    lost = down[False, "trained weights"]
    return int(options.require and (held < options.seeds or 2 * lost < options.seeds))


if __name__ == "__main__":
    sys.exit(main())
