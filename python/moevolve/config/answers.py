"""How long answers may be where nobody says: presets know their own suite's short answers, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SERVED = 1024
"""Tokens of a completion that a server is asked for, for a suite or an agent that is not the preset's."""
HERE = 256
"""The same of a model that is computed here."""
OWN = ("suite.path", "suite.name", "agent.path", "agent.name")


def of_another_suite(preset: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether settings bring another suite than the preset's, whose skills are then none of theirs.

    Args:
        preset: what the preset's file says, by table.
        settings: dotted key -> value, on top of it.
    """
    named = preset.get("suite", {}).get("name")
    return any(settings.get(key) not in (None, named) for key in ("suite.path", "suite.name"))


def longer(preset: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, int]:
    """`policy.max_tokens` in place of a preset's, where settings bring another suite or agent; else nothing.

    The shipped seed answers as it was taught, whatever it is asked.

    Args:
        preset: what the preset's file says, by table.
        settings: dotted key -> value, on top of it.
    """
    named = preset.get("suite", {}).get("name")
    own = any(key in settings and settings[key] not in (None, named) for key in OWN)
    if not own:
        return {}
    policy = {
        key: settings.get(f"policy.{key}", preset.get("policy", {}).get(key))
        for key in ("endpoint", "checkpoint")
    }
    if policy["endpoint"] is not None:
        return {"max_tokens": SERVED}
    return {} if policy["checkpoint"] is None else {"max_tokens": HERE}
