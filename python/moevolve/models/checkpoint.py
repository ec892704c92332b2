"""Where the shipped seed checkpoint lies."""

from pathlib import Path

from moevolve.errors import CheckpointError


def seed_checkpoint() -> Path:
    """The folder of the seed checkpoint inside the installed package.

    Raises:
        CheckpointError: this installation lacks it.
    """
    folder = Path(__file__).parent / "seed"
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"the seed checkpoint is missing from {folder}: make it with `make seed`")
    return folder
