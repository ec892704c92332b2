"""A configuration as what a run works with: its engine, its suite, its prompts, and the settings in force."""

from __future__ import annotations

from pathlib import Path

import msgspec

from moevolve.config import Config
from moevolve.errors import UsageError
from moevolve.models.configured import checkpoint as checkpoint
from moevolve.models.configured import configured
from moevolve.models.engine import Engine
from moevolve.models.prompts import BarePrompts, ChatPrompts, Prompts
from moevolve.records import RunStarted
from moevolve.rollouts.wording import Wording
from moevolve.tasks import folder
from moevolve.tasks.suite import Suite
from moevolve.tasks.suite import suite as suites

KEPT = "suite"
"""Where a run's folder keeps a copy of a suite that does not ship."""


def engine(config: Config) -> Engine:
    """The model, ready to learn by the configured method; errors as of `configured`."""
    return configured(config, Engine)


def settled(config: Config, engine: Engine) -> Config:
    """The configuration with what `auto` came to: results depend on it, so it is on record.

    Raises:
        UsageError: conversations are asked for, and the model has no chat template.
    """
    style = config.wording.style
    if style == "auto":
        shipped = config.policy.checkpoint is None
        style = "bare" if shipped or engine.chat_template is None else "chat"
    if style == "chat" and engine.chat_template is None:
        raise UsageError(
            f"{checkpoint(config)} has no chat template, so it cannot be asked in conversations: name a chat model "
            f"with --model PATH, or set wording.style=bare"
        )
    positions = config.learn.positions
    if positions == "auto":
        positions = "spread" if style == "bare" else "plain"
    replace = msgspec.structs.replace
    return replace(
        config,
        policy=replace(config.policy, precision=engine.precision),
        wording=replace(config.wording, style=style),
        learn=replace(config.learn, positions=positions, method="full" if engine.adapter is None else "lora"),
    )


def suite(config: Config) -> Suite:
    """The suite that a run works on.

    Raises:
        UsageError: the configuration names a suite or skill that does not exist.
    """
    section = config.suite
    whole = suites(section.name if section.digest is None else f"{section.name}@{section.digest}")
    return whole.only(config.suite.skills, config.suite.levels)


def with_suite(config: Config, run: Path | None = None) -> Config:
    """The configuration with its own suite's name and digest, where it has one; `suite` knows it from now on.

    Args:
        config: what names the suite.
        run: the folder of a run that keeps a copy; None where the suite is still where the configuration says.

    Raises:
        UsageError: there is no such suite, skill or level, or the suite is not the one that the run began with.
    """
    section = config.suite
    if section.path is None:
        suite(config)
        return config
    source = Path(section.path) if run is None else run / KEPT
    whole, digest = folder.opened(source, section.name if section.digest else None)
    if section.digest not in (None, digest):
        raise UsageError(
            f"{source} is not the suite that the run began with (its content hash is {digest}, not {section.digest}): "
            f"bring the old one back, or start a new run"
        )
    section = msgspec.structs.replace(section, name=whole.name, digest=digest)
    config = msgspec.structs.replace(config, suite=section)
    suite(config)
    return config


def keep_suite(config: Config, run: Path, other: Path | None = None) -> Config:
    """Copies the configuration's own suite, or that of the run in `other`, into the folder `run`; returns the configuration
    that names the copy."""
    section = config.suite
    if section.path is None:
        return config
    source = Path(section.path) if other is None else other / KEPT
    if source.resolve() != (run / KEPT).resolve():
        folder.copy(source, run / KEPT)
    return msgspec.structs.replace(config, suite=msgspec.structs.replace(section, path=KEPT))


def on_record(started: RunStarted, run: Path) -> Config:
    """The configuration of a run on record, whose suite is here as it was.

    Raises:
        UsageError: the suite is not, or it has other skills or levels than the run began with; says where to go on.
    """
    config = Config.from_canonical(started.config)
    try:
        config = with_suite(config, run)
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


def prompts(config: Config, engine: Engine) -> Prompts:
    """How the run's texts become tokens; the configuration is a settled one."""
    wording = config.wording
    if wording.style != "chat":
        return BarePrompts(engine)
    return ChatPrompts(engine, Wording(suite(config), shots=wording.shots, spell=wording.spell))
