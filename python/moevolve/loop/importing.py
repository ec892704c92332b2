"""A program that a person puts forward: a request that leads to one more candidate of a run."""

from __future__ import annotations

from pathlib import Path

from moevolve.agents.genome import load
from moevolve.agents.imports import fitted
from moevolve.errors import UsageError
from moevolve.journal.control import Inbox, Request
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.loop.variants import genome_in


def put_forward(run: Path, agent: Path) -> int:
    """Leaves a program with a run, which takes it up between two stages; returns the request's number.

    Args:
        run: the run's folder.
        agent: the program's folder.

    Raises:
        UsageError: no run or no program is there, or it changes what the run's agent freezes.
    """
    genome = load(agent)
    with RunStore.open(run) as store:
        reader = read(store)
        view = reader.view
        row = view.variants.row(view.champion)
        if row is None:
            raise UsageError(f"{run} holds no record yet: start or resume it first")
        own = genome_in(store, reader.variant(row).program).files
    files, fault = fitted(genome.files, own)
    if fault:
        raise UsageError(f"{agent} cannot be a program of {run}: {fault}")
    return Inbox(run).put(Request(command="import", files=files), view.requests)
