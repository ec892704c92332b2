"""Gradients, AdamW and what a training step reports."""

from __future__ import annotations

import math
from array import array

import pytest
from msgspec.structs import replace

from moevolve.errors import MoevolveError
from moevolve.protocol.training import Example


def norm(values):
    return math.sqrt(sum(v * v for v in values))


def weights(engine, folder, read_arrays):
    """Every float32 tensor of the engine by its released name."""
    engine.write_weights(str(folder / "weights.safetensors"))
    arrays = read_arrays(folder / "weights.safetensors")
    return {name: arrays[name] for name in arrays}


def optimise(engine, golden):
    options = golden.expected["optimizer"]
    engine.reset_optimizer(*options["betas"], options["eps"], options["weight_decay"], options["clip"], 0.0)
    return [engine.train_step(golden.batch, options["lr"]) for _ in golden.expected["steps"]]


def test_gradients_agree_with_torch(golden, flat):
    loss, gradients = golden.load().gradients(golden.batch)
    expected = golden.arrays.group("gradient.")
    assert loss == pytest.approx(golden.expected["loss"], abs=1e-5)
    assert set(gradients) == set(expected)
    scale = norm([norm(values) for values in expected.values()])
    for name, values in expected.items():
        assert gradients[name].shape == golden.tensors[name], name
        apart = norm([a - b for a, b in zip(flat(gradients[name]), values, strict=True)])
        assert apart <= 1e-3 * max(norm(values), 1e-4 * scale), name


def test_gradients_match_finite_differences(goldens, tmp_path, read_arrays, flat):
    """The loss itself, moved along each tensor's gradient: independent of torch."""
    golden = goldens["plain"]
    engine = golden.load()
    loss, gradients = engine.gradients(golden.batch)
    file = tmp_path / "weights.safetensors"
    for name in (
        "lm_head.weight",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.1.self_attn.v_proj.weight",
    ):
        slope = flat(gradients[name])
        length = norm(slope)
        step = 2e-3  # short enough that no token changes its experts
        losses = []
        for sign in (1.0, -1.0):
            moved = golden.load()
            moved.write_weights(str(file))
            arrays = read_arrays(file)
            shifted = [w + sign * step * g / length for w, g in zip(arrays[name], slope, strict=True)]

            def edit(tensors, name=name, shifted=shifted):
                dtype, shape, _ = tensors[name]
                tensors[name] = (dtype, shape, array("f", shifted).tobytes())

            arrays.write(edit)
            moved.read_weights(str(file))
            losses.append(moved.gradients(golden.batch)[0])
        assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(length, rel=2e-2), name
    assert engine.gradients(golden.batch)[0] == loss


def test_steps_equal_torch_adamw(goldens, tmp_path, read_arrays):
    for name in ("plain", "odd"):
        golden = goldens[name]
        engine = golden.load()
        for report, expected in zip(optimise(engine, golden), golden.expected["steps"], strict=True):
            assert report.loss == pytest.approx(expected["loss"], abs=2e-4)
            assert report.gradient_norm == pytest.approx(expected["gradient_norm"], rel=1e-3)
        trained = weights(engine, tmp_path, read_arrays)
        reference = golden.arrays.group("trained.")
        assert set(trained) == set(reference)
        rate = golden.expected["optimizer"]["lr"]
        gaps = [
            abs(a - b) for key, values in reference.items() for a, b in zip(trained[key], values, strict=True)
        ]
        # Adam divides a gradient by its own size, so where it is next to nothing its rounding is magnified.
        assert max(gaps) < rate
        assert sum(gap > 0.01 * rate for gap in gaps) < 0.002 * len(gaps)


def test_training_lowers_the_loss(golden):
    engine = golden.load()
    engine.reset_optimizer()
    losses = [engine.train_step(golden.batch, 1e-2).loss for _ in range(20)]
    assert losses[-1] < 0.3 * losses[0]


