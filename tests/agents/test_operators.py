"""Operators keep programs programs: whatever they edit compiles, reads back, and still solves."""

from __future__ import annotations

import ast
import random

import pytest

from moevolve.agents.brief import TrialReport
from moevolve.agents.genome import Genome, seed_genome
from moevolve.agents.operators import Inapplicable, routes, source, space, tuning
from moevolve.agents.plans.expression import PlanError
from moevolve.agents.plans.run import attempts
from moevolve.config.roles import RoleSection
from moevolve.protocol.requests import PublicTask
from moevolve.tasks.primer.cutters import CUTTERS

VERBS = ["add", "cae", "cmp", "par", "rev", "srt"]
PROMPTS = ["rev:abcdefghij=", "add:123+45=", "cmp:12,93=", "par:1234567890=", "srt:cab=", "cae:=", "cae:x"]


def solves(host, oracle, text: str) -> None:
    """The program has a plan for every verb, and each plan ends on every kind of prompt."""
    genome = Genome(files=seed_genome().files | {"solve.py": text})
    behaviour = host.behaviour(genome, {verb: verb for verb in VERBS}, 1)
    # A chain of skills may run in circles; everything else is a plan.
    assert all("RecursionError" in reason for reason in behaviour.refused.values()), behaviour.refused
    plans = behaviour.expressions(CUTTERS)
    tasks = [PublicTask(prompt=prompt, skill=prompt.partition(":")[0]) for prompt in PROMPTS]
    tasks = [task for task in tasks if task.skill in behaviour.plans]
    outcomes = attempts(plans, tasks, range(len(tasks)), oracle, None, CUTTERS, RoleSection())
    for task, outcome in zip(tasks, outcomes, strict=True):
        refused = isinstance(plans[task.skill], PlanError)
        assert outcome.failure in (
            ("malformed",) if refused else (None, "budget", "rejected", "malformed")
        ), outcome


def random_edit(text: str, rng: random.Random) -> str:
    verb = rng.choice(VERBS)
    stage = rng.choice(sorted(space.STAGES))
    edits = [
        lambda: routes.add(text, {verb: (stage, space.draw(rng, stage, verb, VERBS))}),
        lambda: routes.mutate(text, rng, VERBS),
        lambda: routes.swap(text, rng, VERBS),
        lambda: routes.remove(text, rng),
        lambda: routes.refit(text, {verb: rng.randrange(12)}),
    ]
    try:
        return rng.choice(edits)()[0]
    except Inapplicable:
        return text


@pytest.mark.parametrize("stage", sorted(space.STAGES))
@pytest.mark.parametrize("seed", range(3))
def test_every_stage_gives_the_seed_a_route_that_runs(host, oracle, stage, seed):
    parameters = space.draw(random.Random(seed), stage, "rev", VERBS)
    text, summary = routes.add(seed_genome().files["solve.py"], {"rev": (stage, parameters)})
    assert summary.startswith(f"rev: {stage}(")
    assert source.routes(ast.parse(text)) == {"rev": (stage, parameters)}
    solves(host, oracle, text)


@pytest.mark.parametrize("seed", range(12))
def test_ten_edits_in_a_row_leave_a_program(host, oracle, seed):
    rng = random.Random(seed)
    text = seed_genome().files["solve.py"]
    for _ in range(10):
        text = random_edit(text, rng)
        assert source.render(source.parse(text)) == source.render(source.parse(text))
    solves(host, oracle, text)


def test_many_edits_do_not_pile_up():
    rng = random.Random(0)
    text = seed_genome().files["solve.py"]
    for _ in range(150):
        text = random_edit(text, rng)
    tree = ast.parse(text)
    assert len(source.functions(tree)) == len([n for n in tree.body if hasattr(n, "name")])
    assert len(text) < 20_000


def test_a_route_removed_takes_its_stages_along():
    seed = source.render(source.parse(seed_genome().files["solve.py"]))
    added, _ = routes.add(seed, {"rev": ("vote", {"samples": 4, "temperature": 0.7})})
    removed, summary = routes.remove(added, random.Random(0))
    assert removed == seed
    assert "rev" in summary


