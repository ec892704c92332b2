"""Starts a server from options, tells what it holds, follows a run, and ends it."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec

from moevolve import _native
from moevolve.errors import MoevolveError, UsageError
from moevolve.journal.store import RunStore
from moevolve.journal.text import line, message
from moevolve.loop.champion_server import ChampionServer
from moevolve.models.champions import Champions
from moevolve.models.checkpoint import files_hash, seed_checkpoint
from moevolve.models.device import settled_device
from moevolve.models.engine import Engine
from moevolve.models.scheduler import Scheduler
from moevolve.serve.app import HERE, application
from moevolve.serve.deployed import Deployed, opened
from moevolve.serve.learning import Learning
from moevolve.serve.learning_routes import learning_routes
from moevolve.serve.limits import Limits
from moevolve.serve.program import SUFFIX, TOGETHER, ServedProgram
from moevolve.serve.server import Server, bound
from moevolve.serve.service import Service

FOLLOW_SECONDS = 2.0
"""Between two looks into the journal of a run that is followed."""

Say = Callable[[str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to serve."""

    model: Path | None
    """A checkpoint or a run; None for the shipped seed."""
    name: str | None
    follow: bool
    program: bool
    """Whether a run's champion's program answers too, under a name of its own."""
    host: str
    port: int
    tokens: dict[str, str | None] | None
    """What clients must send, with the clients' names where they have any."""
    learn: Path | None
    """Where interactions are kept and learnt from; None keeps nothing."""
    learn_every: float | None
    """Seconds between learning cycles; None learns on request only."""
    keep: int
    """Interactions that are kept."""
    hidden: frozenset[str]
    """Environment variables that no child process gets."""
    slots: int
    memory: int | None
    """Bytes for keys and values."""
    device: str
    threads: int
    speculate: int
    ignore_unknown: bool
    """Whether fields that the server does not know are left alone."""
    seed: int | None
    limits: Limits


class _Source(msgspec.Struct, frozen=True):
    """What is served, and what newer weights are made from."""

    engine: Engine | None
    """None where a program answers through the run's server."""
    weights: str
    told: str
    champions: Champions[Engine] | None = None
    base: Engine | None = None
    store: RunStore | None = None
    deployed: Deployed | None = None
    server: ChampionServer | None = None


