"""A configuration as what a run works with: its engine, its suite, its prompts, and the settings in force."""

from __future__ import annotations

import msgspec

from moevolve.config import Config
from moevolve.errors import UsageError
from moevolve.models.configured import checkpoint as checkpoint
from moevolve.models.configured import configured
from moevolve.models.engine import Engine
from moevolve.models.prompts import BarePrompts, ChatPrompts, Prompts
from moevolve.rollouts.wording import Wording
from moevolve.tasks.suite import Suite
from moevolve.tasks.suite import suite as suites


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
    whole = suites(config.suite.name)
    return whole.only(config.suite.skills) if config.suite.skills else whole


def prompts(config: Config, engine: Engine) -> Prompts:
    """How the run's texts become tokens; the configuration is a settled one."""
    wording = config.wording
    if wording.style != "chat":
        return BarePrompts(engine)
    return ChatPrompts(
        engine, Wording(suite(config), shots=wording.shots, levels=config.suite.levels, spell=wording.spell)
    )
