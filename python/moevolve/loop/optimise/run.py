"""Optimisation runs on disk: start one, go on with one, do one again.

A program is planned from what is on record, evaluated in any order, and put on record in the order of planning, in one
commit with the plan of a later one. What has been evaluated before its turn waits in a table: a run that was killed anywhere
makes no evaluation twice that had ended, and goes on to the record of the undisturbed run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from moevolve.errors import DivergedError, UsageError
from moevolve.journal import seal
from moevolve.journal.store import RunStore
from moevolve.loop.optimise import nulls
from moevolve.loop.optimise import settings as settings_
from moevolve.loop.optimise.driver import Driver, OnEvent, OnState
from moevolve.loop.optimise.search import hash_of
from moevolve.loop.optimise.settings import FOLDER, Settings
from moevolve.records import (
    Entry,
    Null,
    NullSearched,
    RunFinished,
    RunStarted,
    State,
)
from moevolve.tasks import folder as files
from moevolve.tasks.evaluators.folder import LARGEST_PROGRAM, EvaluatorFolder
from moevolve.tasks.evaluators.process import EvaluatorProcess


def start(
    folder: EvaluatorFolder,
    settings: Settings,
    out: Path,
    on_event: OnEvent | None = None,
    on_state: OnState | None = None,
    *,
    workers: int | None = None,
    interrupted: Callable[[], bool] | None = None,
) -> Path:
    """Runs an optimisation in the folder `out`; returns the folder.

    Args:
        folder: the evaluator's.
        settings: of the run.
        out: a folder that holds no run yet.
        workers: processes that evaluate at the same time; they change nothing but the time it takes.
        interrupted: see `Driver`.

    Raises:
        UsageError: the folder holds a run, the evaluator cannot be imported, or nobody would evaluate.
    """
    _some(workers)
    with EvaluatorProcess(folder, settings.limits) as process:
        process.start()
        initial = process.initial
    if (size := len(initial.encode())) > LARGEST_PROGRAM:
        raise UsageError(
            f"{folder.path / folder.evaluator}: the first candidate has {size} bytes, and may have {LARGEST_PROGRAM}"
        )
    with RunStore.create(out) as store:
        files.copy(folder.path, store.path / FOLDER)
        if initial:
            (store.path / FOLDER / folder.program).write_text(initial, encoding="utf-8")
        copied = settings.folder(store.path / FOLDER)
        copied = msgspec.structs.replace(copied, name=settings.name)
        began = RunStarted(
            run=settings.name,
            seed=settings.seed,
            arm="program",
            suite=settings.name,
            answers="any",
            skills=[],
            config=settings.canonical(),
            champion="v0",
            weights="",
            program=hash_of(copied, copied.initial()),
            parameters=0,
            grader=files.digest(store.path / FOLDER),
        )
        run = Driver(store, settings, copied, on_event, on_state, interrupted=interrupted)
        run.journal.write([began])
        return _to_the_end(run, store, settings, copied, workers)


def _to_the_end(
    run: Driver, store: RunStore, settings: Settings, folder: EvaluatorFolder, workers: int | None
) -> Path:
    """Evaluates, runs the nulls that were asked for, and ends the run, unless a pause holds."""

    def search(name: Null) -> NullSearched | None:
        def tell(state: State) -> None:
            run.tell(f"null {name}, {state.stage}", state.done)

        def begin(out: Path) -> None:
            chosen = nulls.settings_of(settings, name)
            start(folder, chosen, out, None, tell, workers=workers, interrupted=run.asked)

        def go_on(store: RunStore) -> None:
            resume(store, None, tell, workers=workers, interrupted=run.asked)

        return nulls.search(store.path, name, begin, go_on)

    names = nulls.NAMES if settings.nulls == "on" else ()
    if run.drive(workers) and run.nulls(names, search):
        run.finish()
    return store.path


def is_optimisation(store: RunStore) -> bool:
    """Whether a run's first record is an optimisation run's."""
    entries = store.entries(0, 1)
    record = entries[0].record if entries else None
    return isinstance(record, RunStarted) and settings_.from_canonical(record.config) is not None


def resume(
    store: RunStore,
    on_event: OnEvent | None = None,
    on_state: OnState | None = None,
    *,
    workers: int | None = None,
    interrupted: Callable[[], bool] | None = None,
) -> Path:
    """Goes on with a run that is open for writing; a finished one is left as it is.

    Raises:
        UsageError: the evaluator's files have changed, an older version decided by another rule, or nobody would evaluate.
    """
    _some(workers)
    settings, folder = on_record(store)
    last = store.entries(len(store) - 1, 1)[0].record
    if isinstance(last, RunFinished):
        if not seal.is_sealed(store.path):
            seal.write(store)
        return store.path
    _same_rule(settings, store)
    run = Driver(store, settings, folder, on_event, on_state, interrupted=interrupted)
    return _to_the_end(run, store, settings, folder, workers)


def on_record(store: RunStore) -> tuple[Settings, EvaluatorFolder]:
    """The settings and the evaluator of a run on record.

    Raises:
        UsageError: it is none, or the evaluator's files have changed.
    """
    began = store.entries(0, 1)[0].record
    settings = settings_.from_canonical(began.config) if isinstance(began, RunStarted) else None
    if not isinstance(began, RunStarted) or settings is None:
        raise UsageError(f"{store.path} is no optimisation run")
    if files.digest(store.path / FOLDER) != began.grader:
        raise UsageError(
            f"the files in {store.path / FOLDER} have changed since the run began: its scores would not compare; put them "
            "back, or start a new run"
        )
    folder = settings.folder(store.path / FOLDER)
    return settings, msgspec.structs.replace(folder, name=settings.name)


def _some(workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} processes evaluate nothing: it takes 1 at least")


def _same_rule(settings: Settings, store: RunStore) -> None:
    if settings.decisions != settings_.DECISIONS:
        raise UsageError(
            f"{store.path} was made by an older version, which decided by another rule: it can be read and audited, and "
            "neither gone on with nor done again"
        )


def replay(
    source: RunStore, scratch: Path, on_event: OnEvent | None = None, on_state: OnState | None = None
) -> tuple[str, str]:
    """Does a run again in the empty folder `scratch`, as far as it came; returns both heads.

    Evaluations are not made again: what they said is on record. What operators propose is computed again, and a user's own
    proposer is not asked.

    Raises:
        DivergedError: a record differs.
        UsageError: an older version decided by another rule.
    """
    settings, folder = on_record(source)
    _same_rule(settings, source)
    entries = source.entries()

    def compare(entry: Entry) -> None:
        if entry.seq >= len(entries) or entry.record != entries[entry.seq].record:
            there = type(entries[entry.seq].record).__name__ if entry.seq < len(entries) else "nothing"
            raise DivergedError(
                f"replay differs at record {entry.seq}: on file {there}, now {type(entry.record).__name__}"
            )
        if on_event is not None:
            on_event(entry)

    with RunStore.create(scratch) as store:
        files.copy(source.path / FOLDER, store.path / FOLDER)
        run = Driver(store, settings, folder, compare, on_state, source)
        run.journal.write([entries[0].record])
        records = [entry.record for entry in entries]
        on_file = [record.null for record in records if isinstance(record, NullSearched)]
        run.again(source, records)
        run.nulls(on_file, lambda name: _null_again(source.path, store.path, name))
        if isinstance(records[-1], RunFinished):
            run.finish()
        return source.head(), store.head()


def _null_again(source: Path, scratch: Path, name: Null) -> NullSearched:
    """A null done again; errors as of `replay`."""
    nulls.folder(scratch, name).parent.mkdir(exist_ok=True)
    with RunStore.open(nulls.folder(source, name)) as recorded:
        replay(recorded, nulls.folder(scratch, name))
    return nulls.searched(scratch, name)
