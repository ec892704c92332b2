"""What each part of the loop is worth: every arm at the same minutes and seeds, side by side.

    python benches/arms.py --seeds 11,12,13 --minutes 5 --arms full,weights,program,alternate,random-edits,hill-climb

Runs one after another with the quickstart preset, keeps their folders, and ends with `moevolve compare --arms`: means over
seeds with intervals. Beside the loop's arms there are two nulls of the search: `random-edits` proposes without asking the
policy first and changes any variant; `hill-climb` makes one candidate at a time of the champion. Every run's report has two
nulls of the budget besides, self-consistency and best-of-N (`nulls`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

NULLS = {
    "random-edits": ["selection.policy=random", "roles.improver.requests=0"],
    "hill-climb": ["selection.policy=best", "evolve.candidates=1", "evolve.generations=8"],
}
"""Nulls of the search, as settings of arm `program`."""
MOEVOLVE = [sys.executable, "-m", "moevolve.cli.main"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="11,12,13")
    parser.add_argument("--arms", default="full,weights,program,alternate,random-edits,hill-climb")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=Path("runs/arms"))
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    options = parser.parse_args()
    folders = []
    for seed in options.seeds.split(","):
        for arm in options.arms.split(","):
            out = options.out / f"{arm}-{seed}"
            folders.append(out)
            if (out / "journal").is_dir():
                # Begun by an earlier call: go on with it, or find it finished.
                command = [*MOEVOLVE, "resume", str(out)]
            else:
                settings = [f"name={arm}", *NULLS[arm]] if arm in NULLS else []
                limits = ["--seed", seed, "--arm", "program" if arm in NULLS else arm]
                limits += [
                    "--minutes",
                    str(options.minutes),
                    *(x for each in settings for x in ("--set", each)),
                ]
                command = [*MOEVOLVE, "run", "quickstart", *limits, "--out", str(out)]
            print(f"==> {arm}, seed {seed}: {options.minutes:g} minutes", file=sys.stderr, flush=True)
            subprocess.run([*command, "--display", "none"], check=True, stdout=subprocess.DEVNULL)
    compare = [*MOEVOLVE, "compare", "--arms", *map(str, folders), *(["--json"] if options.json else [])]
    return subprocess.run(compare, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
