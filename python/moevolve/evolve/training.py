"""What every learning stage shares: a fresh optimiser, the course of its learning rate, and its records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moevolve.policy.engine import Engine
from moevolve.records import Recipe, Trained

WARM_UP = 8
REPORTS = 6
"""Progress records of one stage."""
TOLD = ("ratio", "largest_ratio", "clipped", "drift", "entropy", "age")
"""What a policy's loss says of itself, of a step's tokens."""


def refresh(engine: Engine) -> None:
    """AdamW started anew: a stage depends on the weights it starts from and on its batches alone."""
    engine.native.reset_optimizer(0.9, 0.95, 1e-8, 0.01, 1.0, 1e-3)


def rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then linearly down to a tenth: each stage ends in small steps, so its end can be gated."""
    if step <= WARM_UP:
        return recipe.learning_rate * step / WARM_UP
    left = 1 - (step - WARM_UP) / max(1, recipe.steps - WARM_UP)
    return recipe.learning_rate * (0.1 + 0.9 * left)


class Progress:
    """Gathers steps into a few records.

    Args:
        cycle: whose stage it is.
        recipe: how many steps there will be.
        report: takes the records.
    """

    def __init__(self, cycle: int, recipe: Recipe, report: Callable[[Trained], None]) -> None:
        self.trained = 0
        """Tokens trained on so far."""
        self._cycle, self._recipe, self._report = cycle, recipe, report
        self._every = max(1, recipe.steps // REPORTS)
        self._steps: list[Mapping[str, Any]] = []

    def add(self, step: int, result: Mapping[str, Any]) -> None:
        """Takes what the engine says of a step, counted from 1."""
        self._steps.append(result)
        self.trained += result["tokens"]
        if step % self._every and step != self._recipe.steps:
            return
        steps, self._steps = self._steps, []
        self._report(
            Trained(
                cycle=self._cycle,
                step=step,
                steps=self._recipe.steps,
                loss=_mean(steps, "loss"),
                gradient_norm=_mean(steps, "gradient_norm"),
                learning_rate=rate(self._recipe, step),
                tokens=sum(each["tokens"] for each in steps),
                expert_load=result["expert_load"],
                policy={name: _mean(steps, name) for name in TOLD if name in result},
            )
        )


def _mean(steps: list[Mapping[str, Any]], name: str) -> float:
    # From 0 and in order: the sum that earlier runs have on record.
    total = 0.0
    for each in steps:
        total += each[name]
    return total / len(steps)
