"""`moevolve-tui [DIR ...]` and `python -m moevolve_tui`: what `moevolve watch` runs."""

import argparse
import sys
from pathlib import Path

from moevolve_tui.main import main


def run() -> int:
    parser = argparse.ArgumentParser(prog="moevolve-tui", description="Watch runs in the terminal.")
    parser.add_argument(
        "path", nargs="*", type=Path, help="run folders, or folders of runs; those under ./runs by default"
    )
    parser.add_argument("--wait", action="store_true", help="wait for a folder that does not exist yet")
    options = parser.parse_args()
    return main(options.path or None, wait=options.wait)


if __name__ == "__main__":
    sys.exit(run())
