"""The Python face of a run: `evolve` starts one, `Run` watches it and reads it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from moevolve.agents.box.records import Repeats
from moevolve.config import Config
from moevolve.config.source import flat, limits, policy_settings, preset_of
from moevolve.errors import UsageError
from moevolve.journal.archive import Archive
from moevolve.journal.lessons import MemoryStore, Query, memory_folder
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.loop import run as runs
from moevolve.loop.limits import Extension
from moevolve.loop.replayed import Replayed, replayed
from moevolve.loop.skill_export import export_skills, tree_of
from moevolve.records import Arm, Entry, Interval, Lesson, RunStarted, State
from moevolve.report.audited import audited as audit
from moevolve.tasks.agent_skills.suite import write as write_suite
from moevolve.tasks.agent_skills.tree import Leaf, imported
from moevolve.tasks.suite import own_settings

HEARS = 0.2
"""Seconds between looks for Ctrl-C while the caller waits: one that comes just before a wait does not end it."""


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
            MoevolveError: what ended a run that is driven here early; a user's code raises whatever it raised.
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
            MoevolveError: what ended the run early; a user's code raises whatever it raised.
        """
        if self._worker is not None:
            while self._worker.is_alive():
                self._worker.join(HEARS)
            self._worker.check()
        return self

    def stop(self) -> Run:
        """Ends a run that is driven here, in order, at its next safe point, and waits for that.

        What is on record stays; `mv.resume` goes on with it. A run that has ended is left as it is.

        Raises:
            UsageError: another process drives the run.
            MoevolveError: what ended it before.
        """
        if self._worker is None:
            raise UsageError(f"{self.path} is not driven here: `moevolve stop {self.path}` asks for its end")
        self._worker.stop()
        return self.wait()

    def put_forward(self, agent: str | Path) -> int:
        """Puts a program from elsewhere among the next generation's candidates; the request's number.

        Args:
            agent: the program's folder. It is checked, screened and gated like any other candidate.

        Raises:
            UsageError: no program is there, or it changes what the run's agent freezes.
        """
        from moevolve.loop.importing import put_forward

        return put_forward(self.path, Path(agent))

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
    def skills(self) -> list[Leaf]:
        """The skill tree, what it grew included: levels, mastery with intervals, sealed scores."""
        with RunStore.open(self.path) as store:
            return tree_of(store)

    def export_skills(self, out: str | Path) -> list[str]:
        """Writes the skill tree as folders of Agent Skills into the new folder `out`; returns the files' names.

        Raises:
            UsageError: something is there.
        """
        with RunStore.open(self.path) as store:
            return export_skills(store, Path(out))

    def roll_back(self, change: str) -> Entry | None:
        """Takes back a change of the skill tree, such as `g003`, and whatever builds on it: at once of a run that has ended,
        which returns the record; another one takes it up between two stages.

        Raises:
            UsageError: the change is not in force.
        """
        return runs.roll_back(self.path, change)

    @property
    def summary(self) -> dict[str, object]:
        """What `moevolve show --json` prints."""
        from moevolve.report.optimisation import figures_of

        with RunStore.open(self.path) as store:
            return figures_of(store)


class RunMemory:
    """The lessons of one run."""

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self._run = run

    def search(self, text: str, k: int = 8, skill: str | None = None) -> list[Lesson]:
        """The `k` lessons nearest to `text`, best first."""
        hits = MemoryStore(self._path).search(Query(text=text, skill=skill, run=self._run, k=k))
        return [hit.lesson for hit in hits]


class _Worker(threading.Thread):
    """Drives a run beside the caller's thread.

    Args:
        out: the run's folder.
        drive: does the work; it is given who hears of records and of states.
        recorded: whether the run has records from before.
    """

    def __init__(
        self, out: Path, drive: Callable[[runs.OnEvent, runs.OnState], object], *, recorded: bool
    ) -> None:
        super().__init__(name=f"moevolve {out.name}", daemon=True)
        self.begun = threading.Event()
        """Set once the run has a record and is under way, or has ended."""
        self._out = out
        self._recorded = recorded
        self._drive = drive
        self._more = threading.Condition()
        self._ended = False
        self._stopping = False
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._drive(self._event, self._state)
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001  raised again for whoever waits
            self._error = error
        finally:
            self._ended = True
            self._wake()

    def stop(self) -> None:
        self._stopping = True

    def entries(self) -> Iterator[Entry]:
        """Entries from the first to the run's end, read from its folder as they come."""
        cursor = 0
        while True:
            with self._more:
                ended = self._ended
                fresh = self._read(cursor)
                if not fresh and not ended:
                    while not self._more.wait(HEARS):
                        pass
            yield from fresh
            cursor += len(fresh)
            if ended:
                return

    def check(self) -> None:
        """Raises what ended the run early."""
        if self._error is not None:
            raise self._error

    def _read(self, cursor: int) -> list[Entry]:
        with RunStore.open(self._out) as store:
            return store.entries(cursor)

    def _event(self, entry: Entry) -> None:
        self._wake()
        self._stop_here()

    def _state(self, state: State) -> None:
        if self._recorded:
            self.begun.set()
        if state.status == "running":
            self._stop_here()

    def _wake(self) -> None:
        self.begun.set()
        with self._more:
            self._more.notify_all()

    def _stop_here(self) -> None:
        """Ends the work, once, where everything done so far is on record or can be done again."""
        if self._stopping:
            self._stopping = False
            raise _Stopped


