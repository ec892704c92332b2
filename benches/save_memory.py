"""Memory that saving a model takes beyond the model itself: `python benches/save_memory.py [--require]`.

A random Llama of SmolLM2-135M's sizes is made and saved in a child process for each format; the figure is the child's
peak resident memory of its own during the save less that before: pages of the file that is read back are the system's,
which drops them when it needs to. `--require` exits 1 above `LIMIT`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

CONFIG = {
    "model_type": "llama",
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "intermediate_size": 1536,
    "vocab_size": 49_152,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}
SAFETENSORS = ("f32", "bf16", "f16")
GGUF = ("f32", "f16", "q8_0", "q4_k")
MIB = 1 << 20
LIMIT = 64


def resident(field: str) -> int:
    """Bytes that the kernel counts for this process now: all in VmRSS, without pages of files in RssAnon."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}")


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes of the process's own that were resident while `work` ran, looked at every five milliseconds."""
    done, most = threading.Event(), [resident("RssAnon")]

    def look() -> None:
        while not done.wait(0.005):
            most[0] = max(most[0], resident("RssAnon"))

    watcher = threading.Thread(target=look)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return max(most[0], resident("RssAnon"))


def child(path: str, dtype: str) -> None:
    """Makes the model, saves it, prints bytes in memory before the save, at its peak, and of the files."""
    from moevolve.models.engine import Engine

    engine = Engine.create(json.dumps(CONFIG), threads=1)
    before = resident("RssAnon")
    peak = peak_of(lambda: engine.save(path, dtype=dtype))
    target = Path(path)
    files = [target] if target.is_file() else list(target.iterdir())
    print(json.dumps([before, peak, sum(file.stat().st_size for file in files)]))


def measure(kind: str, dtype: str) -> float:
    """MiB that saving in a format takes; prints a line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("model.gguf" if kind == "gguf" else "model")
        command = [sys.executable, __file__, "--child", str(path), dtype]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    before, peak, size = map(int, json.loads(out))
    taken = (peak - before) / MIB
    print(f"{kind:12} {dtype:6} {size / MIB:8.0f} {before / MIB:12.0f} {taken:8.1f}", flush=True)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description="memory that saving a model of 135M parameters takes")
    parser.add_argument("--require", action="store_true", help=f"exit 1 above {LIMIT} MiB")
    parser.add_argument("--child", nargs=2, metavar=("PATH", "DTYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    print(f"{'format':12} {'dtype':6} {'file MiB':>8} {'model MiB':>12} {'save MiB':>8}")
    taken = [measure("safetensors", dtype) for dtype in SAFETENSORS]
    taken += [measure("gguf", dtype) for dtype in GGUF]
    worst = max(taken)
    print(f"most: {worst:.1f} MiB beyond the model; at most {LIMIT} are meant")
    if options.require and worst > LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
