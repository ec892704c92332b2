"""Records and processes for the store's tests. Run as a program it is a writer that a test can kill."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from moevolve.journal.store import RunStore
from moevolve.records import CycleStarted, Lesson, Record, RunFinished, RunStarted, State, Status, Timing

TIMING = Timing(at=1.5, took=0.25)


def started() -> RunStarted:
    return RunStarted(
        run="r",
        seed=1,
        arm="full",
        suite="primer",
        answers="policy",
        skills=[],
        config="{}",
        champion="v0",
        weights="w",
        program="p",
        parameters=1,
    )


def cycles(numbers: Iterable[int]) -> list[Record]:
    return [CycleStarted(cycle=number, champion=f"v{number}") for number in numbers]


def finished() -> RunFinished:
    return RunFinished(cycles=3, champion="v3")


def state(status: Status = "running", *, stage: str = "cycle 1/3: gate", error: str | None = None) -> State:
    return State(status=status, pid=os.getpid(), stage=stage, done=0.5, seconds=2.0, eta=2.0, error=error)


def lesson(id: str, text: str = "", *, skill: str = "text/reverse", run: str = "r", cycle: int = 1) -> Lesson:
    return Lesson(
        id=id,
        skill=skill,
        level=1,
        text=text,
        prompt=text,
        answer="",
        success=True,
        run=run,
        cycle=cycle,
        variant="v0",
    )


def start_writer(path: Path, *, entries: int) -> subprocess.Popen[str]:
    """A process that holds the run in `path` open for writing, after it has appended `entries` records."""
    writer = subprocess.Popen(
        [sys.executable, __file__, str(path), str(entries)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "written\n"
    return writer


def main(path: Path, entries: int) -> None:
    with RunStore.create(path) as store:
        store.append(cycles(range(entries)), TIMING)
        store.set_state(state())
        print("written", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
