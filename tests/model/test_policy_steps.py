"""Losses over sampled answers, of all weights and of an adapter, against torch and PEFT; 1e-4."""

from __future__ import annotations

import math

import pytest

LOSSES = ("cispo", "grpo", "dapo", "dr_grpo")


def norm(values):
    return math.sqrt(sum(v * v for v in values))


@pytest.fixture(params=["plain", "llama"])
def trained(request, goldens):
    """A fresh engine, with the adapter that PEFT saved where there is one, and what torch computed."""
    golden = goldens[request.param]
    training = golden.training()
    engine = golden.load()
    if training.adapter.is_dir():
        engine.load_adapter(training.adapter)
    return engine, training


def close(gradients, expected, flat):
    assert set(gradients) == set(expected)
    scale = norm([norm(values) for values in expected.values()])
    for name, values in expected.items():
        apart = norm([a - b for a, b in zip(flat(gradients[name]), values, strict=True)])
        assert apart <= 1e-4 * max(norm(values), 1e-2 * scale), name


def optimise(engine, training):
    options = training.expected["optimizer"]
    engine.reset_optimizer(*options["betas"], options["eps"], options["weight_decay"], options["clip"], 0.0)
    return options["lr"]


@pytest.mark.parametrize("loss", LOSSES)
def test_steps_agree_with_torch(trained, loss):
    engine, training = trained
    expected = training.expected["losses"][loss]
    rate = optimise(engine, training)
    for step in expected["steps"]:
        told = engine.policy_step(training.rollouts, rate, loss, **expected["settings"])
        assert told.loss == pytest.approx(step["loss"], abs=1e-4)
        assert told.gradient_norm == pytest.approx(step["gradient_norm"], rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_agree_with_torch(trained, loss, flat):
    engine, training = trained
    expected = training.arrays.group(f"{loss}.")
    if not expected:
        pytest.skip("of a whole model only cispo's gradient is on file")
    settings = training.expected["losses"][loss]["settings"]
    _, gradients = engine.policy_gradients(training.rollouts, loss, **settings)
    close(gradients, expected, flat)


def test_supervised_steps_of_an_adapter_agree_with_torch(goldens, flat):
    golden = goldens["llama"]
    training = golden.training()
    engine = golden.load()
    engine.load_adapter(training.adapter)
    _, gradients = engine.gradients(training.batch)
    close(gradients, training.arrays.group("sft."), flat)
    rate = optimise(engine, training)
    for step in training.expected["sft"]:
        told = engine.train_step(training.batch, rate)
        assert told.loss == pytest.approx(step["loss"], abs=1e-4)
        assert told.gradient_norm == pytest.approx(step["gradient_norm"], rel=1e-4)


def test_an_adapter_that_peft_saved_gives_pefts_logits(goldens):
    golden = goldens["llama"]
    training = golden.training()
    engine = golden.load()
    engine.load_adapter(training.adapter)
    rows = golden.expected["ids"]
    ours = engine.logits(rows).tolist()
    for index, row in enumerate(rows):
        theirs = training.arrays[f"logits.{index}"]
        width = len(theirs) // len(row)
        for time in range(len(row)):
            assert ours[index][time] == pytest.approx(theirs[time * width :][:width], abs=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_statistics_are_those_of_the_tokens(trained, loss):
    engine, training = trained
    new = [x for row in engine.logprobs(training.rollouts) for x in row]
    old = [x for rollout in training.rollouts for x in rollout.logprobs]
    told = engine.policy_step(training.rollouts, 0.0, loss, **training.expected["losses"][loss]["settings"])
    ratios = [math.exp(a - b) for a, b in zip(new, old, strict=True)]
    policy = told.policy
    assert told.tokens == len(ratios)
    assert policy.ratio == pytest.approx(sum(ratios) / len(ratios), rel=1e-4)
    assert policy.max_ratio == pytest.approx(max(ratios), rel=1e-4)
    assert policy.approx_kl == pytest.approx(sum(r - 1 - math.log(r) for r in ratios) / len(ratios), rel=1e-3)
    log_ratios = [abs(a - b) for a, b in zip(new, old, strict=True)]
    assert policy.abs_log_ratio == pytest.approx(sum(log_ratios) / len(log_ratios), rel=1e-4)
    assert 0 < policy.clip_fraction < 1 and policy.entropy > 0
    assert policy.max_age == len(training.rollouts) - 1
