"""A run's own model: where it lies, how it is loaded to learn, and how it is spoken to."""

from __future__ import annotations

from pathlib import Path

import msgspec

from moevolve.config import Config
from moevolve.errors import UsageError
from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.engine import TARGETS, Engine
from moevolve.models.plan import Plan
from moevolve.models.prompts import BarePrompts, ChatPrompts, Prompts
from moevolve.rollouts.wording import Wording
from moevolve.tasks.suite import Suite, suite

SMALL = 10**8
"""Parameters up to which all weights train where nobody says otherwise."""


def checkpoint(config: Config) -> Path:
    """Where the model lies that a run starts from."""
    return Path(config.policy.checkpoint) if config.policy.checkpoint else seed_checkpoint()


def load(config: Config) -> Engine:
    """The model, ready to learn by the configured method.

    Raises:
        CheckpointError: it cannot be loaded.
        UsageError: it has no tokenizer, or lacks what the adapter should stand beside.
    """
    path = checkpoint(config)
    precision = "fastest" if config.policy.precision == "auto" else config.policy.precision
    learn = config.learn
    adapts = learn.method == "lora" or (learn.method == "auto" and large(path))
    engine = Engine.load(
        path,
        threads=config.policy.threads,
        precision=precision,
        # What trains as a whole becomes f32, whatever its size or format; beneath an adapter it stays as it is.
        weights="auto" if adapts else "trainable",
    )
    if not engine.has_tokenizer:
        raise UsageError(f"{path} has no tokenizer.json, and a run needs one to read tasks")
    if adapts:
        engine.adapt(learn.rank, learn.scale, learn.targets or TARGETS, seed=config.seed)
    return engine


def large(path: Path) -> bool:
    """Whether a model is trained by an adapter where nobody says otherwise."""
    return path.suffix == ".gguf" or Plan.of(path).parameters > SMALL


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


def tasks(config: Config) -> Suite:
    """The suite that a run works on.

    Raises:
        UsageError: the configuration names a suite or skill that does not exist.
    """
    whole = suite(config.suite.name)
    return whole.only(config.suite.skills) if config.suite.skills else whole


def prompts(config: Config, engine: Engine) -> Prompts:
    """How the run's texts become tokens; the configuration is a settled one."""
    wording = config.wording
    if wording.style != "chat":
        return BarePrompts(engine)
    return ChatPrompts(
        engine, Wording(tasks(config), shots=wording.shots, levels=config.suite.levels, spell=wording.spell)
    )
