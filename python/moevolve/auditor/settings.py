"""A run's recorded configuration, as plain tables."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec


class Settings:
    """Settings by table and key; one that is absent or of another type has its default.

    Args:
        tables: the configuration.
    """

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self.tables = tables

    @classmethod
    def of(cls, canonical: str) -> Settings:
        """The settings of a recorded configuration; none where it cannot be read."""
        try:
            tables = msgspec.json.decode(canonical)
        except msgspec.DecodeError:
            tables = None
        return cls(tables if isinstance(tables, dict) else {})

    def number(self, table: str, key: str, default: float) -> float:
        """A number."""
        value = self._value(table, key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default

    def whole(self, table: str, key: str, default: int) -> int:
        """A whole number."""
        value = self._value(table, key)
        return value if isinstance(value, int) and not isinstance(value, bool) else default

    def flag(self, table: str, key: str) -> bool:
        """Whether something is on."""
        return self._value(table, key) is True

    def text(self, table: str, key: str, default: str) -> str:
        """A text."""
        value = self._value(table, key)
        return value if isinstance(value, str) else default

    def names(self, table: str, key: str) -> list[str]:
        """A list of texts."""
        value = self._value(table, key)
        return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []

    def numbers(self, table: str, key: str, default: tuple[float, float]) -> tuple[float, float]:
        """A lowest and a highest number."""
        value = self._value(table, key)
        if (
            isinstance(value, list)
            and len(value) == 2
            and all(isinstance(each, int | float) for each in value)
        ):
            return float(value[0]), float(value[1])
        return default

    def differing(self, file: Path) -> list[str]:
        """Keys in which a TOML file differs from these settings; unset ones are absent there.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no TOML.
        """
        other = _leaves(tomllib.loads(file.read_text(encoding="utf-8-sig")), "")
        ours = {key: value for key, value in _leaves(self.tables, "").items() if value is not None}
        return sorted(key for key in ours.keys() | other.keys() if ours.get(key) != other.get(key))

    def _value(self, table: str, key: str) -> Any:
        if not table:
            return self.tables.get(key)
        inside = self.tables.get(table)
        return inside.get(key) if isinstance(inside, dict) else None


def _leaves(table: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