def test_a_mutation_changes_one_parameter():
    parameters = {"size": 4, "above": 8, "cut_at": "even", "join": "order", "samples": 1}
    text, _ = routes.add(seed_genome().files["solve.py"], {"rev": ("split", parameters)})
    for seed in range(20):
        mutated, _ = routes.mutate(text, random.Random(seed), VERBS)
        [(stage, changed)] = source.routes(ast.parse(mutated)).values()
        assert stage == "split"
        assert sum(changed[name] != value for name, value in parameters.items()) == 1


def test_swapping_gives_a_route_to_another_skill():
    text, _ = routes.add(
        seed_genome().files["solve.py"], {"rev": ("vote", {"samples": 4, "temperature": 0.7})}
    )
    swapped, _ = routes.swap(text, random.Random(1), VERBS)
    found = source.routes(ast.parse(swapped))
    assert len(found) == 2
    assert len(set(map(str, found.values()))) == 1


def test_refitting_follows_what_the_policy_masters():
    parameters = {"size": 4, "above": 8, "cut_at": "even", "join": "order", "samples": 1}
    text, _ = routes.add(seed_genome().files["solve.py"], {"rev": ("split", parameters)})
    refitted, _ = routes.refit(text, {"rev": 11})
    assert source.routes(ast.parse(refitted))["rev"][1]["above"] == 11
    with pytest.raises(Inapplicable):
        routes.refit(refitted, {"rev": 11})


def test_hand_written_programs_survive_or_are_left_alone(host, oracle):
    own = seed_genome().files["solve.py"] + "\n\nclass Extra:\n    value = {'a': 1}\n"
    text, _ = routes.add(own, {"rev": ("retry", {"samples": 3, "temperature": 1.0})})
    assert "class Extra" in text
    solves(host, oracle, text)
    for broken in ("x = 1", "not python at all", "ROUTES = make()"):
        with pytest.raises(Inapplicable):
            routes.add(broken, {"rev": ("ask", {})})


def trial(operator: str, decision: str, gain: float = 0.0) -> TrialReport:
    return TrialReport(cycle=1, operator=operator, summary="", gain=gain, decision=decision)


def test_weights_move_toward_what_was_promoted():
    improve = seed_genome().files["improve.py"]
    before = source.constants(ast.parse(improve))["OPERATOR_WEIGHTS"]
    text, _ = tuning.reweigh(improve, [trial("vote", "promote", 0.1), trial("split+chain", "discard", -0.1)])
    after = source.constants(ast.parse(text))["OPERATOR_WEIGHTS"]
    assert after["vote"] > before["vote"]
    assert after["split"] < before["split"]
    assert after["chain"] < before["chain"]
    assert after["fold"] == before["fold"]
    with pytest.raises(Inapplicable):
        tuning.reweigh(improve, [])


def test_weights_stay_in_their_bounds():
    improve = seed_genome().files["improve.py"]
    history = [trial("vote", "promote")] * 60 + [trial("split", "discard", -1.0)] * 300
    text, _ = tuning.reweigh(improve, history)
    after = source.constants(ast.parse(text))["OPERATOR_WEIGHTS"]
    assert after["vote"] == tuning.MOST
    assert after["split"] == tuning.LEAST


@pytest.mark.parametrize("seed", range(8))
def test_the_recipe_moves_within_bounds(host, seed):
    from moevolve.agents.brief import LearnReport

    rng = random.Random(seed)
    text = seed_genome().files["learn.py"]
    for _ in range(8):
        try:
            text, _ = tuning.retune(text, rng)
        except Inapplicable:
            continue
    constants = source.constants(ast.parse(text))
    for name, (low, high) in tuning.BOUNDS.items():
        assert low <= constants[name] <= high
    genome = Genome(files=seed_genome().files | {"learn.py": text})
    recipe = host.recipe(genome, LearnReport(cycle=1, skills=[], history=[]), 1)
    assert recipe.learning_rate == constants["LEARNING_RATE"]
    assert recipe.steps == constants["STEPS"]
