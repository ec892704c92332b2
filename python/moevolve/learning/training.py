"""What every learning stage shares: a fresh optimiser, the course of its learning rate, and its records."""

from __future__ import annotations

from collections.abc import Callable

from moevolve.learning.schedule import Schedule, rate_at
from moevolve.models.engine import Engine
from moevolve.protocol.training import PolicyReport, StepReport
from moevolve.records import Recipe, Trained

REPORTS = 6
"""Progress records of one stage."""
STATISTICS = ("ratio", "max_ratio", "clip_fraction", "approx_kl", "entropy", "age")
"""Fields of a `PolicyReport` that go on record, as means over the steps."""


def refresh(engine: Engine) -> None:
    """AdamW started anew: a stage depends on the weights it starts from and on its batches alone."""
    engine.reset_optimizer(bias_rate=1e-3)


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
        self._steps: list[StepReport] = []

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 1."""
        return rate_at(self._schedule, self._recipe.learning_rate, step, self._recipe.steps)

    def due(self, step: int) -> bool:
        """Whether there is a record after this step."""
        return step % self._every == 0 or step == self._recipe.steps

    def add(self, step: int, result: StepReport) -> None:
        """Takes what the engine says of a step, counted from 1."""
        self._steps.append(result)
        self.trained += result.tokens
        if not self.due(step):
            return
        steps, self._steps = self._steps, []
        self._report(
            Trained(
                cycle=self._cycle,
                step=step,
                steps=self._recipe.steps,
                loss=_mean([each.loss for each in steps]),
                gradient_norm=_mean([each.gradient_norm for each in steps]),
                learning_rate=self.rate(step),
                tokens=sum(each.tokens for each in steps),
                expert_load=result.expert_load,
                expert_gradient=result.expert_gradient,
                policy=_policy([each.policy for each in steps if each.policy is not None]),
            )
        )


def _policy(reports: list[PolicyReport]) -> dict[str, float]:
    if not reports:
        return {}
    return {name: _mean([getattr(report, name) for report in reports]) for name in STATISTICS}


def _mean(values: list[float]) -> float:
    # From 0 and in order: the sum that earlier runs have on record.
    total = 0.0
    for value in values:
        total += value
    return total / len(values)
