"""One command for a machine with a card: is the card right, and how fast is it beside torch? ``python check.py``.

`make gpu-check` puts this file, the program ``gpu_check`` and the compiled kernels into ``dist/gpu``. That folder is all a
bare machine needs beside Python and a driver; torch is used where it is installed, compute-sanitizer where it is found.
Prints one table and writes it, with date and device, to ``check.json`` in the current folder.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HIDDEN, INNER, EXPERTS, CHOSEN = 2048, 768, 128, 8
TOKENS = (256, 4096, 16_384, 32_768)
LIMIT = 420
"""Seconds that our program may take."""


def own(*before: str, correct: bool = False) -> tuple[list[dict[str, Any]], int]:
    """Our program's rows, and its exit status."""
    words = [*before, str(HERE / "gpu_check"), "--kernels", str(HERE), *(["--correct"] if correct else [])]
    run = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False)
    sys.stderr.write(run.stderr)
    rows = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    return rows, run.returncode


def torch_rows() -> list[dict[str, Any]]:
    """torch's grouped_mm on the same shapes: the block's forward pass without routing, eager."""
    if importlib.util.find_spec("torch") is None:
        return []
    torch: Any = importlib.import_module("torch")
    grouped = getattr(torch.nn.functional, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)
    if grouped is None or not torch.cuda.is_available():
        return []
    half = {"device": "cuda", "dtype": torch.bfloat16}
    up = torch.randn(EXPERTS, HIDDEN, 2 * INNER, **half) / 64
    down = torch.randn(EXPERTS, INNER, HIDDEN, **half) / 64
    rows = []
    for tokens in TOKENS:
        h = torch.randn(tokens, HIDDEN, **half)
        chosen = torch.rand(tokens, EXPERTS, device="cuda").topk(CHOSEN).indices.flatten()
        order = chosen.argsort()
        ends = torch.bincount(chosen, minlength=EXPERTS).cumsum(0).to(torch.int32)
        source = order // CHOSEN

        def block(h: Any = h, source: Any = source, ends: Any = ends) -> Any:
            gate, rise = grouped(h[source], up, offs=ends).chunk(2, dim=-1)
            out = grouped(torch.nn.functional.silu(gate) * rise, down, offs=ends)
            return torch.zeros_like(h).index_add_(0, source, out)

        times = []
        for _ in range(8):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            block()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        seconds = sorted(times[3:])[2]
        operations = 2 * tokens * CHOSEN * 3 * HIDDEN * INNER
        rows.append(
            {"check": "torch grouped_mm", "tokens": tokens, "forward_teraflops": operations / seconds / 1e12}
        )
    return rows


def main() -> int:
    """The command's exit status: 0 only if the card is right."""
    rows, status = own()
    rows += torch_rows()
    if sanitizer := shutil.which("compute-sanitizer"):
        _, reports = own(sanitizer, "--error-exitcode", "9", correct=True)
        rows.append({"check": "compute-sanitizer", "right": reports != 9})
        status = status or int(reports == 9)
    device = (
        subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        if shutil.which("nvidia-smi")
        else "no nvidia-smi"
    )
    for row in rows:
        name = " ".join(str(row[key]) for key in ("check", "family", "tokens") if key in row)
        rest = {key: value for key, value in row.items() if key not in ("check", "family", "tokens")}
        figures = "  ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in rest.items()
        )
        print(f"{name:<32} {figures}")
    table = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "device": device, "rows": rows}
    Path("check.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
