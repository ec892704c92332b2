"""One command for a machine with a card: is the engine right on it, and how fast is it beside torch? ``python check.py``.

`make gpu-check` puts this file, the program ``gpu_check``, the compiled kernels and the wheels with what they need into
``dist/gpu``: copy the folder there. A driver and Python 3.12 are all that the machine needs, and no network; torch is used
where it is installed, compute-sanitizer where it is found. Prints a table and writes it, with date, device and command, to
``check.json`` in the current folder after every part. What has no figure says why.
One file above 400 lines: it travels to the other machine alone.

    python check.py             everything, in at most eight minutes
    python check.py --small     sizes that kernels on the processor compute, too: the order of things, no figures
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent
Row = dict[str, Any]

HIDDEN, INNER, EXPERTS, CHOSEN = 2048, 768, 128, 8
TOKENS = (256, 4096, 16_384, 32_768)
LIMIT = 8 * 60
"""Seconds that all of it may take."""

TARGETS = {
    ("experts", 32_768, "forward_teraflops"): 500,
    ("experts", 4096, "forward_teraflops"): 400,
    ("experts", 32_768, "both_teraflops"): 413,
}
"""What a figure should reach."""
CEILINGS = {("few", 1, "microseconds"): 22, ("experts", 16_384, "routing_microseconds"): 60}
"""What a figure should not pass."""
NOT_BUILT = {
    "M2.7-shaped decode at 4.25 bits": "engines on a card read f32 and bf16; the products of experts alone read Q4_K",
    "Liger": "no block of experts of it was compared yet",
}

SIZES: Row = {
    "vocab_size": 203,
    "hidden_size": 48,
    "intermediate_size": 40,
    "moe_intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_local_experts": 7,
    "num_experts": 7,
    "num_experts_per_tok": 3,
    "max_position_embeddings": 256,
    "eos_token_id": 202,
    "initializer_range": 0.2,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
FAMILIES: dict[str, Row] = {
    "minimax_m2": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    },
    "qwen3_moe": {"norm_topk_prob": True},
    "olmoe": {},
    "mixtral": {},
    "llama": {"tie_word_embeddings": True, "attention_bias": True},
    "qwen3": {},
}
QWEN3_30B: Row = {
    "model_type": "qwen3_moe",
    "vocab_size": 151_936,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "max_position_embeddings": 40_960,
    "eos_token_id": 151_645,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
}
SMOLLM2: Row = {
    "model_type": "llama",
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 2048,
    "eos_token_id": 0,
    "initializer_range": 0.04,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
}


class Check:
    """What is looked at, and until when.

    Args:
        device: where the engine computes.
        small: sizes for kernels on the processor.
    """

    def __init__(self, device: str, small: bool) -> None:
        self.device = device
        self.small = small
        self.end = time.monotonic() + LIMIT

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    # --- kernels, by the program beside this file

    def program(self, *before: str, correct: bool = False) -> tuple[list[Row], int]:
        """Rows of our program, and its exit status."""
        path = HERE / "gpu_check"
        if not path.is_file():
            return [{"check": "gpu_check", "not_measured": f"{path} is not there"}], 0
        words = [
            *before,
            str(path),
            "--kernels",
            str(HERE),
            *(["--correct"] if correct or self.small else []),
        ]
        run = subprocess.run(words, capture_output=True, text=True, timeout=max(self.left, 30), check=False)
        sys.stderr.write(run.stderr)
        rows = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        if run.returncode and all(row.get("right", True) for row in rows):
            rows.append({"check": "gpu_check", "right": False, "exit": run.returncode})
        return rows, run.returncode

    def kernels(self) -> Iterator[Row]:
        """Blocks of experts beside the CPU's kernels, and how fast they are."""
        yield from self.program()[0]

    def sanitizer(self) -> Iterator[Row]:
        """The small shapes under compute-sanitizer."""
        found = shutil.which("compute-sanitizer")
        if found is None:
            yield {"check": "compute-sanitizer", "not_measured": "it is not installed"}
            return
        _, status = self.program(found, "--error-exitcode", "9", correct=True)
        yield {"check": "compute-sanitizer", "right": status != 9}

    # --- the engine

    def family(self, name: str) -> Row:
        """Logits, gradients and texts of one family beside the processor's."""
        from moevolve.models.engine import Engine
        from moevolve.protocol.sampling import Sampling
        from moevolve.protocol.training import Example

        config = json.dumps({**SIZES, **FAMILIES[name], "model_type": name})
        here, there = (Engine.create(config, seed=3) for _ in range(2))
        there.to(self.device)
        ids = [(7 * i * i + 3 * i) % 201 for i in range(33)]
        expected, logits = (engine.native.logits([ids, ids[:5]]) for engine in (here, there))
        examples = [Example(tokens=ids, start=9), Example(tokens=ids[4:20], start=3)]
        slopes, found = (engine.gradients(examples)[1] for engine in (here, there))
        gradients = max(apart(found[tensor], slopes[tensor]) for tensor in slopes)
        prompts = [ids[: 3 + i % 23] for i in range(2 if self.small else 64)]
        sampling = Sampling(max_tokens=6 if self.small else 64, temperature=0.0, ignore_eos=True)
        ours = [one.tokens for one in here.generate(prompts, sampling=sampling)]
        theirs = [one.tokens for one in there.generate(prompts, sampling=sampling)]
        alone = [there.generate([prompt], sampling=sampling)[0].tokens for prompt in prompts[-2:]]
        row: Row = {
            "check": "family",
            "family": name,
            "logits": apart(logits, expected),
            "gradients": gradients,
            "same_texts": ours == theirs,
            "same_alone": alone == theirs[-2:],
        }
        row["right"] = (
            row["logits"] < 1e-4 and row["gradients"] < 1e-3 and row["same_texts"] and row["same_alone"]
        )
        return row

    def families(self) -> Iterator[Row]:
        """Every family, random weights."""
        for name in FAMILIES:
            yield self.family(name)

    def lora(self) -> Iterator[Row]:
        """A step of an adapter on a network of SmolLM2's shape, beside the processor's."""
        from moevolve.models.engine import Engine
        from moevolve.protocol.training import Example

        config = {**SIZES, "model_type": "llama"} if self.small else SMOLLM2
        engines = [Engine.create(json.dumps(config), seed=5) for _ in range(2)]
        engines[1].to(self.device)
        vocabulary = config["vocab_size"] - 1
        batch = [
            Example(
                tokens=[(i * i * 11 + 5 * i + key) % vocabulary for i in range(16 if self.small else 128)],
                start=8,
            )
            for key in range(2)
        ]
        losses: list[list[float]] = []
        seconds: list[float] = []
        for engine in engines:
            engine.adapt(8, 16.0, seed=1)
            start = time.monotonic()
            losses.append([engine.train(batch, 1e-3).loss for _ in range(3)])
            seconds.append((time.monotonic() - start) / 3)
        far = max(abs(a - b) / abs(a) for a, b in zip(*losses, strict=True))
        yield {
            "check": "LoRA step, SmolLM2's shape",
            "losses_apart": far,
            "seconds_cpu": seconds[0],
            "seconds": seconds[1],
            "right": far < 1e-3,
        }

    def rate(self, engine: Any, streams: int, length: int) -> float:
        """Tokens a second that an engine draws in so many streams."""
        from moevolve.protocol.sampling import Sampling

        prompts = [[1 + i, 2, 3, 4] for i in range(streams)]

        def drawn(tokens: int) -> float:
            start = time.monotonic()
            engine.generate(prompts, sampling=Sampling(max_tokens=tokens, temperature=0.0, ignore_eos=True))
            return time.monotonic() - start

        drawn(2)
        return streams * length / drawn(length)

    def large(self) -> Iterator[Row]:
        """Tokens a second of a network of Qwen3-30B-A3B's shape in bf16, whose weights are zeros: a file of holes."""
        from moevolve.models.engine import Engine

        config = {**SIZES, **FAMILIES["qwen3_moe"], "model_type": "qwen3_moe"} if self.small else QWEN3_30B
        name = "decode, Qwen3-30B-A3B's shape, bf16"
        with TemporaryDirectory(dir=Path.cwd()) as folder:
            zeros(Path(folder), config)
            start = time.monotonic()
            engine = Engine.load(folder, device=self.device, precision="bf16", weights="stored")
            loaded = time.monotonic() - start
            for streams in (1, 2 if self.small else 64):
                rate = self.rate(engine, streams, 3 if self.small else 64)
                yield {"check": name, "streams": streams, "tokens_a_second": rate, "seconds_to_load": loaded}

    def decode(self) -> Iterator[Row]:
        """Tokens a second of one stream and of sixty-four, of a network of SmolLM2's shape."""
        from moevolve.models.engine import Engine

        engine = Engine.create(
            json.dumps({**SIZES, "model_type": "llama"} if self.small else SMOLLM2), seed=5
        )
        engine.to(self.device)
        for precision in ("f32", "bf16"):
            engine.precision = precision
            for streams in (1, 2 if self.small else 64):
                rate = self.rate(engine, streams, 3 if self.small else 128)
                name = f"decode, SmolLM2's shape, {precision}"
                yield {"check": name, "streams": streams, "tokens_a_second": rate}

    def loop(self) -> Iterator[Row]:
        """The quickstart on the card: it must end with a gain, as on the processor."""
        preset = "small" if self.small else "quickstart"
        if self.left < 150 and not self.small:
            yield {"check": "run quickstart", "not_measured": f"{self.left:.0f} seconds were left"}
            return
        out = Path("check-run").resolve()
        shutil.rmtree(out, ignore_errors=True)
        words = [sys.executable, "-m", "moevolve.cli.main"]
        options = ["--set", f"policy.device={self.device}", "--out", str(out)]
        if self.small:
            options += ["--cycles", "1"]
        run = subprocess.run(
            [*words, "run", preset, *options],
            capture_output=True,
            text=True,
            timeout=max(self.left - 20, 60),
            check=False,
        )
        row: Row = {"check": f"run {preset}", "exit": run.returncode, "right": run.returncode == 0}
        if run.returncode:
            row["said"] = run.stderr.strip()[-300:]
        else:
            shown = subprocess.run(
                [*words, "show", str(out), "--json"], capture_output=True, text=True, check=False
            )
            figures = json.loads(shown.stdout)
            row["sealed"] = figures.get("sealed") or figures.get("score")
        yield row

    # --- beside others

    def peers(self) -> Iterator[Row]:
        """torch's grouped_mm on the same shapes, without routing, eager."""
        yield from torch_rows(self.small)


