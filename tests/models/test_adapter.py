"""LoRA through the engine as people use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moevolve.errors import CheckpointError, UsageError
from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.engine import TARGETS, Engine
from moevolve.protocol.training import Example, Rollout

PROMPTS = ["rev:abc=", "add:12+7="]
EXAMPLES = [
    Example(tokens=[5, 6, 7, 8, 9], start=2),
    Example(tokens=[9, 4, 3], start=1, positions=4, weight=2.0),
]


def loaded(weights: str = "stored", **options: Any) -> Engine:
    return Engine.load(seed_checkpoint(), weights=weights, threads=1, **options)


def taught(engine: Engine) -> Engine:
    engine.adapt(4, 8.0)
    for _ in range(3):
        engine.train(EXAMPLES, 1e-2)
    return engine


def test_an_adapter_trains_beside_weights_that_do_not(tmp_path: Path) -> None:
    engine = loaded()
    base = engine.weights_hash
    engine.adapt(4, 8.0)
    assert engine.adapter is not None
    assert engine.adapter["rank"] == 4
    losses = [engine.train(EXAMPLES, 1e-2).loss for _ in range(8)]
    assert losses[-1] < losses[0]
    assert engine.weights_hash != base
    other = loaded()
    assert other.weights_hash == base
    engine.save_adapter(tmp_path)
    again = loaded(adapter=tmp_path)
    assert again.generate(PROMPTS, max_tokens=8) == engine.generate(PROMPTS, max_tokens=8)
    assert again.weights_hash == engine.weights_hash
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 8.0, "LORA")


def test_what_is_written_and_read_is_the_adapter_alone(tmp_path: Path) -> None:
    engine = taught(loaded())
    file = tmp_path / "adapter.safetensors"
    engine.write_weights(file)
    assert file.stat().st_size < 5 * 4 * (engine.adapter or {})["parameters"]
    other = loaded()
    other.adapt(4, 8.0)
    other.read_weights(file)
    assert other.weights_hash == engine.weights_hash
    copy = engine.clone()
    assert copy.weights_hash == engine.weights_hash
    copy.train(EXAMPLES, 1e-2)
    assert copy.weights_hash != engine.weights_hash


def test_merged_weights_answer_alike_and_train_themselves() -> None:
    engine = taught(loaded())
    before = engine.logprobs(EXAMPLES)
    engine.merge()
    after = engine.logprobs(EXAMPLES)
    for old, new in zip(before, after, strict=True):
        assert old == pytest.approx(new, abs=1e-4)
    assert engine.adapter is None
    engine.train(EXAMPLES, 1e-3)
    with pytest.raises(UsageError, match="no adapter"):
        engine.merge()


def test_the_base_is_still_there_to_compare_with() -> None:
    engine = taught(loaded())
    base = engine.logprobs(EXAMPLES, base=True)
    assert base == loaded().logprobs(EXAMPLES)
    assert base != engine.logprobs(EXAMPLES)


def rollouts(engine: Engine, **fields: Any) -> list[Rollout]:
    """The examples' answers as if the engine had drawn them; fields hold one value a rollout."""
    return [
        Rollout(
            tokens=example.tokens,
            start=example.start,
            positions=example.positions,
            logprobs=logprobs,
            age=2,
            **{name: values[index] for name, values in fields.items()},
        )
        for index, (example, logprobs) in enumerate(zip(EXAMPLES, engine.logprobs(EXAMPLES), strict=True))
    ]


@pytest.mark.parametrize("fields", [{"advantage": (1.0, -1.0)}, {"reward": (3.0, 1.0)}])
def test_a_policy_step_reinforces_what_had_an_advantage(fields: dict[str, Any]) -> None:
    engine = loaded()
    engine.adapt(4, 8.0)
    batch = rollouts(engine, **fields)
    for _ in range(4):
        report = engine.reinforce(batch, 1e-2, clip=(0.2, 4.0))
    assert report.policy is not None and report.policy.max_age == 2
    assert report.policy.ratio != 1.0 and report.policy.approx_kl > 0.0
    for row, old, new in zip((1, -1), batch, engine.logprobs(batch), strict=True):
        assert row * (sum(new) - sum(old.logprobs)) > 0


def test_a_reward_counts_within_its_group_alone() -> None:
    engine = loaded()
    engine.adapt(4, 8.0)
    with pytest.raises(UsageError, match="all alike"):
        engine.reinforce(rollouts(engine, reward=(3.0, 1.0), group=("a", "b")))
    with pytest.raises(UsageError, match="rollout 0: it has an advantage, or a reward"):
        engine.reinforce(rollouts(engine))


def test_texts_are_learnt_as_they_are_asked() -> None:
    engine = loaded(weights="trainable")
    text = Example(prompt="rev:abc=", answer="cba")
    tokens = engine.encode("rev:abc=") + engine.encode("cba") + engine.eos
    assert engine.encoded(text) == Example(tokens=tokens, start=len("rev:abc="))
    assert engine.train([text], 1e-3).tokens == len("cba") + 1
    with pytest.raises(UsageError, match="not both"):
        engine.train([Example(tokens=[5, 6], start=1, prompt="a")], 1e-3)
    with pytest.raises(UsageError, match="example 1"):
        engine.train([text, Example(tokens=[5, 6], start=2)], 1e-3)


def test_what_cannot_be_adapted_is_said() -> None:
    engine = loaded()
    with pytest.raises(UsageError, match="lm_head"):
        engine.adapt(4, targets=["q_proj", "lm_head"])
    engine.adapt(4, targets=TARGETS[:2])
    with pytest.raises(UsageError, match="already"):
        engine.adapt(4)
    with pytest.raises(UsageError, match="ppo"):
        engine.reinforce(rollouts(engine, advantage=(1.0, 1.0)), loss="ppo")  # type: ignore[arg-type]


def test_a_torn_adapter_is_refused_by_its_file(tmp_path: Path) -> None:
    taught(loaded()).save_adapter(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors"):
        loaded(adapter=tmp_path)
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        loaded(adapter=tmp_path / "elsewhere")


def test_training_is_left_and_taken_up_again_to_the_bit(tmp_path: Path) -> None:
    engine = taught(loaded())
    engine.save_training(tmp_path, "what draws the batches")
    again = loaded()
    again.adapt(4, 8.0)
    assert again.load_training(tmp_path) == "what draws the batches"
    for side in (engine, again):
        side.train(EXAMPLES, 1e-2)
    assert again.weights_hash == engine.weights_hash
