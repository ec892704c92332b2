"""The engine beside live transformers, on fresh random models: `make parity SEEDS=4,5,6`."""

from __future__ import annotations

import dataclasses
import os
from array import array

import pytest

if "MOEVOLVE_PARITY" not in os.environ:
    pytest.skip("needs torch and transformers: run `make parity`", allow_module_level=True)

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

import fp8
import mxfp4
import reference as ref
import typed
from moevolve import _native

SHAPES = {
    "half rotary": ref.Shape(),
    "large bias": ref.Shape(experts=6, chosen=3, bias=(6.0, 0.3)),
    "wide attention": ref.Shape(hidden=48, heads=6, kv_heads=3, head=16, vocabulary=67),
    "one expert chosen": ref.Shape(chosen=1, layers=3),
    "all experts chosen": ref.Shape(chosen=4, layers=1, kv_heads=4),
    "full rotary": ref.Shape(partial=1.0, eos=1, theta=5e6),
    "qwen3_moe": ref.Shape(family="qwen3_moe", head=12, more={"norm_topk_prob": True}),
    "qwen3_moe yarn, biases": ref.Shape(
        family="qwen3_moe",
        experts=7,
        chosen=3,
        more={"attention_bias": True},
        rope={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    ),
    "olmoe": ref.Shape(family="olmoe"),
    "olmoe normalised, biases": ref.Shape(
        family="olmoe", experts=6, chosen=4, more={"norm_topk_prob": True, "attention_bias": True}
    ),
    "mixtral": ref.Shape(family="mixtral", head=10, theta=1e6),
    "mixtral tied": ref.Shape(family="mixtral", kv_heads=1, more={"tie_word_embeddings": True}),
    "llama": ref.Shape(family="llama", intermediate=40),
    "llama 3": ref.Shape(
        family="llama",
        head=16,
        more={"tie_word_embeddings": True, "attention_bias": True},
        rope={
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "qwen3": ref.Shape(family="qwen3", intermediate=50, head=20),
    "qwen3 tied, linear, biases": ref.Shape(
        family="qwen3",
        layers=3,
        more={"tie_word_embeddings": True, "attention_bias": True},
        rope={"rope_type": "linear", "factor": 2.0},
    ),
    "mixtral sliding": ref.Shape(family="mixtral", more={"sliding_window": 5}),
    "mistral": ref.Shape(family="mistral", intermediate=40, head=16, more={"sliding_window": 7}),
    "qwen2": ref.Shape(family="qwen2", intermediate=40, more={"tie_word_embeddings": True}),
    "qwen2 sliding late": ref.Shape(
        family="qwen2",
        layers=3,
        head=16,
        more={"use_sliding_window": True, "sliding_window": 17, "max_window_layers": 1},
    ),
    "gpt_oss": ref.Shape(
        family="gpt_oss",
        layers=3,
        head=16,
        theta=150_000.0,
        rope={"rope_type": "yarn", "factor": 32.0, "truncate": False, "original_max_position_embeddings": 64},
        more={"sliding_window": 9},
    ),
    "gpt_oss clamped": ref.Shape(
        family="gpt_oss",
        experts=6,
        chosen=3,
        head=12,
        more={"sliding_window": 2, "swiglu_limit": 0.5, "initializer_range": 0.4, "attention_bias": False},
    ),
    "qwen3_5_moe": ref.Shape(family="qwen3_5_moe_text", layers=4, head=16),
    "qwen3_5_moe with a linear end": ref.Shape(
        family="qwen3_5_moe_text",
        layers=3,
        head=12,
        partial=1.0,
        experts=6,
        chosen=3,
        more={
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "linear_num_key_heads": 3,
            "linear_num_value_heads": 3,
            "linear_conv_kernel_dim": 3,
        },
    ),
    "seed model": ref.Shape(
        vocabulary=128,
        hidden=128,
        intermediate=128,
        layers=4,
        heads=8,
        kv_heads=2,
        head=16,
        experts=8,
        chosen=2,
    ),
}
torch.set_num_threads(1)
SEEDS = [int(seed) for seed in os.environ["MOEVOLVE_PARITY"].split(",") if seed] or [1]


DRAWN = [f"drawn {family}" for family in ref.FAMILIES]


@pytest.fixture(
    params=[(s, n) for n in [*SHAPES, *DRAWN] for s in SEEDS],
    ids=lambda p: f"{p[1]} {p[0]}",
    scope="module",
)
def pair(request, tmp_path_factory):
    """A random model, its shape and seed, and the engine that loaded what transformers saved."""
    seed, name = request.param
    shape = SHAPES[name] if name in SHAPES else ref.draw_shape(name.removeprefix("drawn "), seed)
    model = ref.tiny(shape, seed)
    folder = tmp_path_factory.mktemp("checkpoint")
    ref.save(model, folder, tokenizer=ref.character_tokenizer(55))
    return model, shape, seed, _native.Engine.load(str(folder), 2), folder


def tensor(native):
    return torch.frombuffer(bytearray(memoryview(native).tobytes()), dtype=torch.float32).reshape(
        native.shape
    )


def batch_of(shape, seed):
    rows = ref.draw_ids(shape, [12, 7, 15, 20, 33], seed + 1)
    starts = zip(rows, [5, 3, 14, 1, 20], strict=True)
    batch = [(ids, answer, seed % 9 * i, 0.5 + i) for i, (ids, answer) in enumerate(starts)]
    ids, answer, _, weight = batch[-1]
    gaps = [2 * place + place // 7 for place in range(len(ids))]
    return [*batch[:-1], (ids, answer, gaps, weight)]


def test_logits(pair):
    model, shape, seed, engine, _ = pair
    ids = ref.draw_ids(shape, [9, 40, 1, 17], seed)
    ours = tensor(engine.logits(ids))
    for row, theirs in zip(ours, ref.logits(model, ids), strict=True):
        assert (row[: len(theirs)] - theirs).abs().max() < 1e-4
        assert row[len(theirs) :].isnan().all()


def test_stored_weights_give_the_same_logits(pair):
    model, shape, seed, _, folder = pair
    if shape.head % 16:
        pytest.skip("heads of 16 lie in the file as the kernels read them")
    stored = _native.Engine.load(str(folder), 2, "stored")
    ids = ref.draw_ids(shape, [9, 40, 1, 17], seed)
    for row, theirs in zip(tensor(stored.logits(ids)), ref.logits(model, ids), strict=True):
        assert (row[: len(theirs)] - theirs).abs().max() < 1e-4


def test_numpy_reads_logits_without_a_copy(pair):
    import numpy

    _, _, _, engine, _ = pair
    values = numpy.asarray(engine.logits([[5, 6, 7], [8]]))
    assert values.dtype == numpy.float32
    assert values.shape == (2, 3, engine.vocab_size)


def test_gradients(pair):
    model, shape, seed, engine, _ = pair
    batch = batch_of(shape, seed)
    model.zero_grad()
    theirs = ref.masked_loss(model, batch)
    theirs.backward()
    loss, gradients = engine.gradients(typed.examples(batch))
    assert abs(loss - theirs.item()) < 1e-4
    expected = ref.released(model, gradients=True)
    assert set(gradients) == set(expected)
    scale = max(value.norm() for value in expected.values())
    for name, value in expected.items():
        assert (tensor(gradients[name]) - value).norm() <= 1e-3 * max(value.norm(), 1e-3 * scale), name


def test_greedy(pair):
    model, shape, seed, engine, _ = pair
    prompts = ref.draw_ids(shape, [4, 11, 1, 7, 2, 30], seed + 2)
    ours = engine.generate([typed.greedy(prompt, 16) for prompt in prompts])
    for (sample,), prompt in zip(ours, prompts, strict=True):
        theirs, lead = ref.greedy(model, prompt, 16)
        assert sample.tokens == theirs or lead < 1e-4


def test_transformers_generate_says_the_same(pair):
    model, shape, seed, engine, _ = pair
    (prompt,) = ref.draw_ids(shape, [8], seed + 3)
    theirs = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)[
        0, len(prompt) :
    ].tolist()
    (sample,) = engine.generate([typed.greedy(prompt, 12)])[0]
    assert sample.tokens + ([shape.eos] if sample.finish == "stop" else []) == theirs


def test_transformers_loads_what_we_save(pair, tmp_path):
    model, shape, seed, engine, _ = pair
    engine.save(str(tmp_path / "ours"))
    again = ref.load(tmp_path / "ours")
    before, after = ref.released(model), ref.released(again)
    assert set(before) == set(after)
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    ids = ref.draw_ids(shape, [21], seed)
    assert torch.equal(ref.logits(model, ids)[0], ref.logits(again, ids)[0])
    again.generate(torch.tensor(ids), do_sample=False, max_new_tokens=2)


def test_bf16_saved_by_us_is_bf16_in_transformers(pair, tmp_path):
    model, _, _, engine, _ = pair
    engine.save(str(tmp_path / "ours"), "bf16")
    again = ref.load(tmp_path / "ours")
    for name, value in ref.released(model).items():
        if "e_score_correction_bias" not in name:
            assert torch.equal(value.bfloat16().float(), ref.released(again)[name]), name


def test_steps_equal_adamw(pair):
    model, shape, seed, engine, folder = pair
    theirs = ref.load(folder)
    ours = engine.clone()
    # A large epsilon keeps Adam's division from magnifying the rounding of vanishing gradients.
    options = {"betas": (0.9, 0.95), "eps": 1e-3, "weight_decay": 0.01}
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-3, **options)
    ours.reset_optimizer(0.9, 0.95, 1e-3, 0.01, 1.0, 0.0)
    for step in range(3):
        batch = batch_of(shape, seed + step)
        optimizer.zero_grad()
        ref.masked_loss(theirs, batch).backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        assert ours.train_step(typed.examples(batch), 1e-3).gradient_norm == pytest.approx(
            norm.item(), rel=1e-3
        )
    ours.write_weights(str(folder / "trained.safetensors"))
    trained = load_file(folder / "trained.safetensors")
    for name, value in ref.released(theirs).items():
        assert (trained[name] - value).abs().max() < 2e-5, name


def test_tokenizer(pair, tmp_path):
    _, _, _, engine, _ = pair
    engine.save(str(tmp_path / "ours"))
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path / "ours")
    for text in ("rev:abc=", "12+5 = 17", "", "Ünknown", "a  b"):
        assert engine.encode(text) == theirs.encode(text, add_special_tokens=False)
        assert engine.decode(engine.encode(text)) == theirs.decode(
            theirs.encode(text), skip_special_tokens=True
        )


def test_arrays_are_plain_floats(pair):
    """What `array` reads is what torch reads: no stride or padding hides in the buffer."""
    _, _, _, engine, _ = pair
    native = engine.logits([[3, 4]])
    assert array("f", memoryview(native).tobytes()).tolist() == tensor(native).flatten().tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_fp8_blocks(seed, tmp_path):
    """What we read of an FP8 checkpoint is what transformers makes of it."""
    model = ref.tiny(ref.FP8_SHAPE, seed)
    ref.save(model, tmp_path / "plain")
    fp8.convert(tmp_path / "plain", tmp_path / "fp8")
    theirs = ref.load(tmp_path / "fp8", **ref.DEQUANTISED)
    engine = _native.Engine.load(str(tmp_path / "fp8"), 2)
    ids = ref.draw_ids(ref.FP8_SHAPE, [9, 40, 1, 17], seed)
    for row, expected in zip(tensor(engine.logits(ids)), ref.logits(theirs, ids), strict=True):
        assert (row[: len(expected)] - expected).abs().max() < 1e-3
    engine.save(str(tmp_path / "ours"), "f32")
    again = ref.load(tmp_path / "ours")
    for name, value in ref.released(theirs).items():
        assert torch.equal(value, ref.released(again)[name]), name


@pytest.mark.parametrize("weights", ["stored", "trainable"])
@pytest.mark.parametrize("seed", SEEDS)
def test_fp8_blocks_torn_by_the_end_of_a_matrix(seed, weights, tmp_path):
    """transformers takes none, so what the blocks mean is worked out and saved plainly."""
    shape = dataclasses.replace(ref.FP8_SHAPE, hidden=160, intermediate=136, layers=2, head=80)
    model = ref.tiny(shape, seed)
    ref.save(model, tmp_path / "plain")
    fp8.convert(tmp_path / "plain", tmp_path / "fp8")
    tensors = load_file(tmp_path / "fp8" / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_scale_inv")]:
        matrix = name.removesuffix("_scale_inv")
        tensors[matrix] = fp8.widen(tensors[matrix], tensors.pop(name))
    save_file(tensors, tmp_path / "plain" / "model.safetensors", metadata={"format": "pt"})
    theirs = ref.load(tmp_path / "plain")
    engine = _native.Engine.load(str(tmp_path / "fp8"), 2, weights)
    ids = ref.draw_ids(shape, [9, 40], seed)
    for row, expected in zip(tensor(engine.logits(ids)), ref.logits(theirs, ids), strict=True):
        assert (row[: len(expected)] - expected).abs().max() < 1e-3


@pytest.mark.parametrize("weights", ["stored", "trainable"])
@pytest.mark.parametrize("seed", SEEDS)
def test_mxfp4_experts(seed, weights, tmp_path):
    """What we read of an MXFP4 checkpoint is what transformers makes of it, to the bit."""
    model = ref.tiny(ref.MXFP4_SHAPE, seed)
    ref.save(model, tmp_path / "plain")
    mxfp4.convert(tmp_path / "plain", tmp_path / "mxfp4")
    theirs = ref.load(tmp_path / "mxfp4", **ref.DEQUANTISED_MXFP4)
    engine = _native.Engine.load(str(tmp_path / "mxfp4"), 2, weights)
    ids = ref.draw_ids(ref.MXFP4_SHAPE, [9, 40, 1, 17], seed)
    for row, expected in zip(tensor(engine.logits(ids)), ref.logits(theirs, ids), strict=True):
        assert (row[: len(expected)] - expected).abs().max() < 1e-4
    engine.save(str(tmp_path / "ours"), "f32")
    again = ref.released(ref.load(tmp_path / "ours"))
    for name, value in ref.released(theirs).items():
        assert torch.equal(value, again[name]), name
