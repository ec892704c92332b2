"""A configuration as a run that can be driven: what answers it, and its state and tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from moevolve.agents.box import records
from moevolve.agents.box.host import BoxHost
from moevolve.agents.box.records import Repeats
from moevolve.agents.host import ProgramHost
from moevolve.agents.manifest import manifest_of
from moevolve.agents.transcripts import Transcripts
from moevolve.config import Config
from moevolve.journal.lessons import MemoryStore, memory_folder
from moevolve.journal.store import RunStore
from moevolve.journal.writer import JournalWriter
from moevolve.loop import resolve
from moevolve.loop.context import RunContext
from moevolve.loop.control import Control
from moevolve.loop.tools import granted
from moevolve.loop.variants import VariantStore
from moevolve.loop.writing import Writers
from moevolve.memory.lessons import LessonMemory
from moevolve.models.engine import Engine
from moevolve.tasks.folder import TASKS, answer_files

if TYPE_CHECKING:
    from moevolve.models.endpoint.client import Client

    Source = Engine | Client
    """What answers a run: the engine, or a server."""

TRANSCRIPTS = "programs.part"
"""What programs said in the cycle under way, inside a run's folder."""


def settled(config: Config) -> tuple[Config, Source]:
    """The configuration as it goes on record, and what answers."""
    config = resolve.with_prices(config)
    if config.policy.endpoint is not None:
        from moevolve.loop import endpoint

        config = endpoint.settled(config)
        return config, endpoint.client(config)
    engine = resolve.engine(config)
    return resolve.settled(config, engine), engine


def source_of(config: Config) -> Source:
    """What answers a run that is on record."""
    if config.policy.endpoint is not None:
        from moevolve.loop import endpoint

        return endpoint.client(config)
    return resolve.engine(config)


@contextmanager
def closing(source: Source) -> Iterator[Source]:
    """Lets go of a server's connections in the end."""
    try:
        yield source
    finally:
        if not isinstance(source, Engine):
            source.close()


def _variants(
    config: Config, store: RunStore, source: Source | None, journal: JournalWriter, recorded: RunStore | None
) -> tuple[VariantStore, Callable[[], str], int]:
    """The run's variants, what writes the first weights, and how many parameters they have."""
    if isinstance(source, Engine):
        engine, variants = source, VariantStore(store, source, resolve.prompts(config, source))
        return variants, lambda: variants.keep(engine), engine.parameters
    from moevolve.loop.endpoint import EndpointVariants
    from moevolve.models.endpoint.policy import Nobody
    from moevolve.models.endpoint.tape import Tape

    tape = Tape(store, lambda: journal.cursor, recorded)
    remote = EndpointVariants(store, config, source or Nobody(), tape, journal.cursor)
    return remote, lambda: remote.weights, 0


def opened(
    config: Config,
    store: RunStore,
    source: Source | None,
    journal: JournalWriter,
    progress: Callable[[str, float], None],
    recorded: RunStore | None = None,
    repeats: Repeats | None = None,
) -> tuple[RunContext, Callable[[], str], int]:
    """A run's state and tools, what writes its first weights and returns their hash, and its number of parameters."""
    variants, first_weights, parameters = _variants(config, store, source, journal, recorded)
    suite, name = resolve.suite(config), config.run_name()
    tools = granted(suite, store, recorded)
    run = RunContext(
        config,
        name,
        suite,
        variants,
        ProgramHost(
            config.limits(),
            config.sandbox,
            tools,
            suite.cutters,
            transcripts=Transcripts(store.path / TRANSCRIPTS),
            boxes=_boxes(config, store, recorded, repeats),
        ),
        LessonMemory(
            MemoryStore(memory_folder(store.path)),
            name,
            config.memory,
            resolve.embedder(config, store.path, None if recorded is None else recorded.path),
        ),
        journal,
        Control(store, recorded),
        progress,
        Writers(config, store, journal, recorded),
        recorded,
    )
    return run, first_weights, parameters


def _boxes(config: Config, store: RunStore, recorded: RunStore | None, repeats: Repeats | None) -> BoxHost:
    """Who runs the run's agent, where that is no function; in a replay with the record of the run `recorded`."""
    if not manifest_of(resolve.genome(config, store.path).files).boxed:
        return BoxHost()
    former = None if recorded is None else recorded.path / records.FILE
    hidden = [*answer_files(resolve.suite(config)), store.path / resolve.SUITE / TASKS]
    return BoxHost(records.Records(store.path / records.FILE, former, repeats), hidden)
