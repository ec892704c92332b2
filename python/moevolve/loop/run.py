"""Runs on disk: start one, resume one, do one again."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from moevolve.agents.box.records import Repeats
from moevolve.agents.process import in_force
from moevolve.config import Config
from moevolve.errors import DivergedError, SpendingLimitError, UsageError
from moevolve.journal import seal
from moevolve.journal.control import Inbox, Request
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.journal.writer import JournalWriter
from moevolve.loop import cycle as cycles
from moevolve.loop import limits, own_model, resolve, twin
from moevolve.loop import snapshot as snapshots
from moevolve.loop.context import RunContext
from moevolve.loop.control import Stopped
from moevolve.loop.estimate import engine as estimates
from moevolve.loop.limits import Extension, StopRule
from moevolve.loop.opening import TRANSCRIPTS, closing, opened, settled, source_of
from moevolve.loop.optimise import run as optimisation
from moevolve.loop.session import session
from moevolve.loop.settings import SETTINGS, refuse_changes
from moevolve.loop.stages.attend import attend
from moevolve.models.engine import Engine
from moevolve.records import Entry, RunStarted, State

if TYPE_CHECKING:
    from moevolve.loop.opening import Source

OnEvent = Callable[[Entry], None]
OnState = Callable[[State], None]
OnEstimate = Callable[[estimates.Estimate], None]


def start(
    config: Config,
    out: Path,
    on_event: OnEvent | None = None,
    on_state: OnState | None = None,
    on_estimate: OnEstimate | None = None,
) -> Path:
    """Runs a new experiment in the folder `out`; returns the folder.

    Args:
        config: the configuration.
        out: a folder that holds no run yet.
        on_event: told every record.
        on_state: told what is being done.
        on_estimate: told what the run will take, before it starts; without it nothing is estimated.

    Raises:
        UsageError: the folder holds a run already, or the configuration cannot be used, or the run does not fit in
            memory or time where an estimate is asked for.
        CheckpointError: the policy's checkpoint cannot be loaded.
    """
    with ExitStack() as stack:
        exporting = stack.enter_context(ExitStack())
        config = exporting.enter_context(own_model.exported(config, out))
        config, source = settled(resolve.with_files(config))
        stack.enter_context(closing(source))
        expected = None
        if on_estimate is not None and isinstance(source, Engine):
            expected = estimates.estimate(config, source)
            on_estimate(expected)
        with _unwritten(out) as store:
            if expected is not None:
                estimates.save(expected, store.path)
            config = own_model.kept(config, store.path)
            exporting.close()
            return _begin(config, store, source, on_event, on_state)


def _unwritten(out: Path) -> RunStore:
    """The store of a run without records: a new one, or that of a run which was killed before its first record.

    Raises:
        UsageError: the folder holds a run's records.
    """
    try:
        return RunStore.create(out)
    except UsageError:
        store = RunStore.open(out, write=True)
        if len(store):
            store.close()
            raise
        return store


def resume(
    out: Path,
    on_event: OnEvent | None = None,
    on_state: OnState | None = None,
    *,
    more: Extension | None = None,
) -> Path:
    """Goes on with an unfinished run from its last finished cycle; a finished one is left as it is, unless it gets `more`.

    Raises:
        UsageError: the settings in the run's folder were changed, or its suite is not there.
        StoreBusyError: another process writes the run.
        DivergedError: what is done again differs from what is on record.
    """
    with RunStore.open(out, write=True) as store:
        if not len(store):
            # Killed before its first record: nothing is lost but the start.
            config, source = settled(resolve.with_files(_configuration(out)))
            if more is not None:
                limits.ask(store, more)
            with closing(source):
                return _begin(config, store, source, on_event, on_state)
        store.require_current()
        if optimisation.is_optimisation(store):
            if more is not None:
                raise UsageError(f"{out} is an optimisation run: it has the evaluations that it began with")
            return optimisation.resume(store, on_event, on_state)
        first = store.entries(0, 1)[0].record
        assert isinstance(first, RunStarted)
        refuse_changes(Config.from_canonical(first.config), out)
        last = limits.ending_of(store)
        if last is not None and more is None and not limits.asked(store):
            if last.seal and not seal.is_sealed(out):
                # Killed between its last record and its seal.
                store.verify()
                seal.write(store)
            return out
        config = resolve.on_record(first, out)
        _same_graders(first, config)
        if more is not None:
            limits.ask(store, more)
        with closing(source_of(config)) as source:
            return _go_on(config, store, source, on_event, on_state)


def roll_back(out: Path, change: str) -> Entry | None:
    """Takes back a change of a run's skill tree or of its memory, and with it what builds on it.

    Of a run that has ended it is on record at once, and returned; another one takes it up between two stages.

    Args:
        out: the run's folder.
        change: its name, such as `g003`, or `m001` of lessons that were made one.

    Raises:
        UsageError: the change is not in force.
        StoreBusyError: another process writes the ended run.
    """
    with RunStore.open(out) as store:
        view = read(store).view
    there = [*(each.name for each in view.growth.in_force()), *view.memory.merges]
    if change not in there:
        names = ", ".join(there) or "none"
        raise UsageError(
            f"{change} is no change of the skill tree or of memory in force in {out}: there are {names}"
        )
    if not view.finished:
        Inbox(out).put(Request(command="rollback", variant=change), view.requests)
        return None
    with RunStore.open(out, write=True) as store:
        store.require_current()
        if limits.ending_of(store) is None:
            raise UsageError(f"{out} has been made longer: ask again once it goes on")
        [entry] = limits.take_back(store, change)
        seal.write(store)
        return entry


def replay(
    source: Path,
    scratch: Path,
    on_event: OnEvent | None = None,
    on_state: OnState | None = None,
    repeats: Repeats | None = None,
) -> tuple[str, str]:
    """Does a run again in the empty folder `scratch`, as many cycles as it had; returns both journal heads, of a run that
    has not finished those at the end of its last finished cycle.

    A server is not asked again: its answers come from the run's record. Attempts in boxes run again unless `repeats` says
    that their answers are only judged again; it counts what became of them.

    Raises:
        DivergedError: a record differs; the message names the first one.
    """
    with RunStore.open(source) as store:
        store.require_current()
        if optimisation.is_optimisation(store):
            return optimisation.replay(store, scratch, on_event, on_state)
        entries = store.entries()
        head = store.head()
    if not entries or not isinstance(entries[0].record, RunStarted):
        raise UsageError(f"{source} holds no record yet: there is nothing to replay")
    config = resolve.on_record(entries[0].record, source)
    _same_graders(entries[0].record, config)

    def compare(entry: Entry) -> None:
        if entry.seq < len(entries) and entry.record != entries[entry.seq].record:
            raise DivergedError(
                f"replay differs at record {entry.seq}: on file {type(entries[entry.seq].record).__name__}, "
                f"now {type(entry.record).__name__}"
            )
        if on_event is not None:
            on_event(entry)

    with RunStore.open(source) as recorded, RunStore.create(scratch) as store:
        resolve.keep_files(config, scratch, source)
        engine = None if config.policy.endpoint else resolve.engine(config)
        parts = limits.parts([entry.record for entry in entries])
        for part in parts:
            if part.extension is not None:
                for entry in limits.extend(store, [part.extension]):
                    compare(entry)
            rule = StopRule(part.cycles, None)
            _drive(
                config,
                store,
                engine,
                rule,
                compare,
                on_state,
                close=part.finished,
                recorded=recorded,
                repeats=repeats,
            )
            for record in part.taken_back:
                for entry in limits.taken_back(store, record):
                    compare(entry)
        if parts[-1].finished:
            return head, store.head()
        common = min(len(entries), len(store)) - 1
        return entries[common].hash, store.entries(common, 1)[0].hash


def _same_graders(started: RunStarted, config: Config) -> None:
    """Sees that answers are judged as they were.

    Raises:
        DivergedError: the graders' source has changed since the run began.
    """
    now = resolve.graders(config)
    if started.grader != now:
        raise DivergedError(
            f"the graders of suite {started.suite} have changed since the run began: their seal was "
            f"{started.grader[:12] or 'none'} and is {now[:12]}. Their verdicts would not compare; start a new run"
        )


def _begin(
    config: Config, store: RunStore, source: Source, on_event: OnEvent | None, on_state: OnState | None
) -> Path:
    config = resolve.keep_files(config, store.path)
    beside = store.path / ".run.toml.partial"
    beside.write_text(config.toml(), encoding="utf-8")
    beside.replace(store.path / SETTINGS)
    (store.path / "memory").mkdir(exist_ok=True)
    return _go_on(config, store, source, on_event, on_state)


def _configuration(out: Path) -> Config:
    if not (out / SETTINGS).is_file():
        raise UsageError(
            f"{out} holds neither records nor {SETTINGS}: remove the folder and start the run again"
        )
    return Config.load(out / SETTINGS)


def _go_on(
    config: Config, store: RunStore, source: Source, on_event: OnEvent | None, on_state: OnState | None
) -> Path:
    """Drives a run to its end, as far as it was extended."""
    if limits.asked(store):
        if (way := limits.boundary(store)) is not None:
            _drive(config, store, source, way[0], on_event, on_state, close=way[1])
            if (said := store.state()) is not None and said.status == "paused":
                return store.path  # The extension is asked for until the run goes on.
        if limits.boundary(store) is None:
            limits.forget_endings(store)
            for entry in limits.grant(store, config):
                if on_event is not None:
                    on_event(entry)
        else:
            # The spending limit was reached on the way, and more cycles do not raise it.
            limits.withdraw(store)
    return _drive(config, store, source, limits.in_force(config, store), on_event, on_state)


def _drive(
    config: Config,
    store: RunStore,
    source: Source | None,
    rule: StopRule,
    on_event: OnEvent | None,
    on_state: OnState | None,
    *,
    close: bool = True,
    recorded: RunStore | None = None,
    repeats: Repeats | None = None,
) -> Path:
    state = snapshots.latest(store)
    store.set_sandbox(in_force())
    store.add_session(session())
    journal = JournalWriter(store, state.cursor if state else 0, on_event, on_state)
    done = state.cycle if state else 0

    def progress(what: str, share: float) -> None:
        cycles = f"/{rule.cycles}" if rule.cycles else ""
        within = min(done + share, rule.cycles or done + share)
        where = f"cycle {done + 1}{cycles}: " if 0 < share < 1 else ""
        journal.state(where + what, rule.share(within, journal.seconds))

    progress("loading", 0.0)  # Whoever looks meanwhile is not told what the run was before.
    run, first_weights, parameters = opened(config, store, source, journal, progress, recorded, repeats)
    try:
        run.sealed.start()
        if state is None:
            progress("loading the policy", 0.0)
            cycles.start(run, first_weights(), parameters)
            run.store.genome(run.champion.program).write(store.path / "program")
        else:
            run.restore(state)
        ended = False
        try:
            attend(run, done, between=True)
            while not run.pausing and not run.state.waiting and rule.another(done, journal.seconds):
                began = time.monotonic()
                cycles.cycle(run)
                rule.seen(time.monotonic() - began)
                done = run.state.cycle
                attend(run, done, between=True)
        except SpendingLimitError as error:
            cycles.cut(run, error)
            ended = True
        except Stopped:
            ended = True
        if not ended and (run.pausing or run.state.waiting):
            journal.state(_pause(run), rule.share(done, journal.seconds), status="paused")
            return store.path
        if close and config.guard.twin:
            progress("the random-reward twin", 1.0)
            journal.write([twin.compare(store.path, config, done, start, _longer)])
        if close:
            cycles.finish(run, cut_short=ended)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        journal.state(
            "interrupted" if stopped else "failed",
            rule.share(done, journal.seconds),
            status="stopped" if stopped else "failed",
            error=None if stopped else str(error),
        )
        raise
    finally:
        run.close_processes()
        run.host.transcripts.close()
    (store.path / TRANSCRIPTS).unlink(missing_ok=True)
    journal.state("finished", 1.0, status="finished" if close else "stopped")
    if close:
        seal.write(store)
    return store.path


def _longer(out: Path, cycles: int) -> Path:
    """Goes on with a run, by some cycles more where there are any."""
    return resume(out, more=Extension(cycles=cycles) if cycles else None)


def _pause(run: RunContext) -> str:
    """Why a run has paused, in words."""
    waiting = ", ".join(each.variant for each in run.state.waiting)
    return f"{waiting} waits for approval" if waiting else "paused by a person"
