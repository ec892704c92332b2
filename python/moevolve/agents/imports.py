"""Whether a program from elsewhere may stand in a run: what the run's agent freezes stays as it is."""

from __future__ import annotations

from collections.abc import Mapping

from moevolve.agents.genome import unusable
from moevolve.agents.manifest import MANIFEST, manifest_of
from moevolve.errors import UsageError


def fitted(files: Mapping[str, str], own: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The files as a program of the run, and why they cannot be one, in words; empty where they can.

    Args:
        files: the program from elsewhere. An `agent.toml` that says what the run's says, in other words or by its absence,
            is replaced by that.
        own: the files of one of the run's programs.
    """
    if not files:
        return {}, "it holds no program"
    try:
        ours = manifest_of(own)
        theirs = manifest_of(files) if MANIFEST in files else ours
    except UsageError as error:
        return {}, str(error)
    if theirs != ours:
        return {}, f"its {MANIFEST} says something else than the run's agent"
    fitting = {path: text for path, text in files.items() if path != MANIFEST}
    if MANIFEST in own:
        fitting[MANIFEST] = own[MANIFEST]
    frozen = sorted(
        path
        for path in fitting.keys() | own.keys()
        if path != MANIFEST and not ours.editable(path) and fitting.get(path) != own.get(path)
    )
    if frozen:
        return {}, f"{frozen[0]} is frozen: `edit` in {MANIFEST} does not name it"
    if fault := unusable(fitting):
        return {}, fault
    return dict(sorted(fitting.items())), ""
