"""Policy losses and adapters beside live torch and PEFT, on fresh random models: `make parity SEEDS=4,5,6`."""

from __future__ import annotations

import os

import pytest

if "MOEVOLVE_PARITY" not in os.environ:
    pytest.skip("needs torch, transformers and PEFT: run `make parity`", allow_module_level=True)

import peft
import torch

import losses
import reference as ref
import typed
from moevolve import _native

SEEDS = [int(seed) for seed in os.environ["MOEVOLVE_PARITY"].split(",") if seed] or [1]
CASES = [(family, seed) for family in ref.FAMILIES for seed in SEEDS]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ATTENTION = TARGETS[:4]
"""What PEFT can adapt of a model whose experts transformers has in one tensor."""


def drawn(family, seed, folder):
    """A random model, its engine, and a batch of sampled answers."""
    shape = ref.draw_shape(family, seed)
    model = ref.tiny(shape, seed)
    ref.save(model, folder)
    rows = ref.draw_ids(shape, [12, 7, 15, 20], seed + 1)
    batch = [(ids, start, 3 * i, 1.0) for i, (ids, start) in enumerate(zip(rows, [5, 3, 9, 1], strict=True))]
    return model, shape, _native.Engine.load(str(folder), 2), batch


def tensor(native):
    values = torch.frombuffer(bytearray(memoryview(native).tobytes()), dtype=torch.float32)
    return values.reshape(native.shape)


def close(gradients, expected):
    assert set(gradients) == set(expected)
    scale = max(value.norm() for value in expected.values())
    for name, value in expected.items():
        apart = (tensor(gradients[name]) - value).norm()
        assert apart <= 1e-4 * max(value.norm(), 1e-2 * scale), name


@pytest.mark.parametrize("loss", losses.LOSSES)
@pytest.mark.parametrize(("family", "seed"), CASES)
def test_policy_losses_of_whole_models(family, seed, loss, tmp_path):
    model, _, engine, batch = drawn(family, seed, tmp_path)
    rollouts = losses.draw_rollouts(model, batch, seed)
    expected = losses.loss_of(model, rollouts, loss)
    expected.backward()
    value, gradients = engine.policy_gradients(typed.rollouts(rollouts), loss, **losses.LOSSES[loss])
    assert abs(value - expected.item()) < 1e-4
    close(gradients, ref.released(model, gradients=True))


def named(adapted):
    return {
        name.replace(".default.", "."): parameter.grad
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad
    }


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(("family", "seed"), CASES)
def test_an_adapter_of_peft_is_ours(family, seed, stored, tmp_path):
    model, shape, engine, batch = drawn(family, seed, tmp_path / "model")
    if stored:
        if shape.head % 16:
            pytest.skip("heads of 16 lie in the file as the kernels read them")
        engine = _native.Engine.load(str(tmp_path / "model"), 2, "stored")
    targets = TARGETS[seed % 3 :: 2] if family in ref.DENSE else ATTENTION
    torch.manual_seed(seed)
    config = peft.LoraConfig(
        r=1 + seed % 5,
        lora_alpha=7.0,
        target_modules=targets,
        task_type="CAUSAL_LM",
        use_rslora=seed % 2 == 0,
    )
    adapted = peft.get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    adapted.save_pretrained(tmp_path / "adapter")
    engine.load_adapter(tmp_path / "adapter")
    ids = ref.draw_ids(shape, [9, 40, 1, 17], seed)
    for row, theirs in zip(tensor(engine.logits(ids)), ref.logits(adapted, ids), strict=True):
        assert (row[: len(theirs)] - theirs).abs().max() < 1e-4
    ref.masked_loss(adapted, batch).backward()
    close(engine.gradients(typed.examples(batch))[1], named(adapted))


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_an_adapter_of_ours_is_pefts(family, seed, tmp_path):
    model, shape, engine, batch = drawn(family, seed, tmp_path / "model")
    targets = TARGETS if family in ref.DENSE else ATTENTION
    engine.adapt(2 + seed % 5, 9.0, targets[seed % 2 :: 2], seed % 2 == 1, seed)
    for _ in range(4):
        engine.train_step(typed.examples(batch), 1e-2)
    engine.save_adapter(tmp_path / "adapter", str(tmp_path / "model"))
    adapted = peft.PeftModel.from_pretrained(model, tmp_path / "adapter").eval()
    ids = ref.draw_ids(shape, [9, 40, 1, 17], seed)
    for row, theirs in zip(tensor(engine.logits(ids)), ref.logits(adapted, ids), strict=True):
        assert (row[: len(theirs)] - theirs).abs().max() < 1e-4