def apart(found: Any, expected: Any) -> float:
    """The largest difference of two tensors, against the largest number; what is no number is far from everything."""
    a, b = (memoryview(tensor).cast("B").cast("f") for tensor in (found, expected))
    scale = max((abs(x) for x in b if x == x), default=0.0) or 1.0
    far = 0.0
    for x, y in zip(a, b, strict=True):
        if x != x and y != y:
            continue
        difference = abs(x - y) / scale
        far = far if difference <= far else difference
    return far


def zeros(folder: Path, config: Row) -> None:
    """Writes a checkpoint of the qwen3_moe family whose weights are zeros in bf16, which take no room on disk."""
    hidden, inner, head = config["hidden_size"], config["moe_intermediate_size"], config["head_dim"]
    queries, keys = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    shapes: dict[str, list[int]] = {"model.embed_tokens.weight": [config["vocab_size"], hidden]}
    for layer in range(config["num_hidden_layers"]):
        stem = f"model.layers.{layer}."
        for name, shape in (
            ("input_layernorm", [hidden]),
            ("self_attn.q_proj", [queries, hidden]),
            ("self_attn.k_proj", [keys, hidden]),
            ("self_attn.v_proj", [keys, hidden]),
            ("self_attn.o_proj", [hidden, queries]),
            ("self_attn.q_norm", [head]),
            ("self_attn.k_norm", [head]),
            ("post_attention_layernorm", [hidden]),
            ("mlp.gate", [config["num_experts"], hidden]),
        ):
            shapes[f"{stem}{name}.weight"] = shape
        for expert in range(config["num_experts"]):
            for name, shape in (
                ("gate_proj", [inner, hidden]),
                ("up_proj", [inner, hidden]),
                ("down_proj", [hidden, inner]),
            ):
                shapes[f"{stem}mlp.experts.{expert}.{name}.weight"] = shape
    shapes["model.norm.weight"] = [hidden]
    shapes["lm_head.weight"] = [config["vocab_size"], hidden]
    tensors, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        tensors[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(tensors).encode()
    header += b" " * (-len(header) % 8)
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)


