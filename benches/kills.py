"""A run killed with -9 at random moments and resumed each time ends with the journal head of the undisturbed run.

    python benches/kills.py --seed 77 --cycles 3 --kills 10

Runs the preset once undisturbed and once under kills, compares the heads, and replays the first. The moments are drawn
from the seed over the time that the undisturbed run took. Exit code 1 where heads differ or fewer kills hit.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MOEVOLVE = [sys.executable, "-m", "moevolve.cli.main"]


def head(folder: Path) -> str:
    """The journal's newest link."""
    from moevolve.journal.store import RunStore

    with RunStore.open(folder) as store:
        return store.head()


def under_kills(start: list[str], folder: Path, kills: int, seconds: float, draw: random.Random) -> int:
    """Runs to the end with kills on the way; returns how many hit."""
    hits = 0
    command = start
    while True:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if hits < kills:
            try:
                process.wait(draw.uniform(0.3, 1.5 * seconds / kills))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                hits += 1
                print(f"  kill {hits} of {kills}", file=sys.stderr, flush=True)
                began = (folder / "journal").is_dir()
                command = [*MOEVOLVE, "resume", str(folder), "--display", "none"] if began else start
                continue
        if process.wait() != 0:
            raise SystemExit(f"the run failed: {' '.join(command)} gave {process.returncode}")
        return hits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="quickstart")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--cycles", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        whole, cut = Path(scratch) / "whole", Path(scratch) / "cut"

        def start(folder: Path) -> list[str]:
            limits = ["--seed", str(options.seed), "--cycles", str(options.cycles)]
            return [*MOEVOLVE, "run", options.preset, *limits, "--out", str(folder), "--display", "none"]

        began = time.monotonic()
        subprocess.run(start(whole), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.monotonic() - began
        hits = under_kills(start(cut), cut, options.kills, seconds, random.Random(options.seed))
        replayed = subprocess.run(
            [*MOEVOLVE, "replay", str(whole), "--display", "none"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        same = head(whole) == head(cut)
        print(f"undisturbed in {seconds:.0f} s: {head(whole)[:16]}; under {hits} kills: {head(cut)[:16]}")
        print(f"heads {'equal' if same else 'DIFFER'}; replay: {replayed.stdout.strip().splitlines()[-1:]}")
        return int(not same or replayed.returncode != 0 or hits < options.kills)


if __name__ == "__main__":
    raise SystemExit(main())
