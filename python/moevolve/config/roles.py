"""Roles in which a policy is asked, each with limits of its own: `[roles.solver]` and its siblings."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from moevolve.config.schema import Section

LEAST_DEFAULT = 32
"""Tokens of a completion that a role may ask for at least, where the file says nothing of the role."""

MaxTokens = Annotated[
    Annotated[int, Meta(ge=1, le=10**6)] | None,
    Meta(description="Most tokens of one completion; left out: policy.max_tokens, but at least 32"),
]
Requests = Annotated[int, Meta(description="Requests of one attempt, of every kind", ge=0, le=10**6)]
Notes = Annotated[int, Meta(description="Texts that one attempt may give memory", ge=0, le=1000)]
Tokens = Annotated[int, Meta(description="Tokens generated for one attempt", ge=1, le=10**9)]
SECONDS = 60.0
"""Of a process where the file says nothing of the role."""
PROMPT_CHARS = 2048
"""Characters of one prompt where the file says nothing of the role."""

PromptChars = Annotated[
    Annotated[int, Meta(ge=1, le=10**7)] | None,
    Meta(
        description="Characters of one prompt, conversation or query; left out: 2,048, or 200,000 of an agent in a box"
    ),
]
Worded = Annotated[
    bool, Meta(description="Put texts to a chat model in the suite's wording; false: as they are written")
]


class RoleSection(Section, frozen=True):
    """Limits of one role: what a program may spend in it, per attempt unless a field says otherwise."""

    max_tokens: MaxTokens = None
    least_tokens: Annotated[
        int,
        Meta(
            description="Least max_tokens of a request: shorter pieces could spell an answer of the program's own",
            ge=1,
            le=10**6,
        ),
    ] = 8
    requests: Requests = 96
    completions: Annotated[int, Meta(description="Completions of one request", ge=1, le=4096)] = 32
    prompt_chars: PromptChars = None
    tokens: Tokens = 16_384
    answer_chars: Annotated[int, Meta(description="Characters of an answer", ge=1, le=10**7)] = 4096
    lessons: Annotated[int, Meta(description="Lessons of one recall", ge=1, le=4096)] = 32
    notes: Notes = 4
    seconds: Annotated[
        Annotated[float, Meta(gt=0.0, le=86_400.0)] | None,
        Meta(
            description="Most seconds of a process, all its attempts together, the policy's time left out; of an agent in a "
            "box, whose attempts have one each, of an attempt. Left out: 60, or 120 of an agent in a box",
        ),
    ] = None
    step_seconds: Annotated[
        float, Meta(description="Processor time of one attempt between two requests", gt=0.0, le=86_400.0)
    ] = 5.0
    worded: Worded = True

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < self.least_tokens:
            raise ValueError(f"max_tokens is {self.max_tokens}, below least_tokens, {self.least_tokens}")

    @property
    def longest(self) -> int:
        """Most tokens of one completion."""
        return LEAST_DEFAULT if self.max_tokens is None else self.max_tokens

    @property
    def most_seconds(self) -> float:
        """Most seconds of a process."""
        return SECONDS if self.seconds is None else self.seconds

    @property
    def longest_prompt(self) -> int:
        """Most characters of one prompt."""
        return PROMPT_CHARS if self.prompt_chars is None else self.prompt_chars


class ImproverSection(RoleSection, frozen=True):
    requests: Requests = 4096
    tokens: Tokens = 400_000
    notes: Notes = 0


class ProposerSection(RoleSection, frozen=True):
    max_tokens: MaxTokens = 4096
    requests: Requests = 16
    tokens: Tokens = 100_000
    prompt_chars: PromptChars = 200_000
    worded: Worded = False


class LearnerSection(RoleSection, frozen=True):
    requests: Requests = 0
    notes: Notes = 0


class RolesSection(Section, frozen=True):
    """The roles: `solve.py`, `improve.py`, `learn.py`, and a language model that writes edits."""

    solver: RoleSection = RoleSection()
    improver: ImproverSection = ImproverSection()
    learner: LearnerSection = LearnerSection()
    proposer: ProposerSection = ProposerSection()

    def resolved(self, max_tokens: int) -> RolesSection:
        """The roles with `max_tokens` of the policy in force where a role leaves its own out."""
        most = max(LEAST_DEFAULT, max_tokens)
        return msgspec.structs.replace(
            self,
            **{
                name: msgspec.structs.replace(role, max_tokens=most)
                for name in self.__struct_fields__
                if (role := getattr(self, name)).max_tokens is None
            },
        )
