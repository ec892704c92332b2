"""Tokens of a run, by arithmetic: what is read, drawn and trained in a cycle and in both sealed scores."""

from __future__ import annotations

import msgspec

from moevolve.agents.host import RECIPE_BOUNDS
from moevolve.config import Config
from moevolve.config.schema import AGAIN
from moevolve.errors import UsageError
from moevolve.loop.arms import ARMS
from moevolve.loop.generalising import held_out
from moevolve.models.asking import asked_tokens
from moevolve.models.engine import Engine
from moevolve.models.prompts import Prompts
from moevolve.records import Recipe
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task

ASKED = 1.5
"""Requests of a program's attempt, on average over what an improver proposes."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a part of a run."""

    read: float = 0.0
    """Of prompts."""
    drawn: float = 0.0
    trained: float = 0.0
    """Of training sequences, their prompts included."""

    def __add__(self, other: Work) -> Work:
        return Work(
            read=self.read + other.read,
            drawn=self.drawn + other.drawn,
            trained=self.trained + other.trained,
        )

    def __mul__(self, times: float) -> Work:
        return Work(read=self.read * times, drawn=self.drawn * times, trained=self.trained * times)


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens a second, each kind alone."""

    read: float
    drawn: float
    trained: float

    def seconds(self, work: Work) -> float:
        """How long some work takes."""
        return work.read / self.read + work.drawn / self.drawn + work.trained / self.trained


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a prompt and of its answer, mean and most, over train tasks of every (skill, level)."""

    prompt: float
    answer: float
    longest: int


def question_tokens(engine: Engine, prompts: Prompts, task: Task) -> list[int]:
    """What a policy is asked for a task; of a conversation that the model has no template for, the last text."""
    try:
        return asked_tokens(engine, prompts, task.question, (), worded=True)
    except UsageError:  # An agent may ask in words of its own.
        return prompts.ask(task.prompt)


def lengths_of(engine: Engine, prompts: Prompts, tasks: Suite) -> Lengths:
    """Lengths in the model's tokens, over one train task of each (skill, level)."""
    asked, said = [], []
    for path, level in tasks.cells:
        task = tasks.draw("train", path, level, "lengths")
        asked.append(len(question_tokens(engine, prompts, task)))
        said.append(len(prompts.say(task.answer or "")))
    return Lengths(
        prompt=sum(asked) / len(asked),
        answer=sum(said) / len(said),
        longest=max(a + b for a, b in zip(asked, said, strict=True)),
    )


def work_of(config: Config, lengths: Lengths, tasks: Suite) -> tuple[Work, tuple[Work, Work]]:
    """Tokens of both sealed scores, and of a cycle, least and most."""
    arm, attempts, gate, search = ARMS[config.arm], config.attempts, config.gate, config.evolve

    def asked(requests: float, samples: float = 1.0) -> Work:
        return Work(read=requests * lengths.prompt, drawn=requests * samples * lengths.answer)

    direct, through = attempts.shared(Recipe().program_share if arm.learns else None, 0.0)[0]
    cycle = asked(direct, attempts.samples) + asked(through * ASKED)
    if arm.learns:
        cycle += asked(attempts.tried_again, AGAIN)
    cycle += asked(len(tasks.spread("dev", config.suite.dev_per_cell)) * ASKED)
    if config.growth.on:
        cycle += asked(config.growth.trials * config.growth.trial * ASKED)
    gates = 0
    if arm.learns:
        steps = min(RECIPE_BOUNDS["steps"][1], config.learn.steps)
        batch = min(RECIPE_BOUNDS["batch"][1], config.learn.batch)
        cycle += Work(trained=steps * batch * (lengths.prompt + lengths.answer))
        gates += 1
    if arm.searches:
        cycle += asked(
            search.generations
            * (config.roles.improver.requests + (1 + search.candidates) * search.screen * ASKED)
        )
        gates += search.generations
    least, most = (cycle + asked(2 * gates * n * ASKED) for n in (gate.min_n, gate.max_n + gate.confirm_n))
    ends = 2 * len(tasks.spread("sealed", config.suite.sealed_per_cell))
    if config.generalise.per_cell:
        cells = sum(map(len, held_out(config, tasks).cells.values()))
        ends += 2 * (cells * config.generalise.per_cell + search.screen)
    return asked(ends * ASKED), (least, most)
