"""One optimisation run under way: evaluations are planned, made in any order, and put on record in the order of planning."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf

import msgspec

from moevolve.errors import MoevolveError
from moevolve.journal import evaluations, seal
from moevolve.journal.store import Put, RunStore
from moevolve.journal.writer import JournalWriter
from moevolve.loop.control import Control
from moevolve.loop.optimise.archive import ProgramArchive
from moevolve.loop.optimise.hearing import Hearing
from moevolve.loop.optimise.model import Model
from moevolve.loop.optimise.proposers import OPERATORS
from moevolve.loop.optimise.recorded import STAGE, modelled, recorded_plan
from moevolve.loop.optimise.search import MODEL, Plan, Search, blob, hash_of
from moevolve.loop.optimise.settings import Settings
from moevolve.loop.optimise.workers import Workers
from moevolve.loop.variants import genome_in
from moevolve.records import (
    Command,
    Controlled,
    Entry,
    Imported,
    Null,
    NullSearched,
    Rated,
    Record,
    RunFinished,
    Sandbox,
    State,
    VariantAdded,
)
from moevolve.tasks.evaluators.folder import EvaluatorFolder
from moevolve.tasks.evaluators.verdict import FAILURES, Evaluation

OnEvent = Callable[[Entry], None]
OnState = Callable[[State], None]
PLANS, RESULTS = "planned", "evaluated"
"""Tables: evaluations that are not on record yet, and what came of those of them that have ended."""
SAYING = 0.5
"""Seconds between two sayings of how far the run is."""
QUICK = 0.05
"""Seconds of planning that a finished evaluation may wait for, so that both are one commit."""
FADING = 0.9
"""How much of the slowest planning so far the next one is expected to take."""


class Driver:
    """One run under way.

    Args:
        store: the run, open for writing.
        settings: of the run.
        folder: the evaluator's.
        on_event: called with every entry that is new.
        on_state: called with every change of state.
        recorded: the run that is done again.
        interrupted: of a null, whether somebody asks something of the run that it is of; then it pauses.
    """

    def __init__(
        self,
        store: RunStore,
        settings: Settings,
        folder: EvaluatorFolder,
        on_event: OnEvent | None,
        on_state: OnState | None,
        recorded: RunStore | None = None,
        interrupted: Callable[[], bool] | None = None,
    ) -> None:
        self.journal = JournalWriter(store, len(store), on_event, on_state)
        self._store = store
        self._settings = settings
        self._folder = folder
        self._archive = ProgramArchive(settings.population, settings.alpha)
        self._recorded = recorded
        self._control = Control(store, recorded)
        self._attended = 0.0
        self._interrupted = interrupted
        self._model: Model | None = None
        if settings.proposer.endpoint is not None:
            self._model = Model(settings, store, self.journal, recorded, self._told)
        self._modelled = None if recorded is None else modelled(recorded)
        """Evaluations that the model was asked for, in a replay."""
        self._search = Search(settings, folder, store, self._archive, self._model, modelled=self._modelled)
        self._stopped = False
        """Whether a person has ended the run; a resumed one meets that again."""
        self._searched: set[Null] = set()
        """Nulls that are on record."""
        for _, record, _ in store.records():
            self._search.take(record)
            if isinstance(record, NullSearched):
                self._searched.add(record.null)
            self._stopped = self._stopped or (isinstance(record, Controlled) and record.command == "stop")
        self._plans = [msgspec.msgpack.decode(body, type=Plan) for _, body in store.scan(PLANS)]
        self._results = {
            int(number): msgspec.msgpack.decode(body, type=Evaluation) for number, body in store.scan(RESULTS)
        }
        self._next = self._plans[-1].evaluation + 1 if self._plans else self._archive.applied
        self._begun: set[int] = set()
        self._unkept: set[int] = set()
        """Evaluations that have ended and are in no table yet."""
        self._pool: Workers | None = None
        self._planning = inf
        """Seconds that planning is expected to take; they decide what one commit holds, and no record."""
        self._newest: tuple[str, evaluations.Told] | None = None
        """What the evaluator said at the evaluation that goes on record now, which no table has yet."""
        self._said = 0.0

    def drive(self, workers: int | None) -> bool:
        """Evaluates to the end; False where a pause holds."""
        most = min(workers or 10**6, self._settings.in_flight)
        pool = self._pool = Workers(self._folder, self._settings.limits, None if workers is None else most)
        sandbox: Sandbox | None = None
        try:
            while self._archive.applied < self._settings.evaluations and not self._stopped:
                # What has ended and lies in no table goes on record first: a pause would lose it.
                if not self._unkept and (asked := self._attend()) is not None:
                    if asked == "stop":
                        self._stopped = True
                        break
                    self._keep()
                    self._say("paused", "paused")
                    return False
                self._begin(pool)
                if pool.sandbox is not None and pool.sandbox != sandbox:
                    sandbox = pool.sandbox
                    self._store.set_sandbox(sandbox)
                # What may be begun is begun before a commit, so that nobody waits for the disk.
                if not self._step() and pool.busy:
                    self._hear(pool)
        except BaseException as error:
            with suppress(MoevolveError):  # The one on its way says more.
                self._keep()
            self._fail(error)
            raise
        finally:
            pool.close()
            if self._model is not None:
                self._model.close()
        return True

    def nulls(self, names: Sequence[Null], search: Callable[[Null], NullSearched | None]) -> bool:
        """Puts what nulls come to on record; False where a pause holds.

        Args:
            names: the nulls.
            search: runs one, or does it again; returns its record, None where it was interrupted.
        """
        try:
            for name in names:
                while name not in self._searched:
                    self._attended = -inf
                    asked = self._attend()
                    if asked == "pause":
                        self._say("paused", "paused")
                        return False
                    if asked == "stop" or self._stopped:
                        self._stopped = True
                        return True
                    if (record := search(name)) is not None:
                        self.journal.write([record])
                        self._searched.add(name)
        except BaseException as error:
            self._fail(error)
            raise
        if self._recorded is not None:
            self._attend()
        return True

    def asked(self) -> bool:
        """Whether somebody asks something of the run that it has not taken up."""
        return self._control.waiting()

    def tell(self, what: str, share: float) -> None:
        """Says what is being done beside the run's own evaluations."""
        self.journal.state(what, share)

    def _fail(self, error: BaseException) -> None:
        stopped = isinstance(error, KeyboardInterrupt)
        self._say("interrupted" if stopped else "failed", "stopped" if stopped else "failed", str(error))

    def again(self, source: RunStore, records: Sequence[Record]) -> None:
        """Does again what is on record."""
        rated = {record.evaluation: record for record in records if isinstance(record, Rated)}
        made = {record.variant: record for record in records if isinstance(record, VariantAdded)}
        steady = all(name in (*OPERATORS, MODEL) for name in self._settings.proposers)
        last = max(self._modelled or (), default=0)
        # A run that ended early may have paid for programs that it never evaluated.
        while self._archive.applied < len(rated) or (self._next <= last and self._due()):
            self._attend()
            if self._due():
                plan = self._search.plan(self._next, self._plans)
                record = rated.get(plan.evaluation)
                if not steady and record is not None and plan.purpose == record.purpose == "candidate":
                    plan = recorded_plan(plan, made[record.variant], record, source, self._folder)
                self._planned(plan, [], [])
                continue
            found = rated[self._plans[0].evaluation]
            told = msgspec.to_builtins(found)
            said = {name: told[name] for name in ("score", "failure", "detail", "metrics")}
            if found.failure not in FAILURES:
                said["failure"] = None  # It was never evaluated, for a reason that the plan names.
            self._results[found.evaluation] = msgspec.convert(said, Evaluation)
            self._apply([])
        self._attend()

    def _attend(self) -> Command | None:
        """Takes up what a person asked; `stop` or `pause` where that holds now."""
        now = time.monotonic()
        if self._recorded is None and now - self._attended < SAYING:
            return None
        self._attended = now
        if self._interrupted is not None and self._interrupted():
            return "pause"
        while (asked := self._control.next(self.journal.cursor)) is not None:
            command = asked.request.command
            if command == "import":
                refused = "an optimisation run takes up no program"
                self.journal.write(
                    [Imported(cycle=0, request=asked.number, program="", done=False, detail=refused)]
                )
                continue
            holds = command in ("pause", "stop")
            record = Controlled(
                cycle=0,
                request=asked.number,
                command=command,
                variant=asked.request.variant,
                done=holds,
                champion=self._archive.champion or "v0",
                detail="" if holds else "no program of an optimisation run waits for approval",
            )
            self.journal.write([record])
            if holds and asked.fresh:
                return command
        return None

    def _due(self) -> bool:
        return self._next < self._settings.evaluations and self._archive.applied >= self._search.due(
            self._next
        )

    def _begin(self, pool: Workers) -> None:
        """Begins evaluations that are planned, as far as there are processes for them."""
        for plan in self._plans:
            if plan.evaluation in self._begun or plan.evaluation in self._results:
                continue
            if plan.refused is not None:
                self._results[plan.evaluation] = Evaluation(score=None, failure="error", detail=plan.detail)
            elif pool.free:
                if not pool.warm:
                    self._keep()  # Its imports may take minutes.
                self._begun.add(plan.evaluation)
                pool.begin(plan.evaluation, plan.text, self._search.key(plan.evaluation))

    def _step(self) -> bool:
        """Puts one evaluation on record, or plans one, in one commit; False if neither can be done yet."""
        if self._due():
            self._commit([], [], [])
        elif self._plans and self._plans[0].evaluation in self._results:
            self._apply([])
        else:
            return False
        return True

    def _apply(self, puts: list[Put]) -> None:
        plan = self._plans.pop(0)
        number = evaluations.key(plan.evaluation)
        found = self._results.pop(plan.evaluation)
        self._begun.discard(plan.evaluation)
        self._unkept.discard(plan.evaluation)
        records = self._search.records(plan, found)
        self._newest = None
        if found.artifacts or found.output:
            self._newest = number, evaluations.Told(found.artifacts, found.output)
            puts.append((evaluations.TABLE, number, msgspec.msgpack.encode(self._newest[1])))
        puts += [(PLANS, number, None), (RESULTS, number, None)]
        self._commit(records, puts, [blob(self._folder, plan.text)] if plan.purpose == "candidate" else [])
        self._say("evaluating", "running")

    def _commit(self, records: list[Record], puts: list[Put], blobs: list[bytes]) -> None:
        """Puts records on file, and plans the next evaluation where one is due: in one commit while planning is quick,
        else in two, so that no evaluation that has ended waits for a server, or for whatever a user's proposer asks."""
        if self._recorded is not None or not self._due():
            self.journal.write(records, puts=puts, blobs=blobs)
            return
        if MODEL in self._settings.proposers or self._planning > QUICK:
            if records or puts:
                self.journal.write(records, puts=puts, blobs=blobs)
            assert self._pool is not None, "evaluations are planned while they are made"
            with Hearing(self._pool, self._keep):
                plan = self._plan()
            self._planned(plan, [], [])
            return
        try:
            plan = self._plan()
        except BaseException:
            self.journal.write(records, puts=puts, blobs=blobs)
            raise
        self._planned(plan, records, puts, blobs)

    def _plan(self) -> Plan:
        """The next evaluation, timed where a proposer was asked."""
        began = time.monotonic()
        plan = self._search.plan(self._next, self._plans)
        took = time.monotonic() - began
        if plan.parent is not None:
            self._planning = took if self._planning == inf else max(took, FADING * self._planning)
        return plan

    def _planned(
        self, plan: Plan, records: list[Record], puts: list[Put], blobs: Sequence[bytes] = ()
    ) -> None:
        """Keeps a plan, with what it cost."""
        self._next += 1
        self._plans.append(plan)
        bills = self._model.bill(f"{STAGE} {plan.evaluation}") if self._model is not None else []
        puts.append((PLANS, f"{plan.evaluation:08d}", msgspec.msgpack.encode(plan)))
        self.journal.write([*records, *bills], puts=puts, blobs=blobs)

    def _told(self, text: str) -> dict[str, str]:
        """What the evaluator said of the program with this text, beside its score."""
        name = hash_of(self._folder, text)
        program = next(each for each in self._archive.programs.values() if each.text == name)
        number = program.step or 0
        told = None
        if self._newest is not None and self._newest[0] == evaluations.key(number):
            told = self._newest[1]
        for store in (self._store, self._recorded):
            if told is None and store is not None:
                told = evaluations.told(store, number)
        return {} if told is None else {**told.artifacts, "output": told.output}

    def _hear(self, pool: Workers) -> None:
        """Waits for an evaluation's end; whatever is not next on record is kept in a table at once."""
        for number, found in pool.ended():
            self._results[number] = found
            self._unkept.add(number)
        if self._unkept - {self._plans[0].evaluation}:
            self._keep()

    def _keep(self) -> None:
        """Keeps in a table whatever has ended, heard of or not."""
        if self._pool is not None:
            for number, found in self._pool.ended(wait=False):
                self._results[number] = found
                self._unkept.add(number)
        kept: list[Put] = [
            (RESULTS, f"{number:08d}", msgspec.msgpack.encode(self._results[number]))
            for number in sorted(self._unkept)
        ]
        if kept:
            self._store.puts(kept)
        self._unkept.clear()

    def finish(self) -> None:
        """Ends the run: the champion's program, the last record, the seal."""
        genome_in(self._store, self._archive.best().text).write(self._store.path / "program")
        best = self._archive.best()
        self.journal.write([RunFinished(cycles=0, champion=best.id, seal=seal.DIGEST)])
        self._said = 0.0
        self._say("finished", "finished")
        seal.write(self._store)

    def _say(self, what: str, status: str, error: str | None = None) -> None:
        now = time.monotonic()
        if status == "running" and now - self._said < SAYING:
            return
        self._said = now
        done, total = self._archive.applied, self._settings.evaluations
        self.journal.state(f"{what}: {done}/{total} evaluations", done / total, status=status, error=error)
