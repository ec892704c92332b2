"""The settings of an optimisation run, as they go on record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from moevolve.config.io import put
from moevolve.config.schema import ProposerSettings
from moevolve.errors import ConfigError
from moevolve.gate.spending import AlphaSpending
from moevolve.loop.optimise.rule import MOST, exhausted, least_p
from moevolve.records import Null
from moevolve.selection.table import policy
from moevolve.tasks.evaluators import folder as folders
from moevolve.tasks.evaluators.folder import Contract, EvaluatorFolder
from moevolve.tasks.evaluators.marks import marked
from moevolve.tasks.evaluators.process import EvaluatorLimits

FOLDER = "evaluator"
"""Where the evaluator's folder lies inside a run's."""
DECISIONS = 3
"""The rule of decisions in force (`rule.py`)."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides what an optimisation run does; worker processes change its speed alone."""

    contract: Contract
    name: str
    """The evaluator folder's."""
    configuration: str = ""
    """File name of its configuration; empty for the contract's usual one. Of gepa's contract the file itself."""
    seed: int = 0
    evaluations: Annotated[int, Meta(ge=1, le=99_999_999)] = 100
    """How many there are in all, second looks included."""
    in_flight: Annotated[int, Meta(ge=1, le=256)] = 4
    """A program is proposed when all but so many evaluations before it are on record: worker processes beyond that idle."""
    population: Annotated[int, Meta(ge=0)] = 64
    """Members of the archive that a parent is chosen from; the worst leaves first. 0 keeps all."""
    selection: str = "shinka"
    """Who chooses the parent."""
    proposers: tuple[str, ...] = ("constants", "syntax", "crossover")
    """Who writes children, in turn."""
    marks: bool = False
    """Refuse edits outside of the program's EVOLVE-BLOCK marks."""
    fresh: Annotated[int, Meta(ge=4, le=MOST)] = 8
    """Fresh scores of each side that decide, at least, where scores differ from one evaluation to the next."""
    alpha: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    """Bound on the probability that a run ever promotes a program that is no better, where scores differ."""
    max_tokens: Annotated[int, Meta(ge=1)] = 8192
    """Of one answer of a language model."""
    proposer: ProposerSettings = ProposerSettings()
    """The server whose model writes programs where `proposers` names `model`."""
    decisions: Literal[1, 2, 3] = 1
    """The rule of decisions. By 1 and 2, those of older versions, every test takes `fresh` scores; by 1 only the two
    programs at hand said whether scores differ."""
    limits: EvaluatorLimits = EvaluatorLimits()
    nulls: Literal["off", "on"] = "off"
    """Whether nulls of its search run beside it at the end, each at as many evaluations (`nulls.py`)."""
    null: Null | None = None
    """Which null the run is; None of one that searches."""

    def __post_init__(self) -> None:
        if self.proposer.command:
            raise ValueError(
                "proposer.command writes edits of agents: here a proposer is a file that defines propose"
            )
        if ("model" in self.proposers) != (self.proposer.endpoint is not None):
            raise ValueError("the proposer `model` and proposer.endpoint go together")

    def canonical(self) -> str:
        """The settings as JSON with sorted keys: what the journal holds."""
        return msgspec.json.encode({"optimise": msgspec.to_builtins(self)}, order="sorted").decode()

    def folder(self, path: Path) -> EvaluatorFolder:
        """The evaluator folder in `path`; errors as of its reader."""
        config = path / self.configuration if self.configuration else None
        if self.contract == "gepa":
            return folders.gepa(path / self.configuration)
        return (folders.openevolve if self.contract == "openevolve" else folders.shinka)(path, config)


def from_canonical(text: str) -> Settings | None:
    """The settings on record; None where the run is no optimisation run."""
    try:
        table = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    if not isinstance(table, dict) or "optimise" not in table:
        return None
    return msgspec.convert(table["optimise"], Settings)


def settings(folder: EvaluatorFolder, given: dict[str, Any]) -> Settings:
    """The settings of a run on a folder: what its configuration says, and what was given by dotted key.

    Raises:
        ConfigError: an unknown key, or a value that is impossible.
    """
    table: dict[str, Any] = {
        "contract": folder.contract,
        "name": folder.name,
        "marks": folder.contract == "shinka" or bool(folder.settings.get("marks")),
        "limits": {} if folder.seconds is None else {"seconds": folder.seconds},
    }
    if folder.contract == "gepa":
        table["configuration"] = folder.evaluator
    if folder.iterations is not None:
        table["evaluations"] = folder.iterations
    if folder.seed is not None:
        table["seed"] = folder.seed
    table["decisions"] = DECISIONS
    for key, what in (("decisions", "says which version decided"), ("null", "says which null a run is")):
        if key in given:
            raise ConfigError(f"optimisation settings: {key} {what}, and is no setting")
    for key, value in given.items():
        if value is not None:
            put(table, key, value)
    try:
        found = msgspec.convert(table, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"optimisation settings: {error}") from None
    policy(found.selection)
    if not -(1 << 63) <= found.seed < 1 << 64:
        raise ConfigError(f"optimisation settings: seed={found.seed}: a seed has 64 bits")
    if found.population == 1:
        raise ConfigError(
            "optimisation settings: population=1: the champion alone would stay; take 2 at least, or 0 to keep all"
        )
    if found.marks and folder.contract != "gepa" and not marked(folder.initial()):
        raise ConfigError(
            f"optimisation settings: marks=true, and {folder.path / folder.program} has no comment lines EVOLVE-BLOCK-START "
            "and EVOLVE-BLOCK-END: nothing of it could be changed"
        )
    level = AlphaSpending(alpha=found.alpha).level
    if exhausted(level):
        raise ConfigError(
            f"optimisation settings: alpha={found.alpha:g}: no test can promote, since the p-value of {MOST} scores a side, "
            f"the most that one takes, is {least_p(MOST):.2g} at least, and the first decision needs {level:.2g}"
        )
    own = tuple(str(Path(name).resolve()) if name.endswith(".py") else name for name in found.proposers)
    section = found.proposer
    if section.model is not None and section.server.prices is not None:
        from moevolve.models.endpoint.prices import frozen

        section = msgspec.structs.replace(section, server=frozen(section.server, section.model))
    return msgspec.structs.replace(found, proposers=own, proposer=section)
