"""What comes of one evaluation: a score, or a failure with its type, and what the evaluator said beside it."""

from __future__ import annotations

import math
from typing import Literal, get_args

import msgspec

Failure = Literal[
    "timeout",
    "crashed",
    "memory",
    "processes",
    "left_processes",
    "output",
    "not_a_number",
    "infinite",
    "wrong_type",
    "no_score",
    "error",
    "incorrect",
]
"""`crashed`: the process ended before the evaluator returned; `left_processes`: something of it still ran afterwards;
`output`: it printed or returned too much; `no_score`: nothing that a score follows from; `error`: the evaluator raised, or
says so; `incorrect`: ShinkaEvolve's `correct.json` refuses the program."""
FAILURES: tuple[Failure, ...] = get_args(Failure)
Metric = float | bool | str


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """A program's evaluation. `score` is finite and there, or `failure` is."""

    score: float | None
    failure: Failure | None = None
    detail: str = ""
    metrics: dict[str, Metric] = {}
    artifacts: dict[str, str] = {}
    """What the evaluator wants a person or a model to read."""
    output: str = ""
    """The end of what it printed."""


class _Reply(msgspec.Struct, frozen=True):
    """A fork's words; a program may have written them."""

    score: float | None
    failure: Failure | None
    detail: str
    metrics: dict[str, Metric]
    artifacts: dict[str, str]


def evaluation_of(body: bytes, output: str) -> Evaluation:
    """The evaluation that a fork's reply tells of."""
    try:
        told = msgspec.json.decode(body, type=_Reply)
    except msgspec.DecodeError as error:
        return Evaluation(score=None, failure="crashed", detail=f"its reply is none: {error}", output=output)
    if (told.score is None) == (told.failure is None):
        return Evaluation(score=None, failure="crashed", detail="its reply contradicts itself", output=output)
    if told.score is not None and not math.isfinite(told.score):
        return Evaluation(score=None, failure="infinite", detail=f"the score is {told.score}", output=output)
    return Evaluation(
        score=told.score,
        failure=told.failure,
        detail=told.detail,
        metrics=told.metrics,
        artifacts=told.artifacts,
        output=output,
    )