def torch_rows(small: bool) -> Iterator[Row]:
    """Forward, and forward with backward, of a block of experts by torch."""
    missing = {"check": "torch grouped_mm", "not_measured": "torch with a card is not there"}
    if importlib.util.find_spec("torch") is None:
        yield missing
        return
    torch: Any = importlib.import_module("torch")
    grouped = getattr(torch.nn.functional, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)
    if grouped is None or not torch.cuda.is_available():
        yield missing
        return
    half = {"device": "cuda", "dtype": torch.bfloat16}
    up = (torch.randn(EXPERTS, HIDDEN, 2 * INNER, **half) / 64).requires_grad_()
    down = (torch.randn(EXPERTS, INNER, HIDDEN, **half) / 64).requires_grad_()
    for tokens in TOKENS[: 1 if small else None]:
        h = torch.randn(tokens, HIDDEN, **half).requires_grad_()
        chosen = torch.rand(tokens, EXPERTS, device="cuda").topk(CHOSEN).indices.flatten()
        order = chosen.argsort()
        ends = torch.bincount(chosen, minlength=EXPERTS).cumsum(0).to(torch.int32)
        source = order // CHOSEN

        def block(h: Any = h, source: Any = source, ends: Any = ends) -> Any:
            gate, rise = grouped(h[source], up, offs=ends).chunk(2, dim=-1)
            out = grouped(torch.nn.functional.silu(gate) * rise, down, offs=ends)
            return torch.zeros_like(h).index_add_(0, source, out)

        def forward(block: Callable[[], Any] = block) -> None:
            with torch.no_grad():
                block()

        def both(block: Callable[[], Any] = block) -> None:
            out = block()
            out.backward(torch.ones_like(out))

        operations = 2 * tokens * CHOSEN * 3 * HIDDEN * INNER
        rates = {}
        for name, work, factor in (("forward_teraflops", forward, 1), ("both_teraflops", both, 3)):
            times = []
            for _ in range(8):
                start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                start.record()
                work()
                end.record()
                torch.cuda.synchronize()
                times.append(start.elapsed_time(end) / 1e3)
            rates[name] = factor * operations / sorted(times[3:])[2] / 1e12
        yield {"check": "torch grouped_mm", "tokens": tokens, **rates}


