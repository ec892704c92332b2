"""Learning by distillation: confirmed answers, the program's amplified ones included, go into the weights.

Rejection sampling with supervised steps: cross-entropy on the answer's tokens and the end token, with the
optimiser of `training`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from moevolve.learning.buffer import Buffer, Confirmed
from moevolve.learning.schedule import Schedule
from moevolve.learning.training import Progress, refresh
from moevolve.models.asking import asked_tokens
from moevolve.models.engine import Engine
from moevolve.models.positions import training_positions
from moevolve.models.prompts import BarePrompts, Prompts
from moevolve.protocol.training import Example
from moevolve.records import Recipe, Trained


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
    schedule: Schedule = "linear",
    grown: frozenset[str] = frozenset(),
    share: float = 0.0,
    needs: Mapping[str, float] | None = None,
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
        schedule: of the learning rate.
        grown: skills that together get a share `share` of the answers.
        share: see `grown`.
        needs: how often the recent answers of each skill are drawn; see `Buffer.batches`.
    """
    prompts = prompts or BarePrompts(engine)
    refresh(engine)
    progress = Progress(cycle, recipe, report, schedule)
    for step, batch in enumerate(
        buffer.batches(cycle, recipe.steps, recipe.batch, recipe.recent, draw, grown, share, needs), start=1
    ):
        examples = []
        for item in batch:
            prompt, answer = _tokens(engine, prompts, item)
            tokens = prompt + answer
            positions = training_positions(len(tokens), draw) if spread else 0
            examples.append(Example(tokens=tokens, start=len(prompt), positions=positions))
        progress.add(step, engine.train(examples, progress.rate(step), norms=progress.due(step)))
    return progress.trained


def _tokens(engine: Engine, prompts: Prompts, item: Confirmed) -> tuple[list[int], list[int]]:
    """A question and its answer; of an exchange the very tokens that were drawn."""
    said = item.exchange
    if said is None:
        asked = asked_tokens(engine, prompts, item.messages or item.prompt, (), worded=True)
        return asked, prompts.say(item.answer)
    asked = asked_tokens(engine, prompts, said.prompt, said.tools, worded=said.worded)
    return asked, [*said.tokens, *(engine.ending if said.ended else ())]