def test_a_step_reports_tokens_and_expert_load(golden):
    engine = golden.load()
    engine.reset_optimizer()
    report = engine.train_step(golden.batch, 1e-3)
    assert report.tokens == sum(len(example.tokens) - example.start for example in golden.batch)
    assert len(report.expert_load) == golden.config["num_hidden_layers"]
    for layer in report.expert_load:
        assert len(layer) == golden.experts
        assert min(layer) >= 0


def test_training_does_not_depend_on_threads(golden):
    """Bit for bit: gradients are summed over shards whose number is fixed."""
    prints = set()
    for threads in (1, 2, 3):
        engine = golden.load(threads)
        engine.reset_optimizer()
        for _ in range(3):
            engine.train_step(golden.batch, 1e-3)
        prints.add(engine.fingerprint())
    assert len(prints) == 1


def test_a_position_offset_changes_nothing_but_rounding(goldens):
    """Rotary positions are relative."""
    engine = goldens["plain"].load()
    example = goldens["plain"].batch[0]
    near, _ = engine.gradients([replace(example, positions=0)])
    far_off, _ = engine.gradients([replace(example, positions=100)])
    assert near == pytest.approx(far_off, abs=1e-4)


def test_weight_zero_leaves_an_example_out(goldens, flat, far):
    golden = goldens["plain"]
    engine = golden.load()
    first, second, *_ = golden.batch
    _, both = engine.gradients([first, replace(second, weight=0.0)])
    _, alone = engine.gradients([first])
    name = "model.embed_tokens.weight"
    a, b = flat(both[name]), flat(alone[name])
    ratio = norm(a) / norm(b)
    assert far(a, [ratio * v for v in b]) < 1e-5


def test_the_selection_bias_moves_by_its_own_rate_only(goldens, tmp_path, read_arrays):
    name = "model.layers.0.block_sparse_moe.e_score_correction_bias"
    golden = goldens["plain"]
    engine = golden.load()
    before = weights(engine, tmp_path, read_arrays)[name]
    engine.reset_optimizer(bias_rate=0.0)
    engine.train_step(golden.batch, 1e-2)
    assert weights(engine, tmp_path, read_arrays)[name] == before
    engine.reset_optimizer(bias_rate=0.125)
    load = engine.train_step(golden.batch, 0.0).expert_load[0]
    after = weights(engine, tmp_path, read_arrays)[name]
    busiest, idlest = load.index(max(load)), load.index(min(load))
    assert after[busiest] <= before[busiest]
    assert after[idlest] >= before[idlest]
    assert after != before


def test_a_loss_that_is_not_finite_leaves_the_weights(goldens):
    golden = goldens["plain"]
    engine = golden.load()
    engine.reset_optimizer()
    before = engine.fingerprint()
    with pytest.raises((MoevolveError, ValueError)):
        engine.train_step([replace(golden.batch[0], weight=math.inf)], 1e-3)
    assert engine.fingerprint() == before
    assert math.isfinite(engine.train_step(golden.batch, 1e-3).loss)


@pytest.mark.parametrize(
    ("tokens", "start"),
    [([], 0), ([1, 2], 2), ([1, 2], 5), ([1, 99], 1)],
    ids=["empty", "no answer", "answer past the end", "unknown token"],
)
def test_an_example_that_cannot_be_learnt_is_refused(goldens, tokens, start):
    engine = goldens["plain"].load()
    engine.reset_optimizer()
    before = engine.fingerprint()
    with pytest.raises((MoevolveError, ValueError)):
        engine.train_step([Example(tokens=tokens, start=start)], 1e-3)
    assert engine.fingerprint() == before


def test_a_clone_learns_alone(goldens):
    golden = goldens["plain"]
    engine = golden.load()
    before = engine.fingerprint()
    other = engine.clone()
    assert other.fingerprint() == before
    other.reset_optimizer()
    other.train_step(golden.batch, 1e-2)
    assert engine.fingerprint() == before
    assert other.fingerprint() != before
