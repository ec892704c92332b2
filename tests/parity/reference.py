"""Tiny random models of every family in transformers: what the engine is compared with.

Nothing here knows Moevolve. Weights, norms, biases and selection biases are random, so that a wrong name or
transpose shows.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    FineGrainedFP8Config,
    Mxfp4Config,
    PreTrainedModel,
)

Example = tuple[list[int], int, int | list[int], float]
"""(ids, where the answer starts, position offset or one position a token, weight)."""

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789+-*=,:. ()<>[]?!"


@dataclass(frozen=True)
class Shape:
    """Sizes of one tiny model. `bias` is (mean, deviation) of MiniMax-M2's selection bias, about (6, 1) in M2.

    `rope` are further rotary parameters, `more` further fields of the configuration.
    """

    vocabulary: int = 64
    hidden: int = 32
    intermediate: int = 24
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head: int = 8
    experts: int = 4
    chosen: int = 2
    partial: float = 0.5
    bias: tuple[float, float] = (0.0, 0.3)
    theta: float = 10_000.0
    eos: int | None = None
    family: str = "minimax_m2"
    rope: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        """What the family's `config.json` says."""
        rope = {"rope_type": "default", "rope_theta": self.theta} | self.rope
        if self.family == "minimax_m2":
            rope["partial_rotary_factor"] = self.partial
        fields = {
            "model_type": self.family,
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head,
            "max_position_embeddings": 256,
            "rope_parameters": rope,
            "bos_token_id": None,
            "eos_token_id": self.eos,
            "pad_token_id": None,
            "initializer_range": 0.2,
        }
        if self.family not in DENSE:
            local = ("minimax_m2", "mixtral", "gpt_oss")
            name = "num_local_experts" if self.family in local else "num_experts"
            fields |= {name: self.experts, "num_experts_per_tok": self.chosen}
        if self.family == "qwen3_5_moe_text":
            rope["partial_rotary_factor"] = self.partial
            fields |= {
                "moe_intermediate_size": self.intermediate,
                "shared_expert_intermediate_size": self.intermediate + 3,
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
                "linear_key_head_dim": self.head,
                "linear_value_head_dim": self.head + 2,
                "linear_conv_kernel_dim": 4,
                "full_attention_interval": 2,
            }
        if self.family == "qwen3_moe":
            fields |= {"intermediate_size": 7, "moe_intermediate_size": self.intermediate}
        return fields | self.more


DENSE = ("llama", "qwen3", "mistral", "qwen2")
"""Families without experts."""

FP8_SHAPE = Shape(
    vocabulary=40,
    hidden=256,
    intermediate=32,
    layers=1,
    heads=2,
    kv_heads=1,
    head=32,
    experts=3,
    bias=(6.0, 0.3),
    more={"initializer_range": 0.06},
)
"""Two blocks of 128 along the hidden width; transformers reads a block torn by the end only where it is alone."""

DEQUANTISED: dict[str, Any] = {"quantization_config": FineGrainedFP8Config(dequantize=True)}
"""Options of `load` for an FP8 checkpoint."""

MXFP4_SHAPE = Shape(
    family="gpt_oss",
    vocabulary=40,
    hidden=64,
    intermediate=32,
    head=16,
    rope={"rope_type": "yarn", "factor": 32.0, "truncate": False, "original_max_position_embeddings": 16},
    more={"sliding_window": 6},
)
"""One and two blocks of 32 along the rows."""

DEQUANTISED_MXFP4: dict[str, Any] = {"quantization_config": Mxfp4Config(dequantize=True)}
"""Options of `load` for an MXFP4 checkpoint."""

FAMILIES = (
    "minimax_m2",
    "qwen3_moe",
    "olmoe",
    "mixtral",
    "llama",
    "qwen3",
    "mistral",
    "qwen2",
    "gpt_oss",
    "qwen3_5_moe_text",
)


def draw_shape(family: str, seed: int) -> Shape:
    """A random shape of a family, with a random choice of what it may have."""
    draw = random.Random(f"{family} {seed}")
    kv_heads = draw.choice([1, 2, 3])
    heads = kv_heads * draw.choice([1, 2, 3])
    head = draw.choice([16, 2 * draw.randint(2, 12)])  # 16 can be used as it is stored
    experts = draw.randint(2, 9)
    # OLMoE's norms are as wide as the hidden state.
    hidden = heads * head if family == "olmoe" else draw.randint(8, 70)
    if family == "llama":
        hidden = heads * draw.randint(4, 20)  # transformers insists on a multiple
    more: dict[str, Any] = {"tie_word_embeddings": draw.random() < 0.4}
    if family not in ("minimax_m2", "mixtral", "mistral", "qwen2"):
        more["attention_bias"] = draw.random() < 0.5
    if family in ("mixtral", "mistral"):
        more["sliding_window"] = draw.choice([None, draw.randint(1, 40)])
    if family in ("qwen3", "qwen2", "qwen3_moe"):
        more["use_sliding_window"] = draw.random() < 0.7
        more["sliding_window"] = draw.randint(1, 40)
        if family != "qwen3_moe":
            more["max_window_layers"] = draw.randint(0, 3)
    if family == "gpt_oss":
        more["sliding_window"] = draw.randint(1, 40)
        more["swiglu_limit"] = draw.choice([7.0, 0.7])
    if family in ("qwen3_moe", "olmoe"):
        more["norm_topk_prob"] = draw.random() < 0.5
    llama3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    rope = draw.choice(
        [
            {},
            {"rope_type": "linear", "factor": 1.5},
            {"rope_type": "llama3", "factor": 8.0} | llama3,
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
            {
                "rope_type": "yarn",
                "factor": 2.0,
                "attention_factor": 1.3,
                "beta_fast": 4.0,
                "truncate": False,
            },
        ]
    )
    return Shape(
        vocabulary=draw.randint(55, 90),
        hidden=hidden,
        intermediate=draw.randint(5, 70),
        layers=draw.randint(1, 3),
        heads=heads,
        kv_heads=kv_heads,
        head=head,
        experts=experts,
        chosen=draw.randint(1, experts),
        partial=draw.choice([0.5, 1.0]) if head % 4 == 0 else 1.0,
        bias=draw.choice([(0.0, 0.3), (6.0, 0.3)]),
        theta=draw.choice([1e4, 1e6]),
        eos=draw.choice([None, 1]),
        family=family,
        rope=rope,
        more=more,
    )