class _Stopped(KeyboardInterrupt):
    """The owner of a run has ended it, as Ctrl-C does for a command."""


def evolve(
    preset: str | Path | None = None,
    *,
    out: str | Path,
    seed: int | None = None,
    cycles: int | None = None,
    minutes: float | None = None,
    arm: Arm | None = None,
    model: str | Path | None = None,
    endpoint: str | None = None,
    key_env: str | None = None,
    device: str | None = None,
    suite: str | Path | None = None,
    agent: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Run:
    """A new run, which goes on beside the caller.

    Args:
        preset: a preset's name or a TOML file; None takes `quickstart`, `real` with a model, or `endpoint` with one.
        out: the run's folder; it must not hold a run yet.
        seed: the one number that all draws come from.
        cycles: how many cycles to run; the preset's number and time limit when None.
        minutes: time limit instead of a number of cycles.
        arm: which parts of the loop are on.
        model: what the run starts from, a checkpoint's folder, a GGUF file, or a run, whose champion's weights are copied;
            with an endpoint its name of the model.
        endpoint: address of an OpenAI-compatible server that answers, up to its /v1.
        key_env: the environment variable that holds its key.
        device: what computes a model here: cpu, cuda:N or auto.
        suite: the tasks: the name of a suite that ships, a folder with tasks.jsonl, or a Python file with skills.
        agent: what the program starts as: a folder with a solve.py.
        settings: any other key of a run file, dotted (`{"gate.alpha": 0.05}`) or in tables (`{"gate": {"alpha": 0.05}}`).

    Raises:
        UsageError: unknown preset or arm, no such model, or the folder holds a run.
        ConfigError: a file or setting that cannot be used.
    """
    given = (
        policy_settings(model, endpoint, key_env, device=device)
        | own_settings(suite, agent)
        | flat(settings or {})
        | limits(cycles, minutes)
    )
    config = Config.load(preset if preset is not None else preset_of(model, endpoint), given)
    config = config.override(seed=seed, cycles=cycles, minutes=minutes, arm=arm)
    folder = Path(out)
    return _begun(folder, lambda event, state: runs.start(config, folder, event, state))


def resume(path: str | Path, *, cycles: int | None = None, minutes: float | None = None) -> Run:
    """A run on disk that goes on beside the caller, to the end it would have had, or beyond it.

    Args:
        path: the run's folder; its skills are those that this program defines, where they are a program's.
        cycles: so many more cycles, also of a run that has finished.
        minutes: so many more minutes from now on.

    Raises:
        UsageError: no run there, or its settings file was changed, or its skills are not here.
        StoreBusyError: another process writes the run.
    """
    folder = Path(path)
    more = None if cycles is None and minutes is None else Extension(cycles=cycles, minutes=minutes)
    with RunStore.open(folder) as store:
        recorded = len(store) > 0
    return _begun(
        folder, lambda event, state: runs.resume(folder, event, state, more=more), recorded=recorded
    )


def replay(path: str | Path, *, keep: str | Path | None = None, execute: bool = True) -> Replayed:
    """What becomes of a run that is done again: both journals' heads, and whether they are equal.

    Args:
        path: the run's folder; its skills are those that this program defines, where they are a program's.
        keep: an empty folder to do it in, which stays; a temporary one when None.
        execute: run agents in boxes again; false takes their answers from the record and judges them again.

    Raises:
        UsageError: there is nothing to replay, or its skills are not here.
    """
    repeats = Repeats(execute=execute)

    def again(source: Path, scratch: Path) -> tuple[str, str]:
        return runs.replay(source, scratch, repeats=repeats)

    return replayed(Path(path), None if keep is None else Path(keep), again, repeats)


def import_skills(source: str | Path, out: str | Path) -> list[Leaf]:
    """Skills from folders of Agent Skills, whose examples become the tasks of a suite in the new folder `out`.

    Args:
        source: a skill's folder, or a folder of such.
        out: what `suite=` takes from then on.

    Raises:
        UsageError: a folder cannot be used, or no skill has enough examples, or something is in `out`.
    """
    found = imported(Path(source))
    write_suite(found, Path(out))
    return [each.leaf for each in found]


def _begun(
    folder: Path, drive: Callable[[runs.OnEvent, runs.OnState], object], *, recorded: bool = False
) -> Run:
    """A run that has a record and is under way; what went wrong before that is raised."""
    worker = _Worker(folder, drive, recorded=recorded)
    worker.start()
    worker.begun.wait()
    worker.check()
    return Run(folder, worker)


__all__ = ["Replayed", "Run", "RunMemory", "audit", "evolve", "import_skills", "replay", "resume"]