def judged(row: Row) -> Row:
    """A row with the targets of its figures, and whether they are met."""
    targets = dict(row)
    for bounds, met in ((TARGETS, lambda x, y: x >= y), (CEILINGS, lambda x, y: x <= y)):
        for (check, tokens, figure), bound in bounds.items():
            if (row.get("check"), row.get("tokens")) == (check, tokens) and figure in row:
                targets[f"{figure}_target"] = bound
                targets[f"{figure}_met"] = met(row[figure], bound)
    return targets


def line(row: Row) -> str:
    """A row for people."""
    name = " ".join(str(row[key]) for key in ("check", "family", "tokens", "streams") if key in row)
    rest = {k: v for k, v in row.items() if k not in ("check", "family", "tokens", "streams")}
    figures = "  ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in rest.items()
    )
    return f"{name:<36} {figures}"


def named_device() -> str:
    """The card and its driver, as nvidia-smi says."""
    if shutil.which("nvidia-smi") is None:
        return "no nvidia-smi"
    words = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def installed() -> None:
    """Makes the package importable: from the wheels beside this file, where nothing else has it."""
    site = HERE / "site"
    if importlib.util.find_spec("moevolve") is None and (HERE / "wheels").is_dir():
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-index",
            "--find-links",
            str(HERE / "wheels"),
        ]
        subprocess.run([*pip, "--target", str(site), "moevolve[cuda]"], check=True)
        sys.path.insert(0, str(site))
        os.environ["PYTHONPATH"] = f"{site}:{os.environ.get('PYTHONPATH', '')}"
        importlib.invalidate_caches()


def main() -> int:
    """The command's exit status: 0 only if everything that was looked at is right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument(
        "--small", action="store_true", help="sizes that kernels on the processor compute, too"
    )
    parser.add_argument("--only", help="parts by name, between commas")
    options = parser.parse_args()
    installed()
    check = Check(options.device, options.small)
    parts = [
        check.kernels,
        check.families,
        check.lora,
        check.decode,
        check.large,
        check.peers,
        check.sanitizer,
        check.loop,
    ]
    chosen = options.only.split(",") if options.only else [part.__name__ for part in parts]
    if unknown := [name for name in chosen if name not in {part.__name__ for part in parts}]:
        parser.error(f"there is no part {unknown[0]}: {', '.join(part.__name__ for part in parts)}")
    rows: list[Row] = []
    table = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": named_device(),
        "command": " ".join(sys.argv),
        "rows": rows,
    }
    for part in parts:
        if part.__name__ not in chosen:
            continue
        try:
            for row in part():
                rows.append(judged(row))
                print(line(rows[-1]), flush=True)
        except Exception as error:  # noqa: BLE001 - one part that fails must not cost the others their figures
            rows.append({"check": part.__name__, "right": False, "error": f"{type(error).__name__}: {error}"})
            print(line(rows[-1]), flush=True)
        Path("check.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    for what, why in NOT_BUILT.items():
        rows.append({"check": what, "not_measured": why})
        print(line(rows[-1]))
    Path("check.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row.get("right", True) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