def tiny(shape: Shape, seed: int) -> PreTrainedModel:
    """A random model in float32 evaluation mode, its norms and biases perturbed."""
    torch.manual_seed(seed)
    fields = dict(shape.fields)
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    # The grouped products of transformers round in bf16 on some machines; the plain loop is what is meant.
    model = AutoModelForCausalLM.from_config(config, experts_implementation="eager").eval()
    mean, deviation = shape.bias
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("norm", "bias", "sinks")):
                parameter.add_(0.2 * torch.randn_like(parameter))
        for layer in model.model.layers:
            bias = getattr(layer.mlp, "e_score_correction_bias", None)
            if bias is not None:
                bias.copy_(mean + deviation * torch.randn_like(bias))
    return model


def load(folder: Path, **options: Any) -> PreTrainedModel:
    """A checkpoint as transformers reads it, in float32 evaluation mode."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, experts_implementation="eager", **options
    )
    return model.eval()


def released(model: PreTrainedModel, *, gradients: bool = False) -> dict[str, torch.Tensor]:
    """Tensors under the released names, experts apart: Mixtral and M2 say w1, w3, w2, the others *_proj.

    Args:
        model: the model.
        gradients: gradients instead of weights; the selection biases have none and are left out.
    """
    sparse = model.config.model_type in ("minimax_m2", "mixtral")
    gate, up, down = ("w1", "w3", "w2") if sparse else ("gate_proj", "up_proj", "down_proj")
    block = ".block_sparse_moe." if sparse else ".mlp."
    out: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        value = parameter.grad if gradients else parameter.data
        assert value is not None, name
        name = name.replace(".mlp.", block)
        stem = name.rpartition(".")[0]
        if model.config.model_type == "gpt_oss":
            out[name] = value  # whose files have all experts of a layer in one tensor
        elif name.endswith("experts.gate_up_proj"):
            half = value.shape[1] // 2
            for expert, both in enumerate(value):
                out[f"{stem}.{expert}.{gate}.weight"] = both[:half]
                out[f"{stem}.{expert}.{up}.weight"] = both[half:]
        elif name.endswith("experts.down_proj"):
            for expert, value_down in enumerate(value):
                out[f"{stem}.{expert}.{down}.weight"] = value_down
        else:
            out[name] = value
    if not gradients:
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                out[name.replace(".mlp.", block)] = buffer
    return {name: value.detach().clone().contiguous() for name, value in sorted(out.items())}


def draw_ids(shape: Shape, lengths: list[int], seed: int) -> list[list[int]]:
    """Random token ids of the given lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, shape.vocabulary, (n,), generator=generator).tolist() for n in lengths]


def logits(model: PreTrainedModel, ids: list[list[int]]) -> list[torch.Tensor]:
    """(time, vocabulary) a row, each row alone: no padding enters."""
    with torch.no_grad():
        return [model(torch.tensor([row])).logits[0].float() for row in ids]


def masked_loss(model: PreTrainedModel, batch: list[Example]) -> torch.Tensor:
    """Weighted mean over all answer tokens of their cross-entropy given what stands before."""
    total, mass = torch.zeros(()), 0.0
    for ids, answer, where, weight in batch:
        row = torch.tensor([ids])
        positions = where if isinstance(where, list) else list(range(where, where + len(ids)))
        scores = model(row, position_ids=torch.tensor([positions])).logits[0, answer - 1 : -1].float()
        total = total + weight * torch.nn.functional.cross_entropy(scores, row[0, answer:], reduction="sum")
        mass += weight * (len(ids) - answer)
    return total / mass


def greedy(model: PreTrainedModel, prompt: list[int], most: int) -> tuple[list[int], float]:
    """Greedy continuation without its end token, and the least lead of a choice over the second best."""
    ids, lead = list(prompt), float("inf")
    ends = model.config.eos_token_id
    stops = set() if ends is None else {ends} if isinstance(ends, int) else set(ends)
    for _ in range(most):
        best = logits(model, [ids])[0][-1].topk(2)
        lead = min(lead, (best.values[0] - best.values[1]).item())
        if (token := int(best.indices[0])) in stops:
            break
        ids.append(token)
    return ids[len(prompt) :], lead


def character_tokenizer(size: int) -> str:
    """A `tokenizer.json` of `size` tokens, one a character: 0 pads, 1 ends, 2 is unknown."""
    specials = ["<pad>", "<eos>", "<unk>"]
    vocabulary = {token: index for index, token in enumerate([*specials, *ALPHABET][:size])}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": i, "content": token, **flags} for i, token in enumerate(specials)],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "[\\s\\S]"},
                "behavior": "Isolated",
                "invert": False,
            },
            "post_processor": None,
            "decoder": {"type": "Fuse"},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        }
    )


def save(model: PreTrainedModel, folder: Path, *, shard: str = "50GB", tokenizer: str | None = None) -> None:
    """Writes the checkpoint as transformers does, and a tokenizer beside it."""
    model.save_pretrained(folder, max_shard_size=shard)
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(tokenizer)
