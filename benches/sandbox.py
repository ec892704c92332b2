"""What the sandbox costs: a cold start beside a bare interpreter's with the same flags, an attempt apart beside a batch's.

    python benches/sandbox.py [--rounds 25] [--attempts 96] [--quickstart] [--require]

Both sides run in turn. `--quickstart` runs one cycle of that preset besides and tells which share of its time went by while
a sandboxed process was started, heard or ended: programs' own work included, and beside the policy, so that it is an upper
bound. `--require` exits with 1 if a cold start with one attempt takes more than 1.5 times the bare start, an attempt of
its own more than 5 ms over one of a batch, or the share is more than 5 %.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from moevolve.agents.genome import Genome
from moevolve.agents.host import ProgramHost
from moevolve.agents.process import ENVIRONMENT, FLAGS, Process
from moevolve.agents.readable import interpreter_files
from moevolve.config import Config
from moevolve.config.schema import SandboxSection
from moevolve.loop.run import start
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import GenerateRequest, PublicTask

GENOME = Genome(
    files={"solve.py": "async def solve(task, agent):\n    return (await agent.generate(task.prompt)).text\n"}
)


def policy(requests: list[GenerateRequest]) -> list[list[Completion]]:
    return [[Completion("x", [], [], "stop")] * request.n for request in requests]


def bare() -> None:
    command = [interpreter_files().interpreter, *FLAGS, "-c", "pass"]
    subprocess.run(command, env=dict(ENVIRONMENT), stdin=subprocess.DEVNULL, check=True)


def attempts(host: ProgramHost, count: int) -> Callable[[], None]:
    tasks = [PublicTask(prompt=f"rev:{index}=", skill="text/reverse") for index in range(count)]

    def run() -> None:
        outcomes = host.solve(GENOME, tasks, policy, None, list(range(count)))
        if any(outcome.answer != "x" for outcome in outcomes):
            raise SystemExit(f"an attempt failed: {outcomes[0].failure} {outcomes[0].detail}")

    return run


def share() -> tuple[float, float, int]:
    """(seconds of a quickstart's first cycle, seconds in sandboxed processes, how many of these)."""
    spent: list[float] = []
    count = 0

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            nonlocal count
            count += method is started
            began = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                spent.append(time.perf_counter() - began)

        return run

    started = Process.__init__
    for name in ("__init__", "receive", "send", "close"):
        setattr(Process, name, timed(getattr(Process, name)))
    config = Config.load("quickstart").override(seed=11, cycles=1)
    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        start(config, Path(scratch) / "run")
        return time.perf_counter() - began, sum(spent), count


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--attempts", type=int, default=96)
    parser.add_argument("--quickstart", action="store_true")
    parser.add_argument("--require", action="store_true")
    options = parser.parse_args()
    batch = ProgramHost(None, SandboxSection())
    apart = ProgramHost(None, SandboxSection(isolation="attempt"))
    sides = {
        "bare": bare,
        "one": attempts(batch, 1),
        "batch": attempts(batch, options.attempts),
        "apart": attempts(apart, options.attempts),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(options.rounds + 1):
        for name, run in sides.items():
            began = time.perf_counter()
            run()
            if turn:  # The first round fills caches.
                seconds[name].append(time.perf_counter() - began)
    bare_start, one, together, each = (median(seconds[name]) for name in sides)
    extra = (each - together) / options.attempts * 1e3
    print(f"cold start with one attempt: {one / bare_start:.2f}x of a bare start ({bare_start * 1e3:.1f} ms)")
    print(f"{options.attempts} attempts of a batch: {together / bare_start:.2f}x of a bare start")
    print(f"an attempt in a process of its own: {extra:.2f} ms more than in a batch")
    part = 0.0
    if options.quickstart:
        whole, inside, count = share()
        part = inside / whole
        print(
            f"a quickstart's first cycle: {whole:.0f} s, of which {inside:.1f} s ({part:.1%}) in {count} sandboxed processes"
        )
    return int(options.require and (one > 1.5 * bare_start or extra > 5.0 or part > 0.05))


if __name__ == "__main__":
    sys.exit(main())
