"""What an agent in a box costs, beside `python -c pass`, and whether agents of six libraries run, are metered and repeat.

    python benches/agents.py [--python VENV] [--rounds 7] [--runs] [--require]

Attempts are forked from an interpreter with the library imported (warm), and started with one of their own (cold), in turn
with the bare interpreter. `--python` names an interpreter or a virtual environment that has the libraries; what it lacks is
left out. `--runs` runs one cycle of 40 tasks on each agent besides, once with a better prompt proposed and once with a
worse one, and replays it without the model. `--require` exits with 1 if a warm attempt of the agent on `openai` takes more
than 10 times the bare interpreter, or a run does not do what it should.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/fixtures"))

from adding_endpoint import BAD, adding
from boxed import host
from boxed_run import FOREIGN, PROMPT, charged, configured, foreign, metered, policy, promoted

from moevolve.agents.box.interpreter import interpreter
from moevolve.agents.box.records import Repeats
from moevolve.agents.genome import Genome
from moevolve.agents.manifest import manifest_of
from moevolve.loop.run import replay, start
from moevolve.protocol.requests import PublicTask

MOST = 10.0
"""Bare interpreters that a warm attempt of the agent on `openai` may take."""


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def cold(files: Mapping[str, str]) -> dict[str, str]:
    """The same agent with an interpreter for each attempt."""
    lines = [line for line in files["agent.toml"].splitlines() if not line.startswith("import = ")]
    return {**files, "agent.toml": "\n".join(lines) + "\n"}


def attempt(files: Mapping[str, str]) -> Callable[[], float]:
    """Makes attempts of an agent, one at a time; the first has made what others are forked from."""
    boxes, genome, count = host(max_tokens=4096, tokens=10**6), Genome(files={**files, PROMPT: BAD}), [0]

    def once() -> float:
        count[0] += 1
        task = PublicTask(prompt=f"What is {count[0]} plus 1?", skill="adding/tasks")

        def work() -> None:
            [outcome] = boxes.solve(genome, [task], policy, None, [count[0]])
            if outcome.failure is not None:
                raise SystemExit(f"{outcome.failure}: {outcome.detail}")

        return timed(work)

    once()
    return once


def costs(files: Mapping[str, str], rounds: int) -> tuple[float, float, float]:
    """Seconds of the bare interpreter, of a warm and of a cold attempt: medians of rounds in turn."""
    program = interpreter(manifest_of(files).python).program
    is_class = manifest_of(files).kind == "class"
    bare = [program, "-c", "pass"]
    warm, slow = attempt(files), attempt(files if is_class else cold(files))
    rows = [(timed(lambda: subprocess.run(bare, check=True)), warm(), slow()) for _ in range(rounds)]
    first, second, third = (median(column) for column in zip(*rows, strict=True))
    return first, second, float("nan") if is_class else third


def ran(name: str, python: str | None, better: bool) -> tuple[str, bool]:
    """What became of a run and its replay, in words, and whether that is what should."""
    with tempfile.TemporaryDirectory() as folder:
        with adding() as server:
            config = configured(Path(folder), server, foreign(name, python), better=better)
            run = start(config, Path(folder) / "run")
            exact, calls = metered(run) == charged(server), server.calls
        repeats = Repeats()
        recorded, again = replay(run, Path(folder) / "again", repeats=repeats)
        decided = promoted(run)
    fine = exact and recorded == again and decided is better and repeats.graded == 0
    said = (
        f"{name:18} {'better' if better else 'worse ':6} prompt {'promoted' if decided else 'not promoted':12} "
        f"{calls:4} requests, metered {'exactly' if exact else 'WRONGLY'}, "
        f"{'the same head' if recorded == again else 'ANOTHER head'} without the model, "
        f"{repeats.executed} re-executed, {repeats.graded} re-graded, drift {repeats.drift}"
    )
    return said, fine


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", action="store_true")
    parser.add_argument("--require", action="store_true")
    parser.add_argument("names", nargs="*", help="of the agents; all of them by default")
    options = parser.parse_args()
    fine = True
    for name in options.names or sorted(folder.name for folder in FOREIGN.iterdir()):
        files = foreign(name, options.python)
        modules = manifest_of(files).preload
        program = interpreter(options.python).program
        if subprocess.run(
            [program, "-c", f"import {modules[0]}"], capture_output=True, check=False
        ).returncode:
            print(f"{name:18} left out: {program} has no {modules[0]}")
            continue
        bare, warm, slow = costs(files, options.rounds)
        print(
            f"{name:18} bare interpreter {bare * 1e3:.0f} ms; an attempt warm {warm / bare:.1f} x, cold {slow / bare:.1f} x "
            f"(n = {options.rounds})",
            flush=True,
        )
        fine &= name != "openai_script" or warm <= MOST * bare
        for better in (True, False) if options.runs else ():
            said, well = ran(name, options.python, better)
            print(said, flush=True)
            fine &= well
    return int(options.require and not fine)


if __name__ == "__main__":
    sys.exit(main())
