"""Configuration files: TOML read strictly, with errors that name file, key and a way out, and written back."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import Meta

from moevolve.config.files import parse_toml, read_text, typed
from moevolve.config.schema import Section
from moevolve.errors import ConfigError, UsageError
from moevolve.records import Arm

PRESETS = "moevolve.presets"

MOVED = {
    "evolve.selection": ("selection.policy",),
    "evolve.requests": ("roles.improver.requests",),
    "sandbox.seconds": ("roles.solver.seconds", "roles.improver.seconds"),
}
"""Keys of earlier versions, and the keys that hold the same now."""

_Section = TypeVar("_Section", bound=Section)


def presets() -> list[str]:
    """Names of the shipped presets."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in files(PRESETS).iterdir() if entry.name.endswith(".toml")
    )


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Reads `KEY=VALUE` texts; a value is TOML, or a plain string where it is none.

    Raises:
        UsageError: a text without a key or `=`.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set takes KEY=VALUE, such as gate.alpha=0.05, not {setting!r}")
        try:
            found[key.strip()] = parse_toml(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key.strip()] = value.strip()
    return found


def nearest(word: str, known: Sequence[str]) -> str:
    """` (did you mean ...?)`, or nothing where no known word is near."""
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean `{close[0]}`?)" if close else ""


# ---------------------------------------------------------------------- reading


def read(source: str | Path) -> tuple[str, str, str, Path]:
    """(text, what to call it in messages, the run's name, the folder that relative paths start from)."""
    known = presets()
    if isinstance(source, str) and source in known:
        said = (files(PRESETS) / f"{source}.toml").read_text(encoding="utf-8")
        return said, f"preset {source}", source, Path.cwd()
    path = Path(source)
    try:
        said = read_text(path)
    except FileNotFoundError:
        if path.suffix == ".toml" or len(path.parts) > 1:
            raise UsageError(
                f"there is no file {path}: `moevolve init {typed(path)}` writes one to start from"
            ) from None
        raise UsageError(
            f"unknown preset `{source}`{nearest(str(source), known)}: presets are {', '.join(known)}; "
            f"a file's name ends in .toml"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read as a configuration: {error.strerror}") from None
    name = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip("._-")[:64] or "run"
    return said, str(path), name, path.resolve().parent


def absolute(section: _Section, field: str, folder: Path) -> _Section:
    """The section with the path of `field` made absolute."""
    path = getattr(section, field)
    if path is None or Path(path).is_absolute():
        return section
    return msgspec.structs.replace(section, **{field: str((folder / path).resolve())})


def put(data: dict[str, Any], key: str, value: Any) -> None:
    """Sets the value of a dotted key."""
    *tables, last = key.split(".")
    for table in tables:
        data = data.setdefault(table, {})
        if not isinstance(data, dict):
            raise ConfigError(f"`{key}`: `{table}` is not a table")
    data[last] = value


def moved(data: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration, keys of earlier versions in their present tables."""
    for key, homes in MOVED.items():
        table, _, last = key.partition(".")
        if last in data.get(table, {}):
            value = data[table].pop(last)
            for home in homes:
                put(data, home, value)
    return data


def convert(data: Mapping[str, Any], root: type[_Section], where: str) -> _Section:
    """The configuration in decoded TOML or JSON; `where` names its source in errors.

    Raises:
        ConfigError: an unknown key, or a value of another type or out of range; names the dotted key.
    """
    unknown = list(_unknown(data, root, root, ""))
    if unknown:
        raise ConfigError(f"{where}: " + "; ".join(unknown))
    for key, value in _leaves(data, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where}: `{key}` must be a finite number, not {value}")
    try:
        return msgspec.convert(data, root)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).rpartition(" - at `$")
        if not reason:
            raise ConfigError(f"{where}: {error}") from None
        key = place.rstrip("`").lstrip(".")
        value = _value(data, key)
        # What stands where a key's name belongs may be the key.
        secret = key.endswith("key_env")
        shown = (
            f", not {value!r}" if not secret and value is not None and not isinstance(value, Mapping) else ""
        )
        if isinstance(value, str) and key == "arm":
            arms = get_args(Arm)
            raise ConfigError(
                f"{where}: unknown arm `{value}`{nearest(value, arms)}: arms are {', '.join(arms)}"
            ) from None
        wanted = re.sub(r", got `\w+`$", "", reason[0].lower() + reason[1:])
        raise ConfigError(f"{where}: `{key}`: {wanted}{shown}") from None


def _unknown(
    data: Mapping[str, Any], struct: type[Section], root: type[Section], prefix: str
) -> Iterator[str]:
    """One clause for each key that the structs lack."""
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in data.items():
        kind = fields.get(key)
        if kind is None:
            home = next((f" (it belongs in [{table}])" for table in _homes(root, key, "")), "")
            if f"{prefix}{key}" in MOVED:
                home = f" (it is `{MOVED[f'{prefix}{key}'][0]}` now)"
            yield f"unknown key `{prefix}{key}`{home or nearest(key, list(fields)) or _known(prefix, fields)}"
        elif isinstance(kind, type) and issubclass(kind, Section) and isinstance(value, Mapping):
            yield from _unknown(value, kind, root, f"{prefix}{key}.")


def _known(prefix: str, fields: Mapping[str, Any]) -> str:
    return f" (known {'in [' + prefix[:-1] + ']' if prefix else 'at the top'}: {', '.join(fields)})"


def _homes(struct: type[Section], key: str, prefix: str) -> Iterator[str]:
    """Tables that have a key of this name."""
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            if key in field.type.__struct_fields__:
                yield f"{prefix}{field.name}"
            yield from _homes(field.type, key, f"{prefix}{field.name}.")


def _leaves(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _value(data: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(data, Mapping):
            return None
        data = data.get(part)
    return data


# ---------------------------------------------------------------------- writing


def toml(section: Section, comments: bool, prefix: str = "") -> Iterator[str]:
    """Lines of a table and of those in it; `comments` puts each key's meaning before it, unset keys as comments."""
    tables = []
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        if isinstance(value, Section):
            tables.append((field.name, value))
            continue
        if comments:
            yield f"# {_description(type(section), field.name)}."
        if value is not None:
            yield f"{field.name} = {_literal(value)}"
        elif comments:
            yield f"# {field.name} ="
    for name, table in tables:
        yield ""
        yield f"[{prefix}{name}]"
        yield from toml(table, comments, f"{prefix}{name}.")


def _description(struct: type[Section], field: str) -> str:
    kind = next(f.type for f in msgspec.structs.fields(struct) if f.name == field)
    return next(
        (
            meta.description
            for meta in getattr(kind, "__metadata__", ())
            if isinstance(meta, Meta) and meta.description
        ),
        field,
    )


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A TOML basic string is a JSON string but for DEL, which TOML wants escaped too.
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text or "e" not in text else text.replace("e", ".0e")
    if isinstance(value, list | tuple):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return str(value)
