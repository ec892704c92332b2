"""Where the shipped seed checkpoint lies, and what tells a checkpoint's files from others."""

import re
from pathlib import Path

from blake3 import blake3

from moevolve.errors import CheckpointError

WHOLE = 8 << 30
"""Bytes of the largest file that is hashed whole."""


def seed_checkpoint() -> Path:
    """The folder of the seed checkpoint inside the installed package.

    Raises:
        CheckpointError: this installation lacks it.
    """
    folder = Path(__file__).parent / "seed"
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"the seed checkpoint is missing from {folder}: make it with `make seed`")
    return folder


def files_hash(path: Path) -> str:
    """BLAKE3 in hex over the bytes of a model's weights: a GGUF file with its parts, or a folder's safetensors, in order
    of name.

    Of a file above `WHOLE` bytes only its size, and a mebibyte of each gibibyte, count.
    """
    files = _parts(path) if path.is_file() else sorted(path.glob("*.safetensors"))
    whole = blake3()
    for file in files:
        size = file.stat().st_size
        if size <= WHOLE:
            whole.update_mmap(file)
            continue
        whole.update(str(size).encode())
        with file.open("rb") as opened:
            for start in range(0, size, 1 << 30):
                opened.seek(start)
                whole.update(opened.read(1 << 20))
    return str(whole.hexdigest())


def _parts(file: Path) -> list[Path]:
    """The files of a split GGUF, of which this is one, or the file alone."""
    named = re.fullmatch(r"(.+)-\d{5}-of-(\d{5})\.gguf", file.name)
    if named is None:
        return [file]
    stem, count = named.groups()
    parts = (file.with_name(f"{stem}-{number:05}-of-{count}.gguf") for number in range(1, int(count) + 1))
    return [part for part in parts if part.is_file()]
