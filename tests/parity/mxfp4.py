"""Makes an MXFP4 checkpoint as gpt-oss ships them out of a plain one: `python mxfp4.py PLAIN OUT`.

The experts' matrices become blocks of 32 numbers of four bits, two in a byte, with a power of two for each block;
everything else is bf16.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

BLOCK = 32
VALUES = torch.tensor(
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]
)
SPARED = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]


def quantise(stack: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(blocks, scales) of matrices (experts, inputs, outputs)."""
    rows = stack.transpose(1, 2).contiguous()
    blocks = rows.reshape(*rows.shape[:2], -1, BLOCK)
    largest = blocks.abs().amax(-1).clamp(min=2.0**-100)
    power = torch.floor(torch.log2(largest)) - 2
    scaled = blocks / torch.exp2(power)[..., None]
    # Of equally near numbers the first; a negative zero is never one.
    nearest = (scaled[..., None] - VALUES).abs().argmin(-1).to(torch.uint8)
    return nearest[..., 0::2] | nearest[..., 1::2] << 4, (power + 127).to(torch.uint8)


def convert(plain: Path, out: Path) -> None:
    """Reads a folder that transformers saved and writes its MXFP4 twin."""
    tensors: dict[str, torch.Tensor] = {}
    for name, value in load_file(plain / "model.safetensors").items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            tensors[f"{name}_blocks"], tensors[f"{name}_scales"] = quantise(value.float())
        else:
            tensors[name] = value.bfloat16()
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((plain / "config.json").read_text())
    config["quantization_config"] = {"modules_to_not_convert": SPARED, "quant_method": "mxfp4"}
    config["dtype"] = "bfloat16"
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
