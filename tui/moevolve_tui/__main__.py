"""`python -m moevolve_tui [DIR]`: what `moevolve watch` runs."""

import argparse
import sys
from pathlib import Path

from moevolve_tui.app import main

parser = argparse.ArgumentParser(prog="python -m moevolve_tui", description="Watch a run in the terminal.")
parser.add_argument(
    "path", nargs="?", type=Path, help="the run's folder; the newest one under ./runs by default"
)
parser.add_argument("--wait", action="store_true", help="wait for a folder that does not exist yet")
options = parser.parse_args()
sys.exit(main(options.path, wait=options.wait))
