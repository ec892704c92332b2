"""The Python face of a run: `evolve` starts one, `Run` watches it and reads it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from moevolve.config import Config
from moevolve.errors import MoevolveError, UsageError
from moevolve.journal.archive import Archive
from moevolve.journal.reader import read
from moevolve.journal.store import MemoryStore, RunStore, memory_folder
from moevolve.loop import run as runs
from moevolve.records import Arm, Entry, Interval, Lesson, RunStarted
from moevolve.report.audited import audited as audit
from moevolve.report.summary import figures_of


class Run:
    """A run: iterate it for its journal entries as they come, or `wait` for its end.

    Args:
        path: the run's folder.
        worker: the thread that drives it; None for a run that is only read.
    """

    def __init__(self, path: Path, worker: _Worker | None = None) -> None:
        self.path = path
        self._worker = worker

    @classmethod
    def attach(cls, path: str | Path) -> Run:
        """A run on disk, live or finished."""
        with RunStore.open(Path(path)):
            return cls(Path(path))

    def __iter__(self) -> Iterator[Entry]:
        """Entries from the first on. Of a run driven here, until its end; of an attached one, those on file now.

        Raises:
            MoevolveError: what ended a run that is driven here early.
        """
        if self._worker is not None:
            yield from self._worker.entries()
            self._worker.check()
            return
        with RunStore.open(self.path) as store:
            yield from store.entries()

    def wait(self) -> Run:
        """Blocks until the run has ended.

        Raises:
            MoevolveError: what ended the run early.
        """
        if self._worker is not None:
            self._worker.join()
            self._worker.check()
        return self

    @property
    def champion(self) -> str:
        """The current champion's name in the archive."""
        with RunStore.open(self.path) as store:
            return read(store).view.champion

    @property
    def score(self) -> Interval | None:
        """The newest score: the sealed one at the end, the dev one while it runs."""
        with RunStore.open(self.path) as store:
            curve = read(store).view.curve
        return curve[-1].score if curve else None

    @property
    def archive(self) -> Archive:
        """Every variant so far, with its lineage."""
        with RunStore.open(self.path) as store:
            return read(store).archive()

    @property
    def memory(self) -> RunMemory:
        """The run's lessons."""
        with RunStore.open(self.path) as store:
            first = store.entries(0, 1)
        if not first or not isinstance(first[0].record, RunStarted):
            raise UsageError(f"{self.path} holds no record yet")
        return RunMemory(memory_folder(self.path), first[0].record.run)

    @property
    def summary(self) -> dict[str, object]:
        """What `moevolve show --json` prints."""
        with RunStore.open(self.path) as store:
            return figures_of(store)


class RunMemory:
    """The lessons of one run."""

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self._run = run

    def search(self, text: str, k: int = 8, skill: str | None = None) -> list[Lesson]:
        """The `k` lessons nearest to `text`, best first."""
        return MemoryStore(self._path).search(text, skill, k, run=self._run)


class _Worker(threading.Thread):
    """Drives a run beside the caller's thread."""

    def __init__(self, config: Config, out: Path) -> None:
        super().__init__(name=f"moevolve {out.name}", daemon=True)
        self.started = threading.Event()
        self._more = threading.Condition()
        self._entries = 0
        self._ended = False
        self._config = config
        self._out = out
        self._error: MoevolveError | None = None

    def run(self) -> None:
        def on_event(entry: Entry) -> None:
            self.started.set()
            with self._more:
                self._entries = entry.seq + 1
                self._more.notify_all()

        try:
            runs.start(self._config, self._out, on_event, None)
        except MoevolveError as error:
            self._error = error
        finally:
            self.started.set()
            with self._more:
                self._ended = True
                self._more.notify_all()

    def entries(self) -> Iterator[Entry]:
        """Entries from the first to the run's end, read from its folder as they come."""
        cursor = 0
        while True:
            with self._more:
                while not self._ended and self._entries == cursor:
                    self._more.wait()
                ready = self._entries
            if ready == cursor:
                return
            with RunStore.open(self._out) as store:
                yield from store.entries(cursor, ready - cursor)
            cursor = ready

    def check(self) -> None:
        if self._error is not None:
            raise self._error


def evolve(
    preset: str | Path,
    *,
    out: str | Path,
    seed: int | None = None,
    cycles: int | None = None,
    minutes: float | None = None,
    arm: Arm | None = None,
    model: str | Path | None = None,
) -> Run:
    """Starts a run and returns at once.

    Args:
        preset: a preset's name or a TOML file.
        out: the run's folder; it must not hold a run yet.
        seed: the one number that all draws come from.
        cycles: how many cycles to run; the preset's number and time limit when None.
        minutes: time limit instead of a number of cycles.
        arm: which parts of the loop are on.
        model: what the run starts from, a checkpoint's folder or a GGUF file; what the preset says when None.

    Raises:
        UsageError: unknown preset or arm, or the folder holds a run.
        ConfigError: the file cannot be used.
    """
    settings = {} if model is None else {"policy.checkpoint": str(Path(model).resolve())}
    config = Config.load(preset, settings).override(seed=seed, cycles=cycles, minutes=minutes, arm=arm)
    worker = _Worker(config, Path(out))
    worker.start()
    worker.started.wait()
    worker_error = worker._error
    if worker_error is not None:
        raise worker_error
    return Run(Path(out), worker)


__all__ = ["Run", "RunMemory", "audit", "evolve"]
