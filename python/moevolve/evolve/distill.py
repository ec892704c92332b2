"""Learning by distillation: confirmed answers, the program's amplified ones included, go into the weights.

Rejection sampling with supervised steps: cross-entropy on the answer's tokens and the end token, AdamW started anew in
each stage so that a stage depends on the weights it starts from and on its batches alone.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from moevolve.evolve.buffer import Buffer
from moevolve.policy.engine import Engine
from moevolve.policy.positions import training_positions
from moevolve.policy.prompts import BarePrompts, Prompts
from moevolve.records import Recipe, Trained

WARM_UP = 8
REPORTS = 6
"""Progress records of one stage."""


def distill(
    engine: Engine,
    buffer: Buffer,
    recipe: Recipe,
    cycle: int,
    draw: Random,
    report: Callable[[Trained], None],
    *,
    prompts: Prompts | None = None,
    spread: bool = True,
) -> int:
    """Trains `engine` in place; returns the number of trained tokens.

    Args:
        engine: a copy that becomes the candidate.
        buffer: confirmed answers.
        recipe: learning rate, steps, batch size and mixture.
        cycle: the cycle whose answers count as recent.
        draw: source of batches and positions.
        report: takes progress records.
        prompts: how texts become the model's tokens, the same as in attempts; None learns the bare texts.
        spread: draw positions as `training_positions` does, instead of counting from 0.
    """
    native = engine.native
    prompts = prompts or BarePrompts(engine)
    native.reset_optimizer(0.9, 0.95, 1e-8, 0.01, 1.0, 1e-3)
    every = max(1, recipe.steps // REPORTS)
    loss = norm = 0.0
    tokens = trained = counted = 0
    for step, batch in enumerate(
        buffer.batches(cycle, recipe.steps, recipe.batch, recipe.recent, draw), start=1
    ):
        examples: list[tuple[list[int], int, int | list[int], float]] = []
        for item in batch:
            prompt = prompts.ask(item.prompt)
            ids = prompt + prompts.say(item.answer)
            positions = training_positions(len(ids), draw) if spread else 0
            examples.append((ids, len(prompt), positions, 1.0))
        rate = _rate(recipe, step)
        result = native.train_step(examples, rate)
        loss += result["loss"]
        norm += result["gradient_norm"]
        tokens += result["tokens"]
        counted += 1
        if step % every == 0 or step == recipe.steps:
            trained += tokens
            report(
                Trained(
                    cycle=cycle,
                    step=step,
                    steps=recipe.steps,
                    loss=loss / counted,
                    gradient_norm=norm / counted,
                    learning_rate=rate,
                    tokens=tokens,
                    expert_load=result["expert_load"],
                )
            )
            loss = norm = 0.0
            tokens = counted = 0
    return trained


def _rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then linearly down to a tenth: each stage ends in small steps, so its end can be gated."""
    if step <= WARM_UP:
        return recipe.learning_rate * step / WARM_UP
    left = 1 - (step - WARM_UP) / max(1, recipe.steps - WARM_UP)
    return recipe.learning_rate * (0.1 + 0.9 * left)
