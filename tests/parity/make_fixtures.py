"""Writes tests/fixtures/model: tiny checkpoints saved by transformers, and what torch computes with them.

`make fixtures` runs it in the parity environment; names as arguments make only those. One folder a model:
`checkpoint/` as transformers saves it, `expected.safetensors` with the arrays, `expected.json` with everything else.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import safetensors
import tokenizers
import torch
import transformers
from safetensors.torch import save_file

import fp8
import mxfp4
import reference as ref

FOLDER = Path(__file__).parents[1] / "fixtures" / "model"
OPTIMIZER = {"lr": 3e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.01}
CLIP = 1.0
STEPS = 3
SMALL = {"vocabulary": 40, "hidden": 24, "intermediate": 20, "head": 10}
MODELS = {
    # The released proportions in small: half of each head rotated, biases that only select.
    "plain": (ref.Shape(), 11, "50GB"),
    # Nothing is a multiple of a vector's width, attention is wider than hidden, biases are large.
    "odd": (
        ref.Shape(
            vocabulary=61,
            hidden=40,
            intermediate=20,
            heads=6,
            kv_heads=2,
            head=12,
            experts=6,
            chosen=3,
            bias=(6.0, 0.3),
            theta=5e6,
        ),
        12,
        "50GB",
    ),
    # With a tokenizer and an end token; stored as bf16 in several shards.
    "text": (ref.Shape(vocabulary=56, kv_heads=1, experts=5, partial=1.0, eos=1), 13, "40KB"),
    # The other families, each with what only it has.
    "qwen3_moe": (
        ref.Shape(
            family="qwen3_moe",
            **SMALL,
            more={"norm_topk_prob": True, "attention_bias": True},
            rope={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        ),
        14,
        "50GB",
    ),
    "olmoe": (
        ref.Shape(family="olmoe", **SMALL | {"head": 6}, chosen=3, more={"norm_topk_prob": False}),
        15,
        "50GB",
    ),
    "mixtral": (ref.Shape(family="mixtral", **SMALL, theta=1e6), 19, "60KB"),
    "llama": (
        ref.Shape(
            family="llama",
            **SMALL | {"intermediate": 60},
            more={"tie_word_embeddings": True, "attention_bias": True},
            rope={
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        ),
        17,
        "50GB",
    ),
    "qwen3": (
        ref.Shape(
            family="qwen3", **SMALL | {"intermediate": 60}, rope={"rope_type": "linear", "factor": 2.0}
        ),
        18,
        "50GB",
    ),
    "mistral": (
        ref.Shape(family="mistral", **SMALL | {"intermediate": 60}, more={"sliding_window": 5}),
        22,
        "50GB",
    ),
    "qwen2": (
        ref.Shape(
            family="qwen2",
            **SMALL | {"intermediate": 60},
            more={"use_sliding_window": True, "sliding_window": 17, "max_window_layers": 1},
        ),
        29,
        "50GB",
    ),
    "gpt_oss": (
        ref.Shape(
            family="gpt_oss",
            **SMALL,
            theta=150_000.0,
            rope={
                "rope_type": "yarn",
                "factor": 32.0,
                "truncate": False,
                "original_max_position_embeddings": 64,
            },
            more={"sliding_window": 6, "swiglu_limit": 1.0},
        ),
        24,
        "60KB",
    ),
    "qwen3_5_moe": (
        ref.Shape(
            family="qwen3_5_moe_text", **SMALL | {"head": 12}, layers=3, more={"full_attention_interval": 2}
        ),
        26,
        "60KB",
    ),
    # gpt-oss as it ships: experts in MXFP4.
    "mxfp4": (ref.MXFP4_SHAPE, 25, "50GB"),
    # MiniMax-M2 as it ships: FP8 in blocks of 128, some of them torn by the matrix's end.
    "fp8": (ref.FP8_SHAPE, 21, "50GB"),
}
QUANTISED: dict[str, tuple[Any, dict[str, Any]]] = {
    "fp8": (fp8.convert, ref.DEQUANTISED),
    "mxfp4": (mxfp4.convert, ref.DEQUANTISED_MXFP4),
}
"""How a plain checkpoint is quantised, and how transformers reads that."""


def train(model: ref.PreTrainedModel, batch: list[ref.Example]) -> list[dict[str, float]]:
    """A few AdamW steps with clipping, every parameter decayed alike; loss and gradient norm before each."""
    optimizer = torch.optim.AdamW(model.parameters(), **OPTIMIZER)
    steps = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = ref.masked_loss(model, batch)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        steps.append({"loss": loss.item(), "gradient_norm": norm.item()})
    return steps


def make(name: str, shape: ref.Shape, seed: int, shard: str) -> None:
    """Writes one model's folder; of a quantised one, which is not trained, only logits and continuations."""
    convert, options = QUANTISED.get(name, (None, {}))
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = ref.tiny(shape, seed)
    tokenizer = None
    if name == "text":
        model = model.to(torch.bfloat16)
        tokenizer = ref.character_tokenizer(shape.vocabulary - 1)  # one row of the embedding is spare
    ref.save(model, folder / "checkpoint", shard=shard, tokenizer=tokenizer)
    if convert:
        (folder / "checkpoint").rename(folder / "plain")
        convert(folder / "plain", folder / "checkpoint")
        shutil.rmtree(folder / "plain")
    # Read back: a cast of the whole model would leave its rotary frequencies rounded to bf16.
    model = ref.load(folder / "checkpoint", **options)

    arrays: dict[str, torch.Tensor] = {}
    ids = ref.draw_ids(shape, [9, 17, 1, 5], seed)
    for index, row in enumerate(ref.logits(model, ids)):
        arrays[f"logits.{index}"] = row
    first, second, third, fourth = ref.draw_ids(shape, [12, 7, 15, 20], seed + 1)
    gaps = [position + position // 3 * 5 for position in range(20)]
    batch: list[ref.Example] = [
        (first, 5, 0, 1.0),
        (second, 3, 3, 0.5),
        (third, 14, 40, 2.0),
        (fourth, 1, gaps, 1.0),
    ]
    loss = ref.masked_loss(model, batch)
    if not convert:
        loss.backward()
        arrays |= {f"gradient.{k}": v for k, v in ref.released(model, gradients=True).items()}
    prompts = ref.draw_ids(shape, [4, 11, 1, 7, 2], seed + 2)
    generations = []
    for prompt in prompts:
        tokens, lead = ref.greedy(model, prompt, 12)
        assert lead > 1e-3, f"{name}: a greedy choice leads by {lead} only; take another seed"
        generations.append(tokens)
    steps = train(model, batch) if not convert else []
    if name in ("plain", "odd"):
        arrays |= {f"trained.{k}": v for k, v in ref.released(model).items()}
    save_file(arrays, folder / "expected.safetensors")
    (folder / "expected.json").write_text(
        json.dumps(
            {
                "made_by": "tests/parity/make_fixtures.py",
                "versions": {
                    "python": sys.version.split()[0],
                    "torch": torch.__version__,
                    "transformers": transformers.__version__,
                    "safetensors": safetensors.__version__,
                    "tokenizers": tokenizers.__version__,
                },
                "seed": seed,
                "ids": ids,
                "batch": batch,
                "loss": loss.item(),
                "optimizer": OPTIMIZER | {"clip": CLIP},
                "steps": steps,
                "prompts": prompts,
                "generations": generations,
            }
        )
        + "\n"
    )


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for name in sys.argv[1:] or MODELS:
        shape, seed, shard = MODELS[name]
        make(name, shape, seed, shard)
        for file in (FOLDER / name).rglob("*.safetensors"):
            file.chmod(0o644)
        size = sum(f.stat().st_size for f in (FOLDER / name).rglob("*") if f.is_file())
        print(f"{name}: {size / 1e3:.0f} kB")