def run(options: Options, say: Say, ready: Callable[[dict[str, Any]], None]) -> bool:
    """Serves until a signal.

    Args:
        options: what and how.
        say: tells the person.
        ready: tells a program that clients can connect.

    Returns:
        Whether it was an interrupt that ended it, rather than a request to terminate.

    Raises:
        MoevolveError: the model cannot be loaded, or the address is taken.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(bound(options.host, options.port))
        # Modules stay to the end, and no collection has to look at them again; weights, loaded later, may be replaced.
        gc.collect()
        gc.freeze()
        source = _source(options, stack, say)
        for note in source.engine.notes if source.engine is not None else ():
            say(f"moevolve: {note}")
        name = options.name or _name(options.model or options.learn)
        program = _program(source, name, stack, say) if options.program or source.server is not None else None
        return asyncio.run(_serve(options, source, name, program, listener, say, ready))


def _source(options: Options, stack: ExitStack, say: Say) -> _Source:
    path = options.model
    settled_device(options.device)
    if options.learn is not None:
        deployed = stack.enter_context(opened(options.learn, path, options.threads, options.device))
        champion = deployed.champion()
        told = f"{options.learn}: weights {champion.weights[:12]} of {champion.variant}"
        return _Source(deployed.engine(champion), champion.weights, told, deployed=deployed)
    if path is not None and _native.RunStore.is_run(path):
        store = stack.enter_context(RunStore.open(path))
        champions = Champions(store, Engine)
        champion = champions.newest()
        if champions.config.policy.endpoint is not None:
            server = ChampionServer(champions.config, TOGETHER, lambda text: say(f"moevolve: {line(text)}"))
            stack.callback(server.close)
            return _Source(
                None,
                champion.weights,
                f"{path}, through {server.told},",
                champions,
                None,
                store,
                server=server,
            )
        base = champions.base(options.threads, options.device)
        engine = champions.engine(base, champion)
        told = f"{path}: weights {champion.weights[:12]} of champion {champion.variant}"
        return _Source(engine, champion.weights, told, champions, base, store)
    if options.follow:
        raise UsageError("--follow is for a run: name its folder")
    if options.program:
        raise UsageError("--program is for a run, whose champion has one: name its folder")
    file = path or seed_checkpoint()
    engine = Engine.load(file, device=options.device, threads=options.threads)
    told = "the shipped seed" if path is None else str(path)
    return _Source(engine, files_hash(file), told)


async def _serve(
    options: Options,
    source: _Source,
    name: str,
    program: ServedProgram | None,
    listener: Any,
    say: Say,
    ready: Callable[[dict[str, Any]], None],
) -> bool:
    def scheduler(engine: Engine) -> Scheduler:
        return Scheduler(engine, slots=options.slots, memory=options.memory)

    absent = None
    if source.engine is None:
        assert program is not None, "without weights a program answers"
        absent = f"there are no weights here: {program.name!r} answers chats, and nothing else is served"
    service = Service(
        name, options.limits, scheduler, seed=options.seed, speculate=options.speculate, absent=absent
    )
    if source.engine is not None:
        source.engine.origin = name  # what clients read in errors; no path of this machine
        service.deploy(source.engine, source.weights)
    hosts = HERE | {options.host}
    learning: Learning | None = None
    if source.deployed is not None:
        learning = Learning(
            source.deployed,
            service,
            say,
            every=options.learn_every,
            threads=options.threads,
            most=options.keep,
            hidden=options.hidden,
        )
        service.keep = learning.keep
    routes = learning_routes(learning, options.limits) if learning is not None else []
    server = Server(
        application(
            service,
            tokens=options.tokens,
            hosts=hosts,
            routes=routes,
            program=program,
            ignore_unknown=options.ignore_unknown,
        ),
        service,
        lambda: say(f"moevolve: ending; answers under way have {options.limits.grace_seconds:g} s"),
    )
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    following: asyncio.Task[None] | None = None

    async def begin() -> None:
        nonlocal following
        if source.engine is not None:
            chat = "chats" if source.engine.chat_template else "no chat template: completions only"
            say(f"serving {source.told} as {name!r} ({chat})")
            say(
                f"{service.slots} slots, at most {service.memory_limit / (1 << 20):,.0f} MiB of keys and values; "
                f"{options.limits.queue} samples may wait"
            )
        else:
            say(f"serving {source.told} as {program and program.name!r} (chats)")
        if learning is not None:
            learning.begin()
            when = (
                "on request" if options.learn_every is None else f"every {options.learn_every / 60:g} minutes"
            )
            say(
                f"learning {when} in {source.deployed and source.deployed.store.path}: the newest {options.keep:,} "
                "interactions are kept there until they are erased"
            )
        if program is not None:
            say(
                f"the program of {program.champion.variant} answers tasks of suite {program.suite.name} as "
                f"{program.name!r}"
            )
            if program.agent.worlds:
                say(
                    "each has an environment of its own, begun with `metadata.task` and forgotten with the answer"
                )
        say(f"{url}/v1  (Ctrl-C ends it)")
        model = name if program is None or source.engine is not None else program.name
        ready({"url": url, "model": model, "slots": service.slots, "memory": service.memory_limit})
        if options.follow:
            following = asyncio.create_task(_follow(service, source, program, say))

    try:
        await server.until_signal(listener, begin)
    finally:
        if following is not None:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
        if learning is not None:
            await learning.close()
        await service.close()
    return signal.SIGINT in server.signals


def _program(source: _Source, name: str, stack: ExitStack, say: Say) -> ServedProgram:
    assert source.store is not None and source.champions is not None, "only runs have programs"
    tell: Say = lambda text: say(f"moevolve: {message(text)}")  # noqa: E731
    program = ServedProgram(source.store, f"{name}{SUFFIX}", source.server, tell)
    stack.callback(program.close)
    program.deploy(source.champions.record(source.champions.newest()))
    return program


async def _follow(service: Service, source: _Source, program: ServedProgram | None, say: Say) -> None:
    """Deploys champions as they come. A failure is told, and the weights in service stay."""
    champions, base = source.champions, source.base
    assert champions is not None, "only runs are followed"
    served = source.weights
    while True:
        await asyncio.sleep(FOLLOW_SECONDS)
        try:
            champion = await asyncio.to_thread(champions.newest)
            if program is not None and champion.variant != program.champion.variant:
                record = await asyncio.to_thread(champions.record, champion)
                if champion.weights == served:
                    program.deploy(record)
                    say(f"moevolve: the program of champion {champion.variant} answers from here on")
            if champion.weights == served:
                continue
            assert base is not None, "a server's model is one and the same"
            engine = await asyncio.to_thread(champions.engine, base, champion)
            engine.origin = service.name
            service.deploy(engine, champion.weights)
            if program is not None:
                program.deploy(record)
        except MoevolveError as error:
            say(f"moevolve: cannot follow: {error}")
            continue
        served = champion.weights
        say(f"moevolve: weights {served[:12]} of champion {champion.variant} are served from here on")


def _name(model: Path | None) -> str:
    if model is None:
        return "seed"
    path = model.resolve()
    return path.stem if path.suffix == ".gguf" else path.name
