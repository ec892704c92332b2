"""Learning: a copy of the weights trains on what was confirmed, and the gate decides about it."""

from __future__ import annotations

from moevolve.learning.distill import distill
from moevolve.learning.reinforce import reinforce
from moevolve.learning.trajectories import groups_of_trajectories
from moevolve.loop import entries
from moevolve.loop.context import RunContext
from moevolve.loop.stages.gate import gate
from moevolve.loop.stages.practise import Practice, practise
from moevolve.models.engine import Engine
from moevolve.proposers.search import report_for
from moevolve.randomness import key, rng
from moevolve.records import Recipe, Trained
from moevolve.rollouts.attempts import Attempt
from moevolve.skills.curriculum import needs


def learn(run: RunContext, cycle: int) -> list[Attempt]:
    """Practises by the recipe of the program's `learn.py`, trains, and gates; returns the latest attempts."""
    champion = run.champion
    proposed = run.state.recipe_program
    program = proposed or champion.program
    recipe = run.host.recipe(
        run.store.genome(program),
        report_for(cycle, run.state.outcomes, run.direct, run.through),
        key(run.config.seed, cycle, "recipe"),
    )
    recipe = run.config.learn.bounded(recipe)
    practice = practise(run, cycle, recipe)
    if not recipe.steps or (run.config.learn.loss == "sft" and not len(run.buffer)):
        return practice.latest
    run.progress(f"training, {recipe.steps} steps", 0.15)
    engine = run.store.engine(run.state.learner)
    tokens = _train(run, engine, practice, recipe, cycle)
    if not tokens:
        return practice.latest
    run.state.tokens_trained += tokens
    weights = run.store.keep(engine)
    del engine  # What it keeps for training is the largest thing in memory, and the gate loads two more.
    operator, learnt = "distill", "on confirmed answers"
    if run.config.learn.loss != "sft":
        operator, learnt = "reinforce", f"by {run.config.learn.loss} on its own attempts"
    child = run.child(
        champion,
        cycle,
        weights,
        program,
        "weights",
        f"{operator} with a new recipe" if proposed else operator,
        f"{recipe.steps} steps at {recipe.learning_rate:g} {learnt}",
    )
    files = ["learn.py"] if proposed else []
    run.journal.write(
        [
            run.joined(child),
            entries.proposed(child, files, "weights"),
        ]
    )
    verdict = gate(run, cycle, "weights", child, 0.4)
    back = verdict.decision in ("discard", "veto") or bool(verdict.harmed)
    run.state.learner = run.champion.weights if back else weights
    run.state.recipe_program = None
    return practice.latest


def _train(run: RunContext, engine: Engine, practice: Practice, recipe: Recipe, cycle: int) -> int:
    """Trains `engine` in place; returns the trained tokens."""
    learn = run.config.learn
    spread = learn.positions != "plain"
    draw = rng(run.config.seed, cycle, "distill")
    prompts = run.store.prompts

    def report(record: Trained) -> None:
        run.progress(f"training, step {record.step}/{recipe.steps}", 0.15 + 0.25 * record.step / recipe.steps)
        run.journal.write([record])

    if learn.loss == "sft":
        return distill(
            engine,
            run.buffer,
            recipe,
            cycle,
            draw,
            report,
            prompts=prompts,
            spread=spread,
            schedule=learn.schedule,
            # Leaves that are gone stay within the share of what was grown: they are no skill of the suite.
            grown=frozenset(item.skill for item in run.buffer.items()) - run.suite.skills.keys(),
            share=run.config.growth.share,
            needs=needs(run.through),
        )
    drew, through = run.store.engine(run.champion.weights), practice.through
    trajectories = []
    if through is not None and through.exchanges is not None:
        trajectories = groups_of_trajectories(
            through.attempts, through.exchanges, drew, prompts, run.suite, learn.loss
        )
    return reinforce(
        engine,
        practice.direct,
        recipe,
        cycle,
        draw,
        report,
        drew=drew,
        loss=learn.loss,
        clip=learn.clip,
        trajectories=trajectories,
        prompts=prompts,
        spread=spread,
        schedule=learn.schedule,
    )
