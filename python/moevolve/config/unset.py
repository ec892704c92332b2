"""Settings that others may fill in where a run's file leaves them at their defaults, written out or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

Section = TypeVar("Section", bound=msgspec.Struct)


def filled(section: Section, values: Mapping[str, object]) -> Section:
    """The section with `values` in place of what is at its default; a value of None fills nothing.

    Raises:
        ValueError: they do not go with what the section has set.
    """
    default = type(section)()
    taken = {
        name: value
        for name, value in values.items()
        if value is not None and getattr(section, name) == getattr(default, name)
    }
    return msgspec.structs.replace(section, **taken)
