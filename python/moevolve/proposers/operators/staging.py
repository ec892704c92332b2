"""Edits of how an attempt in boxes is put together: what `agent.stages.toml` says."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from msgspec.structs import replace

from moevolve.agents.box.stages import MOST, STAGES, Stages, stages_of
from moevolve.errors import UsageError
from moevolve.proposers.operators.operator import Change, Inapplicable

VOTES = (1, 3, 5)


def retries(files: Mapping[str, str], rng: Random) -> Change:
    """Other further runs of an attempt that failed by its own doing, each told why."""
    now = _stages(files)
    more = rng.choice([count for count in range(1, MOST + 1) if count != now.retries])
    summary = (
        f"up to {more} further run{'s' * (more != 1)} of an attempt, each told the error of the one before"
    )
    return Change(STAGES, replace(now, retries=more).toml(), f"{STAGES}: {summary}")


def votes(files: Mapping[str, str], rng: Random) -> Change:
    """The most frequent answer of other runs of an attempt; worth something where they differ."""
    now = _stages(files)
    count = rng.choice([count for count in VOTES if count != now.votes])
    summary = f"the most frequent of {count} answers" if count > 1 else "the answer of one run"
    return Change(STAGES, replace(now, votes=count).toml(), f"{STAGES}: {summary}")


def _stages(files: Mapping[str, str]) -> Stages:
    try:
        return stages_of(files)
    except UsageError as error:
        raise Inapplicable(str(error)) from None
