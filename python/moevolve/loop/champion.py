"""A run's champion as what an evaluation begins with: the run's configuration, its program, what its memory holds.

Prompts are split as the run splits them, so that what it kept sealed stays sealed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import msgspec

from moevolve.config import Config
from moevolve.config.schema import AgentSection, SuiteSection
from moevolve.errors import DivergedError, UsageError
from moevolve.journal.lessons import MemoryStore, memory_folder
from moevolve.journal.store import RunStore
from moevolve.loop import resolve
from moevolve.loop.context import RunContext
from moevolve.loop.variants import genome_in
from moevolve.memory import shared
from moevolve.models.champions import Champions
from moevolve.models.configured import MODEL
from moevolve.models.engine import Engine
from moevolve.tasks.splits import same
from moevolve.tasks.task import Task

SPLITTING = ("seed", "suite.skills", "suite.levels")
"""Keys that a run's splits are a function of."""
BROUGHT = (
    "policy.checkpoint",
    "policy.endpoint",
    "policy.model",
    "learn.method",
    "learn.rank",
    "learn.scale",
    "learn.targets",
    "memory.shared",
)
"""Keys of what a run brings: the model that its champion's weights belong to, and its memory."""


def configuration(run: Path, settings: Mapping[str, Any]) -> Config:
    """What a run's champion is evaluated under: the run's own configuration, `settings` on top.

    Args:
        run: the run's folder.
        settings: dotted key -> value; `suite.path` or `suite.name` says what it is evaluated on. Of the suite that the run
            works on, the skills and levels are those of the run.

    Raises:
        UsageError: the run holds no record yet, or there is no such suite.
        ConfigError: a key or value that cannot be used.
    """
    with RunStore.open(run) as store:
        recorded = _located(Champions(store, Engine).config, run)
    kept = sorted((run / resolve.TOOLS).glob("*.py"))
    granted = None if "tools.path" in settings else recorded.tools.digest
    replace = msgspec.structs.replace
    base = replace(
        recorded,
        agent=AgentSection(),
        tools=replace(recorded.tools, path=str(kept[0].resolve()) if kept else None, digest=granted),
        memory=replace(recorded.memory, shared=None),
    )
    named = {
        key.removeprefix("suite."): settings[key] for key in ("suite.path", "suite.name") if key in settings
    }
    section = SuiteSection(**named) if named else recorded.suite
    here = resolve.with_files(replace(base, suite=section), limited=False).suite if named else recorded.suite
    if _same(here, recorded.suite):
        path = None if recorded.suite.path is None else str((run / resolve.SUITE).resolve())
        section = replace(recorded.suite, path=path)
    others = {key: value for key, value in settings.items() if key not in ("suite.path", "suite.name")}
    return replace(base, suite=section).with_settings(others)


def check(config: Config, run: Path, splits: Sequence[str]) -> None:
    """Sees that an evaluation of a run's champion meets no task that the run keeps for itself.

    Args:
        config: what it is evaluated under, with its files.
        run: the run's folder.
        splits: whose tasks are attempted.

    Raises:
        UsageError: they would be the run's sealed ones, or nobody could tell; or the configuration names another model or
            memory than the run's.
        DivergedError: the suite's graders have changed since the run began, and with them its splits.
    """
    with RunStore.open(run) as store:
        champions = Champions(store, Engine)
    recorded, started = _located(champions.config, run), champions.started
    for key in BROUGHT:
        began = None if key == "memory.shared" else _value(recorded, key)
        if _value(config, key) != began:
            raise UsageError(f"`{key}`: {run} brings its own weights and memory: leave it out")
    if not _same(config.suite, recorded.suite):
        both = resolve.whole(config).skills.keys() & {leaf.path for leaf in started.skills}
        if both:
            raise UsageError(
                f"suite {config.suite.name} has skill {min(both)} as {run} has, and is not the suite that it works on: "
                f"nobody could tell which of its tasks the run keeps sealed. Name that suite, "
                f"{recorded.suite.name if recorded.suite.path is None else run / resolve.SUITE}"
            )
        own = recorded.suite.path is not None
        if own and _meet(config, resolve.with_files(recorded, run)):
            raise UsageError(
                f"suite {config.suite.name} has tasks of {run}, and is not the suite that it works on: nobody could tell "
                f"which of them the run keeps sealed. Name that suite, {run / resolve.SUITE}"
            )
        return
    if changed := [key for key in SPLITTING if _value(config, key) != _value(recorded, key)]:
        raise UsageError(
            f"`{changed[0]}`: the tasks of {run} are split by its own: leave it out (--seed draws other tasks of a split)"
        )
    if "sealed" in splits:
        raise UsageError(
            f"the sealed tasks of {run} are for its first and its last score: name another split"
        )
    if started.grader != resolve.graders(config):
        raise DivergedError(
            f"the graders of suite {started.suite} have changed since {run} began, and its splits go by them: nobody could "
            "tell which tasks it keeps sealed"
        )


def with_program(config: Config, run: Path, scratch: Path) -> Config:
    """The configuration with the champion's program, written to `scratch`, unless it names an agent."""
    if config.agent.path is not None:
        return config
    with RunStore.open(run) as store:
        genome_in(store, Champions(store, Engine).newest().program).write(scratch)
    own = msgspec.structs.replace(config.agent, path=str(scratch))
    return resolve.with_files(msgspec.structs.replace(config, agent=own), limited=False)


def remember(evaluation: RunContext, run: Path) -> None:
    """Lets an evaluation recall the lessons that hold in a run's memory."""
    if not evaluation.lessons.on:
        return
    with MemoryStore(memory_folder(run)) as store:
        evaluation.lessons.write(shared.taken(store, evaluation.run))
    evaluation.lessons.open_cycle(shared.BEFORE + 1)


def _located(recorded: Config, run: Path) -> Config:
    """A recorded configuration that names the model that the run keeps by its path."""
    if recorded.policy.digest is None:
        return recorded
    policy = msgspec.structs.replace(recorded.policy, checkpoint=str((run / MODEL).resolve()), digest=None)
    return msgspec.structs.replace(recorded, policy=policy)


def _same(one: SuiteSection, other: SuiteSection) -> bool:
    """Whether both are one suite: of one's own by its content, wherever it lies and whatever it is called there."""
    return one.digest == other.digest and (one.digest is not None or one.name == other.name)


def _meet(one: Config, other: Config) -> bool:
    """Whether a listed task of one suite is one of the other's: the same in all that it is about, or the same text where
    that is all there is to one of them.
    """
    ours, theirs = _listed(one), _listed(other)
    return bool(
        {same(task.identity) for task in ours} & {same(task.identity) for task in theirs}
        or _plain(ours) & {same(task.prompt) for task in theirs}
        or _plain(theirs) & {same(task.prompt) for task in ours}
    )


def _plain(tasks: Sequence[Task]) -> set[str]:
    """The tasks that are a prompt and nothing else."""
    return {same(task.prompt) for task in tasks if task.identity == task.prompt}


def _listed(config: Config) -> list[Task]:
    """The listed tasks of a suite."""
    return [
        task
        for leaf in resolve.whole(config).skills.values()
        if leaf.listed is not None
        for tasks in leaf.listed.tasks.values()
        for task in tasks
    ]


def _value(config: Config, key: str) -> object:
    return reduce(getattr, key.split("."), config)
