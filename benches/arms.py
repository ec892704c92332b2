"""What each part of the loop is worth: every arm at the same minutes and seeds, side by side.

    python benches/arms.py --seeds 11,12,13 --minutes 5 --arms full,weights,program,random-reward,sft

Runs one after another with the quickstart preset, keeps their folders, and ends with `moevolve compare`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

MOEVOLVE = [sys.executable, "-m", "moevolve.cli.main"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="11,12,13")
    parser.add_argument("--arms", default="full,weights,program,random-reward,sft")
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
                limits = ["--seed", seed, "--arm", arm, "--minutes", str(options.minutes)]
                command = [*MOEVOLVE, "run", "quickstart", *limits, "--out", str(out)]
            print(f"==> {arm}, seed {seed}: {options.minutes:g} minutes", file=sys.stderr, flush=True)
            subprocess.run([*command, "--display", "none"], check=True, stdout=subprocess.DEVNULL)
    compare = [*MOEVOLVE, "compare", *map(str, folders), *(["--json"] if options.json else [])]
    return subprocess.run(compare, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
