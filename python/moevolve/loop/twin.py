"""The random-reward twin of a run: the same loop as many cycles long, steered by a coin. It should gain nothing.

Where it does gain, rewards were not what the run's own gain came from: the tasks, the judge or the training leaks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from moevolve.config import Config
from moevolve.journal import figures
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore, is_run
from moevolve.models.configured import MODEL
from moevolve.records import Guarded

FOLDER = "twin"
NAME = "twin"


def config_of(config: Config, run: Path, cycles: int) -> Config:
    """The twin's configuration: the run's with the other arm, exactly `cycles` cycles, and the files it keeps."""
    own: dict[str, Any] = {
        name: msgspec.structs.replace(section, path=str(run / section.path))
        for name, section in (("suite", config.suite), ("agent", config.agent), ("tools", config.tools))
        if section.path is not None
    }
    if config.policy.digest is not None:
        own["policy"] = msgspec.structs.replace(config.policy, checkpoint=str(run / MODEL))
    config = msgspec.structs.replace(config, **own)
    guard = msgspec.structs.replace(config.guard, twin=False, approve="none")
    return msgspec.structs.replace(config, arm="random-reward", cycles=cycles, minutes=None, guard=guard)


def compare(
    run: Path,
    config: Config,
    cycles: int,
    start: Callable[[Config, Path], Path],
    resume: Callable[[Path, int], Path],
) -> Guarded:
    """Runs the twin inside the run's folder, or goes on with it, and says whether it gained.

    Args:
        run: the run's folder.
        config: the run's configuration.
        cycles: how many the run had.
        start: starts a run in a folder.
        resume: goes on with a run, by so many cycles more than it was to have.
    """
    folder = run / FOLDER
    if is_run(folder):
        with RunStore.open(folder) as store:
            planned = (
                read(store).view.planned or 0
            )  # A twin has a number of cycles, none where the run had none.
        resume(folder, max(0, cycles - planned))
    else:
        start(config_of(config, run, cycles), folder)
    with RunStore.open(folder) as store:
        view, head = read(store).view, store.head()
    found = view.sealed_gain
    before = view.point("sealed")
    assert found is not None and before is not None, "a finished run has two sealed scores"
    low, high = found.interval
    gained = low > 0
    measured = f"{figures.gain(found.gain)} ({figures.gain(low)} to {figures.gain(high)}) on the sealed split"
    conclusion = "it gained: rewards do not explain the run's gain" if gained else "no gain, as it should be"
    return Guarded(
        cycle=cycles,
        guard=NAME,
        checked=before.score.n,
        vetoed=0,
        detail=f"random-reward twin {measured}: {conclusion}; head {head[:16]}",
        variant=view.champion,
        alarm=gained,
    )
