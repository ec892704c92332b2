"""Learning by a policy's loss: what counts as a group, and where the weights go."""

from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.learning.reinforce import groups_of, reinforce
from moevolve.models.advantages import Loss, advantages
from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.engine import Engine
from moevolve.models.prompts import BarePrompts
from moevolve.protocol.training import Example
from moevolve.records import Recipe, Trained
from moevolve.rollouts.attempts import Attempt
from moevolve.tasks.task import Task, Verdict

LOSSES = get_args(Loss)


def attempt(prompt: str, answer: str, reward: float) -> Attempt:
    return Attempt(
        Task(prompt=prompt, skill="text/reverse", level=1),
        answer,
        Verdict(score=reward, success=reward == 1.0),
    )


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(seed_checkpoint(), threads=1)


MIXED = [attempt("rev:abc=", "cba", 1.0), attempt("rev:abc=", "abc", 0.0), attempt("rev:abc=", "cab", 0.0)]


def test_an_advantage_is_a_reward_less_its_groups_mean(engine: Engine) -> None:
    (group,) = groups_of(MIXED, engine, BarePrompts(engine))
    assert [answer.advantage for answer in group] == pytest.approx([2 / 3, -1 / 3, -1 / 3])
    assert all(len(answer.logprobs) == len(answer.tokens) - answer.start for answer in group)


def test_groups_of_one_reward_say_nothing(engine: Engine) -> None:
    alike = [attempt("rev:dab=", "bad", 1.0)] * 3 + [attempt("rev:fed=", "fed", 0.0)] * 3
    assert groups_of(alike, engine, BarePrompts(engine)) == []
    reports: list[Trained] = []
    before = engine.weights_hash
    trained = reinforce(
        engine,
        alike,
        Recipe(steps=3, batch=4),
        1,
        Random(1),
        reports.append,
        drew=engine,
        loss="cispo",
        clip=(0.2, 4.0),
    )
    assert (trained, reports) == (0, [])
    assert engine.weights_hash == before


@given(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=2, max_size=16), st.sampled_from(LOSSES))
def test_advantages_are_centred_and_of_unit_size_where_the_loss_says_so(
    rewards: list[float], loss: Loss
) -> None:
    found = advantages(rewards, loss)
    if len(set(rewards)) == 1:
        assert found == []
        return
    assert sum(found) == pytest.approx(0.0, abs=1e-9)
    assert [x > y for x, y in zip(found, found[1:], strict=False)] == [
        x > y for x, y in zip(rewards, rewards[1:], strict=False)
    ]
    if loss in ("grpo", "dapo"):
        assert sum(x * x for x in found) / len(found) == pytest.approx(1.0)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_better_answer_of_a_group_grows_likelier(engine: Engine, loss: Loss) -> None:
    learner = engine.clone()
    prompts = BarePrompts(engine)
    asked = prompts.ask("rev:abc=")
    rows = [Example(tokens=asked + prompts.say(each.answer), start=len(asked)) for each in MIXED]
    reports: list[Trained] = []
    recipe = Recipe(steps=4, batch=6, learning_rate=1e-3)
    reinforce(
        learner,
        MIXED,
        recipe,
        1,
        Random(1),
        reports.append,
        drew=engine,
        loss=loss,
        clip=(0.2, 4.0),
        spread=False,
        schedule="cosine",
    )
    before = [sum(each) for each in engine.logprobs(rows)]
    after = [sum(each) for each in learner.logprobs(rows)]
    assert after[0] - before[0] > max(after[1] - before[1], after[2] - before[2])
    assert reports[-1].step == 4
    assert {"ratio", "clip_fraction", "approx_kl", "age"} <= set(reports[-1].policy)
    assert len(reports[-1].expert_gradient) == len(reports[-1].expert_load)


def test_what_is_trained_depends_on_the_draw_alone(engine: Engine) -> None:
    weights = []
    for _ in range(2):
        learner = engine.clone()
        reinforce(
            learner,
            MIXED,
            Recipe(steps=2, batch=3),
            1,
            Random(5),
            lambda told: None,
            drew=engine,
            loss="cispo",
            clip=(0.2, 4.0),
        )
        weights.append(learner.weights_hash)
    assert weights[0] == weights[1]


def test_an_answer_without_a_word_is_one_of_its_group(engine: Engine) -> None:
    """Left out, nothing would tell the policy from saying nothing."""
    empty = attempt("rev:abc=", "", 0.0)
    silent = Attempt(
        empty.task, "", Verdict(score=0.0, success=False, failure="policy", detail="no answer came")
    )
    (group,) = groups_of([MIXED[0], empty, silent], engine, BarePrompts(engine))
    assert [answer.advantage for answer in group] == pytest.approx([1 / 2, -1 / 2])
    assert len(group[1].tokens) == group[1].start + 1
