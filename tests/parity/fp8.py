"""Makes an FP8 checkpoint as MiniMax-M2 ships them out of a plain one: `python fp8.py PLAIN OUT`.

Matrices of attention and experts become F8_E4M3 with one f32 `weight_scale_inv` a block of 128 x 128; the router, the
embedding, the head and the norms stay bf16, the selection biases f32.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

BLOCK = 128
LARGEST = torch.finfo(torch.float8_e4m3fn).max
SPARED = ["gate", "e_score_correction_bias", "lm_head"]


def quantise(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(values in FP8, scales): a value times the scale of its block is the number that was meant."""
    out, inp = matrix.shape
    scales = torch.ones(-(-out // BLOCK), -(-inp // BLOCK))
    values = torch.empty_like(matrix, dtype=torch.float8_e4m3fn)
    for i, row in enumerate(scales):
        for j in range(len(row)):
            block = matrix[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK]
            row[j] = block.abs().max().clamp(min=1e-12) / LARGEST
            values[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK] = (block / row[j]).to(
                torch.float8_e4m3fn
            )
    return values, scales


def widen(values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """What `quantise` meant, as f32; the last blocks of a matrix may be torn by its end."""
    out, inp = values.shape
    each = scales.repeat_interleave(BLOCK, 0)[:out].repeat_interleave(BLOCK, 1)[:, :inp]
    return values.float() * each


def convert(plain: Path, out: Path) -> None:
    """Reads a folder that transformers saved, in one file or shards, and writes its FP8 twin."""
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(plain.glob("*.safetensors")):
        for name, value in load_file(file).items():
            if name.endswith("e_score_correction_bias"):
                tensors[name] = value.float()
            elif ".layers." in name and value.ndim == 2 and not name.endswith("gate.weight"):
                tensors[name], tensors[name + "_scale_inv"] = quantise(value.float())
            else:
                tensors[name] = value.bfloat16()
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((plain / "config.json").read_text())
    config["quantization_config"] = {
        "activation_scheme": "dynamic",
        "fmt": "float8_e4m3fn",
        "modules_to_not_convert": SPARED,
        "quant_method": "fp8",
        "weight_block_size": [BLOCK, BLOCK],
    }
    config["dtype"] = "bfloat16"
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
