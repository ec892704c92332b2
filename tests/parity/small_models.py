"""Configurations of small random models of every family, for comparisons with llama.cpp."""

from __future__ import annotations

from typing import Any

SIZES = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256,
    "initializer_range": 0.3, "rms_norm_eps": 1e-6, "eos_token_id": 1, "tie_word_embeddings": False,
}  # fmt: skip
EXPERTS = {"num_local_experts": 8, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 96}
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
LLAMA3 = PLAIN | {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = PLAIN | {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
FAMILIES: dict[str, dict[str, Any]] = {
    "minimax_m2": EXPERTS | {"rotary_dim": 8, "rope_parameters": PLAIN | {"partial_rotary_factor": 0.5}},
    "qwen3_moe": EXPERTS | {"norm_topk_prob": True},
    "olmoe": EXPERTS | {"num_key_value_heads": 4},
    "mixtral": EXPERTS,
    "llama": {"attention_bias": True, "rope_parameters": LLAMA3},
    "llama tied": {"tie_word_embeddings": True},
    "qwen3": {"rope_parameters": YARN},
    "mistral": {"sliding_window": None},
    "qwen2": {},
}
# Heads as real models have them, and widths that super-blocks divide.
WIDE = {
    "hidden_size": 256, "intermediate_size": 256, "moe_intermediate_size": 256, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "rope_parameters": PLAIN,
}  # fmt: skip


def wide(name: str) -> dict[str, Any]:
    """The configuration of a family of [`FAMILIES`] with wide heads."""
    config: dict[str, Any] = {**SIZES, "model_type": name.split()[0], **FAMILIES[name], **WIDE}
    if name == "llama":
        return config | {"rope_parameters": LLAMA3}
    if name == "minimax_m2":
        return config | {"rotary_dim": 32, "rope_parameters": PLAIN | {"partial_rotary_factor": 0.5}}
    return config | ({"num_key_value_heads": 4} if name == "olmoe" else {})
