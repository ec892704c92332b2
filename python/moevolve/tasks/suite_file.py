"""What `suite.toml` says of a suite: read strictly, each key may be left out."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from moevolve.config.files import parse_toml, read_text
from moevolve.errors import UsageError
from moevolve.records import Answers
from moevolve.tasks.listed import LISTED_SHARES
from moevolve.tasks.splits import SPLITS, Split
from moevolve.tasks.task import Match
from moevolve.tasks.tools.servers import ServerSection

Level = Annotated[int, Meta(ge=1, le=64)]
Seconds = Annotated[float, Meta(gt=0.0, le=86_400.0)]


class SkillSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `[skills."path"]` says of a skill."""

    summary: str = ""
    requires: tuple[str, ...] = ()
    """The skills that its tasks build on."""


class LimitSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `[limits]` says: bounds of a run on the suite, where the run has their defaults, written out or not."""

    requests: Annotated[int, Meta(ge=0, le=10**6)] | None = None
    tokens: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    max_tokens: Annotated[int, Meta(ge=8, le=10**6)] | None = None
    prompt_chars: Annotated[int, Meta(ge=1, le=10**7)] | None = None
    answer_chars: Annotated[int, Meta(ge=1, le=10**7)] | None = None
    seconds: Seconds | None = None
    step_seconds: Seconds | None = None
    memory_mb: Annotated[int, Meta(ge=64, le=10**6)] | None = None
    check_seconds: Annotated[float, Meta(gt=0.0, le=3600.0)] | None = None

    def given(self) -> dict[str, float]:
        """Keys of a run's configuration -> their values here."""
        sandbox = ("memory_mb", "check_seconds")
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {
            f"{'sandbox' if name in sandbox else 'roles.solver'}.{name}": value
            for name, value in values.items()
            if value is not None
        }


class SuiteFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,39}$")] = ""
    summary: str = ""
    answers: Answers = "any"
    levels: tuple[Level, Level] | None = None
    """Lowest and highest level of the tasks that belong to the suite; None for all."""
    match: Match = "last line"
    """How gold answers are compared: models reason before they answer."""
    splits: dict[Split, Annotated[float, Meta(ge=0.0, le=1.0)]] = msgspec.field(
        default_factory=LISTED_SHARES.copy
    )
    skills: dict[str, SkillSection] = {}
    tools: tuple[str, ...] | None = None
    """Python files in the folder whose functions programs may call; None for `tools.py`, where it is there."""
    limits: LimitSection = LimitSection()
    mcp: dict[str, ServerSection] = {}


def suite_file(file: Path) -> SuiteFile:
    """What the file says; the defaults where there is none.

    Raises:
        UsageError: it cannot be read, or says what no suite can be; names the file and the key.
    """
    if not file.exists():
        return SuiteFile()
    try:
        settings = msgspec.convert(parse_toml(read_text(file)), SuiteFile)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{file}: {error}") from None
    if missing := [split for split in SPLITS if settings.splits.get(split, 0.0) <= 0 and split != "dev"]:
        raise UsageError(f"{file}: splits: a run needs a share of {', '.join(missing)} above 0")
    if settings.levels is not None and settings.levels[0] > settings.levels[1]:
        raise UsageError(f"{file}: levels: they are [lowest, highest], not {list(settings.levels)}")
    return settings
