"""The settings file in a run's folder: a copy for people of what is on record, which a resumed run holds to."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from moevolve.config import Config, io
from moevolve.config.files import parse_toml, read_text, typed
from moevolve.errors import ConfigError

SETTINGS = "run.toml"
"""The resolved configuration inside a run's folder."""


def refuse_changes(config: Config, run: Path) -> None:
    """Makes sure that the settings file still says what is on record; no file says nothing else.

    Raises:
        ConfigError: it was changed; names the keys, and what to do.
    """
    file = run / SETTINGS
    if not file.is_file():
        return
    try:
        data = io.moved(parse_toml(read_text(file)))
        there = msgspec.to_builtins(io.convert(data, Config, str(file)))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML any more: {error}; {_advice(run)}") from None
    except ConfigError as error:
        raise ConfigError(f"{error}; {_advice(run)}") from None
    changed = list(_changes(there, msgspec.to_builtins(config), ""))
    if changed:
        raise ConfigError(f"{file} was changed: {', '.join(changed)}; {_advice(run)}")


def _advice(run: Path) -> str:
    return (
        "a run keeps the settings that it began with, since its records and its error budget come from them. Undo the "
        f"change, or remove the file, to go on; `moevolve resume {typed(run)} --cycles +N` or `--minutes +M` makes the run "
        f"longer; `moevolve run {typed(run / SETTINGS)}` starts a new run with the file's settings"
    )


def _changes(there: Mapping[str, Any], recorded: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in recorded.items():
        if isinstance(value, Mapping):
            yield from _changes(there[key], value, f"{prefix}{key}.")
        elif there[key] != value:
            yield f"`{prefix}{key}` is {there[key]!r} there and {value!r} on record"
