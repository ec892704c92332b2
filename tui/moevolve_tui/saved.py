"""What the screens keep from one time to the next: theme, keys, screen, zoom, axis. A file that cannot be read changes
nothing, and is not written over."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class Saved(msgspec.Struct, kw_only=True):
    """The settings of the screens."""

    theme: str = ""
    keymap: dict[str, str] = {}
    """Id of a binding -> keys, separated by commas."""
    screen: int = 1
    zoomed: bool = False
    log_axis: bool = False


def default_path() -> Path:
    """Where settings lie: under XDG_CONFIG_HOME, or ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base else Path.home() / ".config") / "moevolve" / "screens.json"


def load(path: Path | None) -> tuple[Saved, str]:
    """The settings on file, or as they are at first; and why a file that is there could not be read, or nothing."""
    if path is None:
        return Saved(), ""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Saved), ""
    except FileNotFoundError:
        return Saved(), ""
    except (OSError, msgspec.DecodeError) as error:
        return Saved(), f"{path}: {error}"


def store(path: Path | None, saved: Saved) -> str:
    """Writes the settings; returns why it could not, or nothing."""
    if path is None:
        return ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(saved)) + b"\n")
        beside.replace(path)
    except OSError as error:
        return str(error)
    return ""
