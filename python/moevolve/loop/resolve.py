"""A configuration as what a run works with: its engine, its suite, its prompts, and the settings in force."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from moevolve.agents.genome import SELECTOR, Genome, load, seed_genome, seed_selector
from moevolve.agents.transcripts import Transcripts
from moevolve.config import Config
from moevolve.config.schema import ToolsSection
from moevolve.config.unset import filled
from moevolve.errors import UsageError
from moevolve.loop import own_model
from moevolve.loop.own_agent import answering, with_asked, with_long_prompts
from moevolve.loop.own_selection import GENOME
from moevolve.memory.embedding import Embedder, HashedNgrams
from moevolve.models.configured import called, configured
from moevolve.models.configured import checkpoint as checkpoint
from moevolve.models.decoder import Decoder
from moevolve.models.embedder import HiddenStates
from moevolve.models.engine import Engine
from moevolve.models.prompts import BarePrompts, ChatPrompts, Prompts
from moevolve.records import RunStarted
from moevolve.rollouts.wording import PlainWording, Wording, style_of
from moevolve.tasks import folder
from moevolve.tasks.grader.seal import seal
from moevolve.tasks.installed import located
from moevolve.tasks.splits import secret_of
from moevolve.tasks.suite import Suite, register, shipped
from moevolve.tasks.suite import suite as suites

TEMPLATES = Path(__file__).parents[1] / "templates"
"""Where agents lie that ship."""
SUITE, AGENT, TOOLS = "suite", "agent", "tools"
"""Where a run's folder keeps copies of a suite, an agent and tools that do not ship."""


def engine(config: Config) -> Engine:
    """The model, ready to learn by the configured method; errors as of `configured`."""
    return configured(config, Engine)


def with_prices(config: Config) -> Config:
    """The configuration with the prices of the model that writes edits in place of their file.

    Raises:
        ConfigError: the price file cannot be used.
    """
    section = config.proposer
    if section.model is None or section.server.prices is None:
        return config
    from moevolve.models.endpoint.prices import frozen

    server = frozen(section.server, section.model)
    return msgspec.structs.replace(config, proposer=msgspec.structs.replace(section, server=server))


def settled(config: Config, engine: Engine) -> Config:
    """The configuration with what `auto` came to: results depend on it, so it is on record.

    Raises:
        UsageError: conversations are asked for, and the model has no chat template.
    """
    style = config.wording.style
    if style == "auto":
        shipped = config.policy.checkpoint is None
        style = "bare" if shipped or engine.chat_template is None else style_of(suite(config))
    if style != "bare" and engine.chat_template is None:
        raise UsageError(
            f"{called(config)} has no chat template, so it cannot be asked in conversations: name a chat model "
            f"with --model PATH, or set wording.style=bare"
        )
    positions = config.learn.positions
    if positions == "auto":
        positions = "spread" if style == "bare" else "plain"
    replace = msgspec.structs.replace
    return replace(
        config,
        policy=replace(config.policy, device=engine.device, precision=engine.precision),
        wording=replace(config.wording, style=style),
        memory=with_embedder(config, "policy").memory,
        learn=replace(config.learn, positions=positions, method="full" if engine.adapter is None else "lora"),
    )


def with_embedder(config: Config, name: Literal["policy", "hashed-ngrams"]) -> Config:
    """The configuration with what makes memory's vectors, where it leaves that open."""
    if config.memory.embedder != "auto":
        return config
    return msgspec.structs.replace(config, memory=msgspec.structs.replace(config.memory, embedder=name))


EMBEDDINGS = "embeddings.tape"
"""What a server of embeddings said, inside a run's folder."""


def embedder(config: Config, run: Path | None = None, recorded: Path | None = None) -> Embedder | None:
    """What makes memory's vectors; the configuration is a settled one.

    Args:
        config: the configuration.
        run: the folder of a run that keeps what a server says; None keeps nothing.
        recorded: the folder of the run that is done again: no server is asked then.

    Raises:
        UsageError: the policy is a server's, and its hidden states are asked for; or the key of a server of embeddings is
            not set.
    """
    name = config.memory.embedder
    if name == "none" or config.memory.mode == "off":
        return None
    if name == "endpoint":
        from moevolve.models.endpoint.embeddings import ServedEmbeddings
        from moevolve.models.endpoint.secret import Secret

        section, former = config.memory, None if recorded is None else recorded / EMBEDDINGS
        assert section.endpoint is not None and section.model is not None, (
            "the configuration has been checked"
        )
        return ServedEmbeddings(
            section.endpoint,
            section.model,
            Secret("", "no key") if recorded is not None else Secret.read(section.key_env),
            None if run is None else Transcripts(run / EMBEDDINGS),
            None if former is None else Transcripts(former if former.is_file() else None),
        )
    if name != "policy":
        return HashedNgrams()
    if config.policy.endpoint is not None:
        raise UsageError(
            'memory.embedder = "policy" needs the model\'s weights: with an endpoint take "hashed-ngrams"'
        )
    path, policy = checkpoint(config), config.policy
    precision = "fastest" if policy.precision == "auto" else policy.precision
    return HiddenStates(
        f"policy {path.name}"[:160],
        lambda: Decoder.load(path, device=policy.device, threads=policy.threads, precision=precision),
    )


