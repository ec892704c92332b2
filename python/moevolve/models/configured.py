"""The model that a run's configuration names, loaded as the run trains it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from moevolve.config import Config
from moevolve.errors import CheckpointError, UsageError
from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.device import settled_device
from moevolve.models.plan import Plan
from moevolve.models.trainable import TARGETS, TrainableDecoder

Model = TypeVar("Model", bound=TrainableDecoder)

SMALL = 10**8
"""Parameters up to which all weights train where nobody says otherwise."""


MODEL = "model"
"""Where a run's folder keeps the model that it starts from, where that is another run's champion."""

_kept: dict[str, tuple[Path, str]] = {}
"""Models that runs keep: where they are now, and what to call them in messages, by content hash."""


def know(digest: str, path: Path, called: str = "") -> None:
    """Says where a model that a run keeps is, and what messages call it."""
    _kept[digest] = path, called or str(path)


def is_known(digest: str, path: Path) -> bool:
    """Whether a model that a run keeps is known to be there."""
    return digest in _kept and _kept[digest][0] == path


def know_kept(config: Config, *folders: Path) -> None:
    """Says that the model that a run keeps, where it keeps one, is in the first of these folders that has it.

    Raises:
        CheckpointError: none of them has it.
    """
    if config.policy.digest is None:
        return
    path = next((folder / MODEL for folder in folders if (folder / MODEL).is_dir()), None)
    if path is None:
        raise CheckpointError(f"{folders[0] / MODEL} is gone: it is the model that the run starts from")
    know(config.policy.digest, path)


def called(config: Config) -> str:
    """What messages call the model that a run starts from."""
    known = _kept.get(config.policy.digest or "")
    return str(checkpoint(config)) if known is None else known[1]


def checkpoint(config: Config) -> Path:
    """Path of the model that a run starts from."""
    if config.policy.digest in _kept:
        return _kept[config.policy.digest][0]
    return Path(config.policy.checkpoint) if config.policy.checkpoint else seed_checkpoint()


def configured(config: Config, kind: type[Model]) -> Model:
    """The model, ready to learn by the configured method.

    Raises:
        CheckpointError: it cannot be loaded.
        UsageError: its device cannot be used here, it has no tokenizer, or lacks what the adapter should stand beside.
    """
    path = checkpoint(config)
    learn = config.learn
    adapts = learn.method == "lora" or (learn.method == "auto" and large(path))
    precision = "fastest" if config.policy.precision == "auto" else config.policy.precision
    if adapts and precision == "fastest" and settled_device(config.policy.device) != "cpu":
        # An adapter's share of the weights would be rounded away on a card.
        precision = "f32"
    model = kind.load(
        path,
        device=config.policy.device,
        threads=config.policy.threads,
        precision=precision,
        # What trains as a whole becomes f32, whatever its size or format; beneath an adapter it stays as it is.
        weights="auto" if adapts else "trainable",
    )
    if not model.has_tokenizer:
        raise UsageError(f"{called(config)} has no tokenizer.json, and a run needs one to read tasks")
    if adapts:
        model.adapt(learn.rank, learn.scale, learn.targets or TARGETS, seed=config.seed)
    return model


def large(path: Path) -> bool:
    """Whether a model is trained by an adapter where nobody says otherwise."""
    return path.suffix == ".gguf" or Plan.of(path).parameters > SMALL
