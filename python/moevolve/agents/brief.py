"""What `improve.py`, `learn.py` and `select_parent.py` are told. Never a gold answer: confirmed ones are the policy's."""

from __future__ import annotations

from moevolve.agents.genome import MOST_CHARACTERS, MOST_FILES
from moevolve.config.roles import RoleSection
from moevolve.records import Struct


class SkillReport(Struct, frozen=True):
    """Estimated success of one skill by level; index 0 is level `first`."""

    path: str
    direct: list[float]
    """The bare policy's."""
    program: list[float]
    """The champion's, through its program."""
    first: int = 1


class Failure(Struct, frozen=True):
    """A failed attempt on a train task: what was asked, what was answered, how it failed."""

    prompt: str
    skill: str
    level: int
    answer: str
    failure: str

    trace: list[tuple[str, str]] = []
    """What the program asked, and what it was told, where that is at hand."""
    detail: str = ""
    """What the check said of it, or the end of what it raised."""


class Ancestor(Struct, frozen=True):
    """A variant that the parent comes from."""

    operator: str
    summary: str
    score: float | None


class Success(Struct, frozen=True):
    """An attempt on a train task that the grader confirmed."""

    prompt: str
    skill: str
    level: int
    answer: str
    trace: list[tuple[str, str]] = []
    """As a failure's."""


class TrialReport(Struct, frozen=True):
    """A past proposal and what became of it; `gain` is its mean paired difference or its screening
    difference."""

    cycle: int
    operator: str
    summary: str
    gain: float
    decision: str


class BriefLimits(Struct, frozen=True):
    """Limits of one call of an improver."""

    candidates: int
    """Candidates that are looked at, as many as are asked for; more are dropped."""
    files: int
    """Files of a program."""
    file_chars: int
    """Characters of a file."""
    requests: int
    """Requests to the policy; 0 where it is not to be asked."""
    completions: int
    """Completions of one request."""
    max_tokens: int
    """Tokens of one completion."""
    tokens: int
    """Tokens of all completions together."""
    prompt_chars: int
    """Characters of one prompt."""
    seconds: float
    """Wall-clock time of the call, the policy's left out."""
    step_seconds: float
    """Processor time between two requests."""


class Brief(Struct, frozen=True):
    """What an improver knows."""

    source: dict[str, str]
    """The parent program's files."""
    skills: list[SkillReport]
    failures: list[Failure]
    history: list[TrialReport]
    """Oldest first."""
    lineage: list[str]
    """Summaries of the parent's ancestors."""
    candidates: int
    """How many candidates are asked for."""
    cycle: int
    metric: str
    successes: list[Success] = []
    """Lets an improver try a route against answers that are known to be right."""
    limits: BriefLimits | None = None
    """The host fills it in."""
    ancestors: list[Ancestor] = []
    """Those of the parent, oldest first, itself included, with their screening scores."""
    answers: str = "policy"
    """Whose an answer may be: `policy` for plans alone, `any` where a program may compute."""
    learns: bool = True
    """Whether the run trains weights, so that `learn.py` matters."""
    lessons: list[str] = []
    """What memory knows of the failures, a text each."""
    cycles_left: int | None = None
    """After this one; None where only time limits the run."""
    generations_left: int = 0
    """Of this cycle, after this one."""
    tokens_left: int | None = None
    """Of the run's budget; None without one."""
    requests_left: int | None = None

    @property
    def left(self) -> str:
        """What is left of the run, in words; empty where nothing is known."""
        parts = []
        if self.cycles_left is not None:
            parts.append(f"{self.cycles_left} cycles after this one")
        if self.generations_left:
            parts.append(f"{self.generations_left} more generations in this one")
        for what, count in (("tokens", self.tokens_left), ("requests", self.requests_left)):
            if count is not None:
                parts.append(f"{count} {what}")
        return ", ".join(parts)


class Member(Struct, frozen=True):
    """A variant of the archive, as a program's own selection sees it."""

    id: str
    parent: str | None
    children: list[str]
    score: float | None
    wins: float
    """Attempts on train tasks that succeeded, fractions included."""
    losses: float
    scores: dict[str, float]
    """By skill."""
    step: int | None
    """The step of selection that made it."""
    open: bool
    """Whether it may be chosen."""


class ArchiveReport(Struct, frozen=True):
    """What a parent is chosen from: scores and lineage, never a task or an answer."""

    members: list[Member]
    """In order of birth."""
    champion: str | None
    step: int
    """Steps of selection before this one."""


class LearnReport(Struct, frozen=True):
    """What a recipe is chosen from."""

    cycle: int
    skills: list[SkillReport]
    history: list[TrialReport]


def brief_limits(role: RoleSection, candidates: int) -> BriefLimits:
    """What an improver is told of its role's limits."""
    return BriefLimits(
        candidates=candidates,
        files=MOST_FILES,
        file_chars=MOST_CHARACTERS,
        requests=role.requests,
        completions=role.completions,
        max_tokens=role.longest,
        tokens=role.tokens,
        prompt_chars=role.longest_prompt,
        seconds=role.most_seconds,
        step_seconds=role.step_seconds,
    )