def suite(config: Config) -> Suite:
    """The suite that a run works on, split by the run's secret.

    Raises:
        UsageError: the configuration names a suite or skill that does not exist.
    """
    chosen = _chosen(config)
    return chosen.keyed(_secret(config.seed, seal(chosen)))


def graders(config: Config) -> str:
    """The seal of the graders that a run's suite has now."""
    return seal(_chosen(config))


def whole(config: Config) -> Suite:
    """The suite with all of its skills and levels, whatever the run works on."""
    section = config.suite
    named = suites(section.name if section.digest is None else f"{section.name}@{section.digest}")
    return named if config.tools.digest is None else named.granting(_tool_files[config.tools.digest])


def _chosen(config: Config) -> Suite:
    return whole(config).only(config.suite.skills, config.suite.levels)


def with_files(config: Config, run: Path | None = None, *, limited: bool = True) -> Config:
    """The configuration with the digests of its own suite and agent, where it has such; `suite` and `genome` know them.

    Args:
        config: what names suite and agent.
        run: the folder of a run that keeps copies; None where they are still where the configuration says.
        limited: whether the suite's limits take the place of those that are at their defaults.

    Raises:
        UsageError: there is no such suite, skill, level or agent, or one is not what the run began with.
    """
    section, own, agent = config.suite, config.agent, seed_genome()
    if section.path is None and section.name == "user" and run is None and (file := folder.of_user()):
        section = msgspec.structs.replace(section, path=str(file))
    if section.path is None and not shipped(section.name) and (offered := located(section.name)) is not None:
        section = msgspec.structs.replace(section, path=str(offered))
    if section.path is not None:
        source = Path(section.path) if run is None else run / SUITE
        own_suite, digest = folder.opened(source, section.name if section.digest else None)
        _unchanged(source, "suite", section.digest, digest)
        section = msgspec.structs.replace(section, name=own_suite.name, digest=digest)
        config = with_limits(config, own_suite) if limited else config
    if own.path is None and own.name is not None:
        own = msgspec.structs.replace(own, path=str(TEMPLATES / own.name))
    if own.path is not None:
        source = Path(own.path) if run is None else run / AGENT
        agent = load(source)
        digest = agent.hash
        _unchanged(source, "agent", own.digest, digest)
        own = msgspec.structs.replace(own, digest=digest)
    config = msgspec.structs.replace(config, tools=_with_tools(config.tools, run))
    if run is None:
        own_model.located(config, None)
    config = with_long_prompts(with_asked(config, agent) if limited else config, agent)
    evolve = config.evolve
    if not evolve.proposers:
        config = msgspec.structs.replace(config, suite=section, agent=own)
        evolve = msgspec.structs.replace(evolve, proposers=_proposers(agent, suite(config)))
    config = msgspec.structs.replace(config, suite=section, agent=own, evolve=evolve)
    answering(suite(config), agent)
    return config


_tool_files: dict[str, Path] = {}
"""Files of tools that configurations name, by content hash."""


def _with_tools(section: ToolsSection, run: Path | None) -> ToolsSection:
    """The section with the digest of its file."""
    if section.path is None:
        return section
    kept = [] if run is None else sorted((run / TOOLS).glob("*.py"))
    file = kept[0] if kept else Path(section.path)
    if file.suffix != ".py" or not file.is_file():
        raise UsageError(f"tools.path: {file} is no Python file")
    digest = folder.digest(file)
    _unchanged(file, "file of tools", section.digest, digest)
    _tool_files[digest] = file.resolve()
    return msgspec.structs.replace(section, digest=digest)


def with_limits(config: Config, tasks: Suite) -> Config:
    """The configuration with a suite's limits in place of those that it leaves at their defaults.

    Raises:
        UsageError: they do not go with the limits that it sets.
    """
    replace = msgspec.structs.replace
    sandbox, solver = config.sandbox, config.roles.solver
    for key, value in tasks.limits.items():
        table, _, name = key.rpartition(".")
        try:
            if table == "sandbox":
                sandbox = filled(sandbox, {name: value})
            else:
                solver = filled(solver, {name: value})
        except ValueError as error:
            raise UsageError(f"limits of suite {tasks.name}: `{key}`: {error}") from None
    return replace(config, sandbox=sandbox, roles=replace(config.roles, solver=solver))


