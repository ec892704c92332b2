"""LoRA through the engine as people use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moevolve.errors import CheckpointError, UsageError
from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.engine import TARGETS, Engine

PROMPTS = ["rev:abc=", "add:12+7="]
EXAMPLES = [([5, 6, 7, 8, 9], 2, 0, 1.0), ([9, 4, 3], 1, 4, 2.0)]


def loaded(weights: str = "stored", **options: str | Path) -> Engine:
    return Engine.load(seed_checkpoint(), weights=weights, threads=1, **options)


def taught(engine: Engine) -> Engine:
    engine.adapt(4, 8.0)
    for _ in range(3):
        engine.native.train_step(EXAMPLES, 1e-2)
    return engine


def test_an_adapter_trains_beside_weights_that_do_not(tmp_path: Path) -> None:
    engine = loaded()
    base = engine.native.fingerprint()
    engine.adapt(4, 8.0)
    assert engine.adapter is not None
    assert engine.adapter["rank"] == 4
    losses = [engine.native.train_step(EXAMPLES, 1e-2)["loss"] for _ in range(8)]
    assert losses[-1] < losses[0]
    assert engine.native.fingerprint() != base
    other = loaded()
    assert other.native.fingerprint() == base
    engine.save_adapter(tmp_path)
    again = loaded(adapter=tmp_path)
    assert again.generate(PROMPTS, max_tokens=8) == engine.generate(PROMPTS, max_tokens=8)
    assert again.native.fingerprint() == engine.native.fingerprint()
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 8.0, "LORA")


def test_what_is_written_and_read_is_the_adapter_alone(tmp_path: Path) -> None:
    engine = taught(loaded())
    file = tmp_path / "adapter.safetensors"
    engine.native.write_weights(file)
    assert file.stat().st_size < 5 * 4 * engine.adapter["parameters"]
    other = loaded()
    other.adapt(4, 8.0)
    other.native.read_weights(file)
    assert other.native.fingerprint() == engine.native.fingerprint()
    copy = engine.clone()
    assert copy.native.fingerprint() == engine.native.fingerprint()
    copy.native.train_step(EXAMPLES, 1e-2)
    assert copy.native.fingerprint() != engine.native.fingerprint()


def test_merged_weights_answer_alike_and_train_themselves() -> None:
    engine = taught(loaded())
    before = engine.native.logprobs([example[:3] for example in EXAMPLES])
    engine.merge()
    after = engine.native.logprobs([example[:3] for example in EXAMPLES])
    for old, new in zip(before, after, strict=True):
        assert old == pytest.approx(new, abs=1e-4)
    assert engine.adapter is None
    engine.native.train_step(EXAMPLES, 1e-3)
    with pytest.raises(UsageError, match="no adapter"):
        engine.merge()


def test_the_base_is_still_there_to_compare_with() -> None:
    engine = taught(loaded())
    sequences = [example[:3] for example in EXAMPLES]
    base = engine.native.logprobs(sequences, base=True)
    assert base == loaded().native.logprobs(sequences)
    assert base != engine.native.logprobs(sequences)


def test_a_policy_step_reinforces_what_had_an_advantage() -> None:
    engine = loaded()
    engine.adapt(4, 8.0)
    native = engine.native
    sequences = [example[:3] for example in EXAMPLES]
    before = native.logprobs(sequences)
    batch = [
        (*sequence, advantage, old, None, 2)
        for sequence, advantage, old in zip(sequences, (1.0, -1.0), before, strict=True)
    ]
    for _ in range(4):
        told = native.policy_step(batch, 1e-2, clip_high=4.0)
    assert set(told) >= {"ratio", "clipped", "drift", "entropy", "kl", "age", "oldest"}
    assert told["oldest"] == 2
    after = native.logprobs(sequences)
    assert sum(after[0]) > sum(before[0])
    assert sum(after[1]) < sum(before[1])


def test_what_cannot_be_adapted_is_said() -> None:
    engine = loaded()
    with pytest.raises(UsageError, match="lm_head"):
        engine.adapt(4, targets=["q_proj", "lm_head"])
    engine.adapt(4, targets=TARGETS[:2])
    with pytest.raises(UsageError, match="already"):
        engine.adapt(4)
    with pytest.raises(UsageError, match="ppo"):
        engine.native.policy_step([([5, 6], 1, 0, 1.0, [-1.0], None, 0)], 1e-3, loss="ppo")


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
    engine.native.save_training(tmp_path, "what draws the batches")
    again = loaded()
    again.adapt(4, 8.0)
    assert again.native.load_training(tmp_path) == "what draws the batches"
    for side in (engine, again):
        side.native.train_step(EXAMPLES, 1e-2)
    assert again.native.fingerprint() == engine.native.fingerprint()
