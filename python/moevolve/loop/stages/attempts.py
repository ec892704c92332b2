"""Attempts on train tasks: what of a stage goes on record."""

from __future__ import annotations

from typing import Literal

from moevolve.loop import entries, samples
from moevolve.loop.context import RunContext
from moevolve.rollouts.attempts import Rollouts

Source = Literal["direct", "program"]
"""By the bare policy, or through the program."""


def record_attempts(run: RunContext, cycle: int, stage: str, source: Source, rollouts: Rollouts) -> None:
    """Puts a stage of the champion's attempts on record: a choice for people, the tallies, and what they cost."""
    champion = run.champion.id
    run.journal.keep([samples.of_stage(cycle, stage, champion, rollouts)])
    run.journal.write([entries.attempted(cycle, stage, source, champion, rollouts)])
    run.bill(cycle, stage)
