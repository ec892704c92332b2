"""What every learning stage shares: a fresh optimiser, the course of its learning rate, and its records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moevolve.learning.schedule import Schedule, rate_at
from moevolve.models.engine import Engine
from moevolve.records import Recipe, Trained

REPORTS = 6
"""Progress records of one stage."""
TOLD = ("ratio", "largest_ratio", "clipped", "drift", "entropy", "age")
"""What a policy's loss says of itself, of a step's tokens."""


def refresh(engine: Engine) -> None:
    """AdamW started anew: a stage depends on the weights it starts from and on its batches alone."""
    engine.native.reset_optimizer(0.9, 0.95, 1e-8, 0.01, 1.0, 1e-3)


class Progress:
    """The course of a stage: gives each step its rate, and gathers steps into a few records.

    Args:
        cycle: whose stage it is.
        recipe: how many steps there will be, and how large.
        report: takes the records.
        schedule: how the learning rate falls after its warm-up.
    """

    def __init__(
        self,
        cycle: int,
        recipe: Recipe,
        report: Callable[[Trained], None],
        schedule: Schedule = "linear",
    ) -> None:
        self.trained = 0
        """Tokens trained on so far."""
        self._schedule = schedule
        self._cycle, self._recipe, self._report = cycle, recipe, report
        self._every = max(1, recipe.steps // REPORTS)
        self._steps: list[Mapping[str, Any]] = []

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 1."""
        return rate_at(self._schedule, self._recipe.learning_rate, step, self._recipe.steps)

    def due(self, step: int) -> bool:
        """Whether there is a record after this step."""
        return step % self._every == 0 or step == self._recipe.steps

    def add(self, step: int, result: Mapping[str, Any]) -> None:
        """Takes what the engine says of a step, counted from 1."""
        self._steps.append(result)
        self.trained += result["tokens"]
        if not self.due(step):
            return
        steps, self._steps = self._steps, []
        self._report(
            Trained(
                cycle=self._cycle,
                step=step,
                steps=self._recipe.steps,
                loss=_mean(steps, "loss"),
                gradient_norm=_mean(steps, "gradient_norm"),
                learning_rate=self.rate(step),
                tokens=sum(each["tokens"] for each in steps),
                expert_load=result["expert_load"],
                expert_gradient=result.get("expert_gradient", []),
                policy={name: _mean(steps, name) for name in TOLD if name in result},
            )
        )


def _mean(steps: list[Mapping[str, Any]], name: str) -> float:
    # From 0 and in order: the sum that earlier runs have on record.
    total = 0.0
    for each in steps:
        total += each[name]
    return total / len(steps)
