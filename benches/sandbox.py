"""What the sandbox costs: a cold start beside a bare interpreter's with the same flags, an attempt apart beside a batch's.

    python benches/sandbox.py [--rounds 25] [--attempts 96] [--require]

Both sides run in turn. `--require` exits with 1 if a cold start with one attempt takes more than 1.5 times the bare start,
or an attempt of its own more than 5 ms over one of a batch.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

from moevolve.agents.genome import Genome
from moevolve.agents.host import ProgramHost
from moevolve.agents.process import ENVIRONMENT, FLAGS
from moevolve.agents.readable import interpreter_files
from moevolve.config.schema import SandboxSection
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


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--attempts", type=int, default=96)
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
    start, one, together, each = (median(seconds[name]) for name in sides)
    extra = (each - together) / options.attempts * 1e3
    print(f"cold start with one attempt: {one / start:.2f}x of a bare start ({start * 1e3:.1f} ms)")
    print(
        f"{options.attempts} attempts of a batch: {together / start:.2f}x; each in a process of its own: {extra:.2f} ms more"
    )
    return int(options.require and (one > 1.5 * start or extra > 5.0))


if __name__ == "__main__":
    sys.exit(main())
