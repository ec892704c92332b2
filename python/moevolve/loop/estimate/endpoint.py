"""What a run will ask of a server, told before it starts: requests, tokens and money of a cycle."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from moevolve.config import Config
from moevolve.loop import endpoint, resolve
from moevolve.models.endpoint.prices import price_of
from moevolve.models.endpoint.speech import Speech
from moevolve.protocol.messages import Message
from moevolve.randomness import rng

TYPICAL = 64
"""Tasks that a prompt's length is judged by."""
LETTERS = 3
"""Characters of a token in short, odd prompts; a page of prose has more."""
MESSAGE = 5
"""Tokens of a message around its text."""
ANSWER = 12
"""Tokens of a typical answer here, where `max_tokens` allows as many."""
PROBES = 600
"""Questions with which the seed's improver tries routes out before it proposes any."""


class Estimate(msgspec.Struct, frozen=True):
    """Requests, tokens and money, least and most. The most is with a gate that looks at all it may."""

    requests: tuple[int, int]
    """Of one cycle."""
    evaluation: int
    """Of one evaluation on the sealed split; there are two in a run."""
    tokens: int
    """Of one request, prompt and answer."""
    cost: tuple[Decimal, Decimal] | None
    """Of one cycle; None without prices."""
    currency: str


def estimate(config: Config) -> Estimate:
    """Judges a run by its settled configuration, for a program that asks once a task, as the seed does.

    A program that splits tasks asks more often; a request that the run made before costs nothing.
    """
    tasks = resolve.suite(config)
    evolve, gate = config.evolve, config.gate
    steady = config.attempts.tasks + len(tasks.spread("dev", config.suite.dev_per_cell))
    probes = min(PROBES, config.roles.improver.requests)
    search = evolve.generations * (probes + evolve.screen)
    most = evolve.generations * (
        probes + evolve.screen * (1 + evolve.candidates) + 2 * (gate.max_n + gate.confirm_n)
    )
    draw = rng(config.seed, "estimate")
    said = endpoint.speech(config)
    sample = tasks.sample("train", [draw.choice(tasks.cells) for _ in range(TYPICAL)], "estimate")
    read = round(sum(_tokens(said, config, task.question) for task in sample) / len(sample))
    written = min(ANSWER, config.policy.max_tokens)
    requests = (steady + search, steady + most)
    price = price_of(config.endpoint)
    cost = None
    if price is not None:
        each = price.cost(read, 0, written)
        cost = (requests[0] * each, requests[1] * each)
    return Estimate(
        requests=requests,
        evaluation=(1 + (tasks.answers == "any")) * len(tasks.spread("sealed", config.suite.sealed_per_cell)),
        tokens=read + written,
        cost=cost,
        currency=config.endpoint.currency,
    )


def _tokens(speech: Speech, config: Config, question: str | tuple[Message, ...]) -> float:
    if config.endpoint.api == "chat" or not isinstance(question, str):
        return sum(len(message["content"] or "") / LETTERS + MESSAGE for message in speech.messages(question))
    return len(question) / LETTERS
