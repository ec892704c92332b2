"""The champion of another run as the model that a run starts from: the run keeps a copy, so that it needs no other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from moevolve.config import Config
from moevolve.errors import CheckpointError, UsageError
from moevolve.journal.store import RunStore, is_run
from moevolve.loop.export import export_weights
from moevolve.models.champions import Champions
from moevolve.models.checkpoint import files_hash
from moevolve.models.configured import MODEL, checkpoint, is_known, know
from moevolve.models.engine import Engine


@contextmanager
def exported(config: Config, out: Path) -> Iterator[Config]:
    """The configuration with the weights of a champion in place of the run that it names as its checkpoint.

    They lie beside `out` until the context ends; `kept` copies them into a run's folder.

    Raises:
        UsageError: the run holds no record yet, or has no weights.
        CheckpointError: the weights cannot be written, or what they build on is gone.
        StoreError: the champion's weights are gone.
    """
    policy = config.policy
    if policy.checkpoint is None or policy.digest is not None or not is_run(Path(policy.checkpoint)):
        yield config
        return
    run = Path(policy.checkpoint)
    beside = next(folder for folder in out.resolve().parents if folder.is_dir())
    with TemporaryDirectory(prefix=".moevolve-model-", dir=beside) as scratch:
        path = Path(scratch) / MODEL
        with RunStore.open(run) as store:
            champions = Champions(store, Engine)
            # Weights that trained as a whole are f32, whatever the checkpoint was that they came from.
            whole = champions.config.learn.method == "full"
            export_weights(store, champions.newest(), path, dtype="f32" if whole else None)
        digest = files_hash(path)
        know(digest, path, f"the champion of {run}")
        policy = msgspec.structs.replace(policy, checkpoint=str(path), digest=digest)
        yield msgspec.structs.replace(config, policy=policy)


def located(config: Config, run: Path | None) -> None:
    """Says where the model is that a run keeps, and sees that it is what the run began with.

    Args:
        config: the configuration.
        run: the run's folder; None where the model is still where the configuration says.

    Raises:
        CheckpointError: it is gone.
        UsageError: its weights have been changed.
    """
    policy = config.policy
    if policy.digest is None or policy.checkpoint is None:
        return
    path = Path(policy.checkpoint) if run is None else run / MODEL
    if run is None and is_known(policy.digest, path):
        return
    if not path.is_dir():
        raise CheckpointError(f"{path} is gone: it is the model that the run starts from")
    if (digest := files_hash(path)) != policy.digest:
        raise UsageError(
            f"{path} is not the model that the run began with (its content hash is {digest[:16]}, not "
            f"{policy.digest[:16]}): bring the old one back, or start a new run"
        )
    know(policy.digest, path)


def kept(config: Config, run: Path) -> Config:
    """Copies a model that a run keeps into its folder; returns the configuration that names the copy."""
    digest = config.policy.digest
    if digest is None:
        return config
    source, target = checkpoint(config), run / MODEL
    if source.resolve() != target.resolve():
        shutil.copytree(source, target, copy_function=_linked, dirs_exist_ok=True)
    know(digest, target)
    return msgspec.structs.replace(config, policy=msgspec.structs.replace(config.policy, checkpoint=MODEL))


def _linked(source: str, target: str) -> None:
    """Gives a file a second name, or, where the file system has no such, copies it."""
    try:
        os.link(source, target)
    except FileExistsError:
        Path(target).unlink()
        _linked(source, target)
    except OSError:
        shutil.copyfile(source, target)
