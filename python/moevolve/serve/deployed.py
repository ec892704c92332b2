"""The folder of a server that learns: a journal of its own beside the run's, in the run's own records.

The run's journal ends with the run; `resume` and `replay` hold on to every record of it. What is learned while serving has
its own chain, `deployed/` inside the folder, which `moevolve show` reads like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from moevolve import _native
from moevolve.config import Config, PolicySection
from moevolve.errors import UsageError
from moevolve.journal.archive import Variant
from moevolve.journal.store import RunStore
from moevolve.journal.writer import JournalWriter
from moevolve.loop import entries, own_model, resolve
from moevolve.models.champions import Champion, Champions
from moevolve.models.engine import Engine
from moevolve.records import Record, RolledBack, RunStarted, SkillInfo

FOLDER = "deployed"
SKILL = "deployed/feedback"
"""What clients' feedback is called among skills."""
SEED = "v0000"


class Deployed:
    """A server's own run, open for writing.

    Args:
        store: its store; it holds a first record.
        threads: of the engines made here.
        device: theirs.
    """

    def __init__(self, store: RunStore, threads: int, device: str = "cpu") -> None:
        self.store = store
        self.champions = Champions(store, Engine)
        self._threads = threads
        self.device = device
        self.journal = JournalWriter(store, len(store))

    @cached_property
    def base(self) -> Engine:
        """The architecture, with the weights of the checkpoint."""
        return self.champions.base(self._threads, self.device)

    @property
    def cycles(self) -> int:
        """Learning cycles that have begun."""
        return self.champions.view.cycles_started

    def champion(self) -> Champion:
        """What is to be served."""
        return self.champions.newest()

    def engine(self, champion: Champion) -> Engine:
        """An engine with these weights."""
        return self.champions.engine(self.base, champion)

    def record(self, records: Sequence[Record]) -> None:
        """Puts records on file."""
        self.journal.write(records)

    def roll_back(self, variant: str | None) -> Champion:
        """Makes an earlier champion the champion again: `variant`, or the one before the current.

        Raises:
            UsageError: there is no such champion.
        """
        history = self.history()
        current = self.champion()
        before = [name for name in history if name != current.variant]
        if variant is None and not before:
            raise UsageError(f"{current.variant} is the first champion: there is none to go back to")
        name = variant or before[-1]
        if name not in history:
            raise UsageError(f"{name} was no champion here: {', '.join(dict.fromkeys(history))} were")
        self.record(
            [
                RolledBack(
                    cycle=self.cycles,
                    champion=name,
                    before=current.variant,
                    reason="rolled back on request",
                )
            ]
        )
        return self.champion()

    def history(self) -> list[str]:
        """Champions in order, one entry for each time that one became it."""
        return list(self.champions.view.champion_history)


@contextmanager
def opened(folder: Path, model: Path | None, threads: int, device: str = "cpu") -> Iterator[Deployed]:
    """The server's run in `folder`, made where there is none.

    Args:
        folder: a run, whose champion is served, or any other folder for what is learned from `model`.
        model: a checkpoint; None for the run's, or the shipped seed.
        threads: of the engines.
        device: theirs.

    Raises:
        UsageError: a run and a model are both named.
        StoreBusyError: another server learns there.
    """
    run = _native.RunStore.is_run(folder)
    if run and model is not None:
        raise UsageError(f"--learn {folder} is a run: its champion is served, so leave {model} out")
    path = folder / FOLDER
    if _native.RunStore.is_run(path):
        with RunStore.open(path, write=True) as store:
            if len(store):
                yield Deployed(store, threads, device)
                return
            _begin(store, folder, run, model, threads, device)
            yield Deployed(store, threads, device)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with RunStore.create(path) as store:
        _begin(store, folder, run, model, threads, device)
        yield Deployed(store, threads, device)


def _begin(store: RunStore, folder: Path, run: bool, model: Path | None, threads: int, device: str) -> None:
    """Writes the first records: what is served before anything is learned."""
    skills = []
    if run:
        with RunStore.open(folder) as source:
            champions = Champions(source, Engine)
            engine = champions.engine(champions.base(threads, device), champions.newest())
            config, skills = champions.config, champions.started.skills
    else:
        path = None if model is None else str(model.resolve())
        policy = PolicySection(checkpoint=path, threads=threads, device=device)
        with own_model.exported(Config(name="deployed", cycles=0, policy=policy), store.path) as config:
            engine = resolve.engine(config)
            config = own_model.kept(resolve.settled(config, engine), store.path)
    store.weights_dir.mkdir(parents=True, exist_ok=True)
    weights = engine.weights_hash
    file = engine.write_weights(store.weights_dir / f"{weights}.safetensors")
    feedback = SkillInfo(path=SKILL, summary="what clients call a good answer", levels=(1, 1))
    started = RunStarted(
        run=f"{config.run_name()}-deployed",
        seed=config.seed,
        arm="weights",
        suite=config.suite.name if skills else "",
        answers="policy",
        skills=[*skills, feedback],
        config=config.canonical(),
        champion=SEED,
        weights=weights,
        program="",
        parameters=engine.parameters,
    )
    seed = Variant(SEED, [], 0, weights, "", "seed", "seed", "as served first", None, "champion")
    JournalWriter(store, 0).write([started, entries.variant_added(seed, weights_file=file)])
