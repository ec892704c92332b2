"""The runs that are watched: found under folders or named, known by their first entry, read one piece after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from moevolve.errors import MoevolveError
from moevolve.journal.store import RunStore, list_runs
from moevolve_tui.model import Folder, Probe, RunModel, file_probe

SCAN_SECONDS = 2.0
"""Time between two looks for new runs."""
MOST_RUNS = 200
"""Most runs of a session: the newest."""


def open_run(path: Path) -> Folder:
    """The run in `path`, for reading."""
    return RunStore.open(path)


class Session:
    """Any number of runs, one of which is looked at.

    Args:
        named: folders of runs, or in which a run may start.
        roots: folders under which runs are looked for.
        opener: opens a run for reading.
        probe: tells journals apart; see `RunModel`.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        named: Sequence[Path] = (),
        roots: Sequence[Path] = (),
        opener: Callable[[Path], Folder] = open_run,
        probe: Probe = file_probe,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.roots = list(roots)
        self.opener, self.probe = opener, probe
        self.runs: list[RunModel] = []
        self.current: RunModel | None = None
        self.chosen = bool(named)
        """Whether a person, not the clock, decided which run is looked at."""
        self.replay: RunModel | None = None
        """What is shown instead of the run that is looked at."""
        self.marked: set[Path] = set()
        self._clock = clock
        self._looked = float("-inf")
        self._turn = 0
        for path in named:
            self.add(path)
        if named:
            self.current = self.runs[0]

    def add(self, path: Path) -> RunModel:
        """Takes a run in."""
        model = RunModel(path, self.opener, self.probe)
        self.runs = [*self.runs, model]
        return model

    def look(self, model: RunModel) -> None:
        """Makes a run the one that is looked at."""
        self.current, self.chosen = model, True

    def scan(self) -> bool:
        """Looks for runs under the roots; returns whether there are new ones. A newer run is looked at by itself only
        while nobody chose one."""
        self._looked = self._clock()
        found: dict[Path, float] = {}
        for root in self.roots:
            try:
                for path in list_runs(root) if root.is_dir() else []:
                    found[path] = _written(path)
            except (MoevolveError, OSError):
                continue
        known = {model.path.absolute() for model in self.runs}
        newest = sorted(found, key=lambda path: found[path])[-MOST_RUNS:]
        fresh = [path for path in newest if path.absolute() not in known]
        for path in fresh:
            self.add(path)
        if fresh and not self.chosen:
            self.current = self.runs[-1]
        return bool(fresh)

    def step(self) -> tuple[bool, bool]:
        """Reads one piece: of the run that is looked at first, then of the others in turn. Returns whether something
        changed, and whether more is on file."""
        changed = self._clock() - self._looked >= SCAN_SECONDS and self.scan()
        more = False
        if self.replay is not None:
            new, more = self.replay.advance()
            changed |= new
        if self.current is not None and not more:
            new, more = self.current.advance()
            changed |= new
        if not more:
            others = [model for model in self.runs if model is not self.current and not model.hopeless]
            if others:
                self._turn = (self._turn + 1) % len(others)
                # One of the others a step; while there is news, the next one at once.
                new, rest = others[self._turn].advance()
                changed, more = changed or new, new or rest
        return changed, more

    def newest(self) -> list[RunModel]:
        """The runs, the newest first."""
        return self.runs[::-1]

    def marked_runs(self) -> list[RunModel]:
        return [model for model in self.runs if model.path in self.marked]

    def close(self) -> None:
        for model in self.runs:
            model.close()


def _written(run: Path) -> float:
    try:
        return (run / "journal" / "data.mdb").stat().st_mtime
    except OSError:
        return 0.0
