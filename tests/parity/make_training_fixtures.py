"""Writes tests/fixtures/training: what torch and PEFT compute in training the golden models.

`make fixtures` runs it after make_fixtures.py, whose checkpoints it reads. One folder a model: `expected.json`,
`expected.safetensors`, and for an adapted one `adapter/` as PEFT saves it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from safetensors.torch import save_file

import losses
import reference as ref

FIXTURES = Path(__file__).parents[1] / "fixtures"
OPTIMIZER = {"lr": 3e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.01}
CLIP = 1.0
STEPS = 3
SEED = 31


def adapter_of(model: transformers.PreTrainedModel) -> peft.PeftModel:
    """The model with a LoRA adapter that changes what it says."""
    torch.manual_seed(SEED)
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5.0,
        target_modules=["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"],
        task_type="CAUSAL_LM",
    )
    adapted = peft.get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return adapted


def named(model: torch.nn.Module, adapted: bool, gradients: bool = False) -> dict[str, torch.Tensor]:
    """Trained tensors, or their gradients, by the names that files have."""
    if not adapted:
        return ref.released(model, gradients=gradients)
    return {
        name.replace(".default.", "."): (p.grad if gradients else p.data).detach().clone().contiguous()
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def steps(make: Any, loss: Any) -> list[dict[str, float]]:
    """A few AdamW steps with clipping on a fresh model: loss and gradient norm before each."""
    model = make()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, **OPTIMIZER)
    told = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss(model)
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        told.append({"loss": value.item(), "gradient_norm": norm.item()})
    return told


def make(name: str, adapted: bool) -> None:
    folder = FIXTURES / "training" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    checkpoint = FIXTURES / "model" / name / "checkpoint"
    golden = json.loads((FIXTURES / "model" / name / "expected.json").read_text())
    batch = [tuple(example) for example in golden["batch"]]

    def fresh() -> torch.nn.Module:
        model = ref.load(checkpoint)
        return adapter_of(model) if adapted else model

    model = fresh()
    arrays: dict[str, torch.Tensor] = {}
    if adapted:
        model.save_pretrained(folder / "adapter")
        (folder / "adapter" / "README.md").unlink(missing_ok=True)
        config = folder / "adapter" / "adapter_config.json"
        told = json.loads(config.read_text()) | {"base_model_name_or_path": name}
        config.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")
        for index, row in enumerate(ref.logits(model, golden["ids"])):
            arrays[f"logits.{index}"] = row
        ref.masked_loss(model, batch).backward()
        arrays |= {f"sft.{k}": v for k, v in named(model, adapted, gradients=True).items()}
    rollouts = losses.draw_rollouts(model, batch, SEED)
    expected: dict[str, Any] = {
        "made_by": "tests/parity/make_training_fixtures.py",
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "optimizer": OPTIMIZER | {"clip": CLIP},
        "batch": batch,
        "rollouts": rollouts,
        "losses": {},
    }
    if adapted:
        expected["sft"] = steps(fresh, lambda model: ref.masked_loss(model, batch))
    for loss, settings in losses.LOSSES.items():
        model.zero_grad()
        losses.loss_of(model, rollouts, loss).backward()
        if adapted or loss == "cispo":
            gradients = named(model, adapted, gradients=True)
            arrays |= {f"{loss}.{k}": v for k, v in gradients.items()}
        told = steps(fresh, lambda model, loss=loss: losses.loss_of(model, rollouts, loss))
        expected["losses"][loss] = {"settings": settings, "steps": told}
    save_file(arrays, folder / "expected.safetensors")
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"training/{name}: {size / 1e3:.0f} kB")


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    make("plain", adapted=False)
    make("llama", adapted=True)
    for file in (FIXTURES / "training").rglob("*.safetensors"):
        file.chmod(0o644)