def _proposers(agent: Genome, tasks: Suite) -> tuple[Literal["improver", "operators"], ...]:
    """Who proposes where the configuration does not say: an agent's own improver, or the seed's, which knows verbs; and
    operators for whatever is not the seed on a suite of verbs."""
    seed = seed_genome()
    if agent == seed:
        verbs = all(leaf.verb for leaf in tasks.skills.values())
        return ("improver",) if verbs else ("improver", "operators")
    return (
        ("operators",)
        if agent.files.get("improve.py") in (None, seed.files["improve.py"])
        else ("improver", "operators")
    )


def _unchanged(source: Path, what: str, began: str | None, now: str) -> None:
    if began not in (None, now):
        raise UsageError(
            f"{source} is not the {what} that the run began with (its content hash is {now[:16]}, not {began[:16]}): "
            f"bring the old one back, or start a new run"
        )


def keep_files(config: Config, run: Path, other: Path | None = None) -> Config:
    """Copies the configuration's own suite, agent, tools and model, or those of the run in `other`, into the folder `run`;
    returns the configuration that names the copies."""
    section, own = config.suite, config.agent
    if section.path is not None:
        source = Path(section.path) if other is None else other / SUITE
        if source.resolve() != (run / SUITE).resolve():
            folder.copy(source, run / SUITE)
        _graded_from(run / SUITE, section.name, section.digest)
        section = msgspec.structs.replace(section, path=SUITE)
    if own.path is not None:
        source = Path(own.path) if other is None else other / AGENT
        load(source).write(run / AGENT)
        own = msgspec.structs.replace(own, path=AGENT)
    tools = config.tools
    if tools.digest is not None:
        source = _tool_files[tools.digest]
        if source.parent != (run / TOOLS).resolve():
            folder.copy(source, run / TOOLS)
        tools = msgspec.structs.replace(tools, path=TOOLS)
    return own_model.kept(msgspec.structs.replace(config, suite=section, agent=own, tools=tools), run)


def _graded_from(copy: Path, name: str, digest: str | None) -> None:
    """Lets a folder's tasks and checks be those of a run's copy, whatever becomes of the folder; tools stay in it."""
    if digest is not None and (copy / folder.TASKS).is_file():
        copied = folder.load(copy, name)
        register(suites(f"{name}@{digest}").of(copied.skills.values()), digest)


def genome(config: Config, run: Path) -> Genome:
    """The program that the run in the folder `run` starts from."""
    found = seed_genome() if config.agent.path is None else load(run / AGENT)
    if config.selection.policy != GENOME or SELECTOR in found.files:
        return found
    return Genome(files=dict(sorted({**found.files, SELECTOR: seed_selector()}.items())))


def on_record(started: RunStarted, run: Path) -> Config:
    """The configuration of a run on record, whose suite is here as it was.

    Raises:
        UsageError: the suite is not, or it has other skills or levels than the run began with; says where to go on.
    """
    config = Config.from_canonical(started.config)
    own_model.located(config, run)
    try:
        config = with_files(config, run)
        faults = _differences(config, started)
    except UsageError as error:
        faults = str(error)
    if faults and config.suite.path is None:
        faults += (
            f"; skills that a Python program defines are there in that program alone: call `mv.resume({str(run)!r})` "
            f"or `mv.replay({str(run)!r})` in it"
        )
    if faults:
        raise UsageError(faults)
    return config


def _differences(config: Config, started: RunStarted) -> str:
    """What the suite has that the run did not begin with, or the other way round; empty where they are the same."""
    lowest, highest = config.suite.levels
    here = suite(config).skills
    there = {
        leaf.path: (max(lowest, leaf.levels[0]), min(highest, leaf.levels[1])) for leaf in started.skills
    }
    parts = [
        f"{what} {', '.join(sorted(paths))}"
        for what, paths in (
            ("lacks", there.keys() - here.keys()),
            ("has besides", here.keys() - there.keys()),
            (
                "has with other levels",
                {path for path in there.keys() & here.keys() if here[path].levels != there[path]},
            ),
        )
        if paths
    ]
    return (
        f"suite {config.suite.name} is not what the run began with: it {', and '.join(parts)}"
        if parts
        else ""
    )


_secret = cache(secret_of)


def prompts(config: Config, engine: Engine) -> Prompts:
    """How the run's texts become tokens; the configuration is a settled one."""
    worded = wording(config)
    return BarePrompts(engine) if worded is None else ChatPrompts(engine, worded)


def wording(config: Config) -> Wording | PlainWording | None:
    """How the run's texts are put to an instruct model; None asks with the bare texts."""
    section = config.wording
    if section.style == "chat":
        return Wording(suite(config), shots=section.shots, spell=section.spell)
    return PlainWording() if section.style == "plain" else None
