"""A scripted policy for programs: right up to a length, wrong above it, and never an engine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

import plan_module  # noqa: E402

from moevolve.agents.genome import Genome, seed_genome  # noqa: E402
from moevolve.agents.host import ProgramHost  # noqa: E402
from moevolve.agents.plans.run import attempts  # noqa: E402
from moevolve.config import RolesSection, SandboxSection  # noqa: E402
from moevolve.config.roles import ImproverSection, LearnerSection, RoleSection  # noqa: E402
from moevolve.protocol.completion import Completion  # noqa: E402
from moevolve.protocol.requests import GenerateRequest, Outcome, PublicTask  # noqa: E402
from moevolve.tasks.primer.cutters import CUTTERS  # noqa: E402

plan_module.load()


def parities(digits: str) -> str:
    return "".join(str(sum(map(int, digits[: end + 1])) % 2) for end in range(len(digits)))


def collapsed(text: str) -> str:
    return "".join(letter for index, letter in enumerate(text) if index == 0 or text[index - 1] != letter)


def shifted(text: str) -> str:
    return "".join("a" if letter == "z" else chr(ord(letter) + 1) for letter in text)


def pair(payload: str, sign: str) -> tuple[int, int]:
    left, right = payload.split(sign)
    return int(left), int(right)


SKILLS: dict[str, Callable[[str], str]] = {
    "rev": lambda p: p[::-1],
    "srt": lambda p: "".join(sorted(p)),
    "ddp": collapsed,
    "cae": shifted,
    "add": lambda p: str(sum(pair(p, "+"))),
    "sub": lambda p: str(pair(p, "-")[0] - pair(p, "-")[1]),
    "cmp": lambda p: str(max(pair(p, ","))),
    "cnt": lambda p: str(p.count("x")),
    "par": parities,
    "srv": lambda p: "".join(sorted(p, reverse=True)),
    "crv": lambda p: shifted(p)[::-1],
    "drv": lambda p: collapsed(p)[::-1],
}


def truth(prompt: str) -> str:
    verb, _, payload = prompt.partition(":")
    return SKILLS[verb](payload.removesuffix("="))


def completion(text: str) -> Completion:
    """A completion of one token a letter and an end token."""
    tokens = [ord(letter) for letter in text]
    return Completion(text, tokens, [-0.5] * (len(text) + 1), "stop")


@dataclass
class Oracle:
    """Answers payloads of up to `limit` characters rightly, longer and senseless ones with `?`."""

    limit: int = 8
    rounds: list[list[GenerateRequest]] = field(default_factory=list)

    def text(self, prompt: str) -> str:
        if len(prompt) - len("rev:=") > self.limit:
            return "?"
        try:
            return truth(prompt)
        except (KeyError, ValueError):
            return "?"

    def __call__(self, requests: list[GenerateRequest]) -> list[list[Completion]]:
        self.rounds.append(list(requests))
        return [[completion(self.text(str(request.prompt)))] * request.n for request in requests]


def roles(**limits: Any) -> RolesSection:
    """Default roles but for some limits."""
    return RolesSection(
        solver=RoleSection(**limits), improver=ImproverSection(**limits), learner=LearnerSection(**limits)
    )


@pytest.fixture
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture(scope="session")
def fresh_oracle() -> type[Oracle]:
    return Oracle


@pytest.fixture(scope="session")
def host() -> ProgramHost:
    return ProgramHost(roles(seconds=20.0, step_seconds=0.5), cutters=CUTTERS)


def by_plans(host: ProgramHost, genome: Genome, tasks: list[PublicTask], answer: Callable) -> list[Outcome]:
    """Outcomes of a program in plans; a skill's verb is the one that its first task begins with."""
    verbs = {task.skill: task.prompt.partition(":")[0] for task in reversed(tasks)}
    plans = host.behaviour(genome, verbs, 1).expressions(CUTTERS)
    return attempts(plans, tasks, range(1, len(tasks) + 1), answer, None, CUTTERS, host.roles.solver)


@pytest.fixture(scope="session")
def solve() -> Callable[..., list[Outcome]]:
    """(host, genome, tasks, policy) -> outcomes of a program in plans."""
    return by_plans


@pytest.fixture(scope="session")
def hasty() -> ProgramHost:
    """A host for programs that are expected to die."""
    return ProgramHost(roles(seconds=1.0, step_seconds=0.2), SandboxSection(memory_mb=128))


@pytest.fixture(scope="session")
def program() -> Callable[..., Genome]:
    """Builds a genome whose `solve` has the given body."""

    def build(body: str, head: str = "") -> Genome:
        lines = "\n".join(f"    {line}" for line in body.strip("\n").split("\n"))
        return Genome(
            files=seed_genome().files | {"solve.py": f"{head}\nasync def solve(task, agent):\n{lines}\n"}
        )

    return build
