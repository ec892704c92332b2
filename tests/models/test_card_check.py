"""The check of a card, by kernels on the processor: it finds what is there, says what is not, and writes its table."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "c++")) is None, reason="needs a C++ compiler"
)


def run(folder: Path, twin: Path | None, *options: str) -> subprocess.CompletedProcess[str]:
    """The check in a folder, with the kernels' wheel and a driver's library, or without them."""
    paths = [str(ROOT / "python")]
    environment = {**os.environ}
    if twin is not None:
        package = folder / "site" / "moevolve_cuda13"
        shutil.copytree(ROOT / "cuda" / "moevolve_cuda13", package)
        for name in ("twin.fatbin", "sources.txt"):
            shutil.copy(twin / name, package)
        paths.append(str(package.parent))
        environment["LD_LIBRARY_PATH"] = str(twin)
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    words = [sys.executable, str(ROOT / "benches" / "gpu" / "check.py"), "--small", *options]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.long
def test_families_adapters_and_large_models_are_looked_at(twin: Path, tmp_path: Path) -> None:
    done = run(tmp_path, twin, "--only", "kernels,families,lora,large")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "check.json").read_text())["rows"]
    families = [row for row in rows if row["check"] == "family"]
    assert [row["family"] for row in families] == [
        "minimax_m2",
        "qwen3_moe",
        "olmoe",
        "mixtral",
        "llama",
        "qwen3",
    ]
    assert all(row["right"] and row["same_texts"] and row["same_alone"] for row in families)
    assert next(row for row in rows if row["check"].startswith("LoRA"))["right"]
    assert sum(row.get("tokens_a_second", 0) > 0 for row in rows) == 2
    # What has no figure says why.
    unmeasured = {row["check"] for row in rows if "not_measured" in row}
    assert {"gpu_check", "M2.7-shaped decode at 4.25 bits"} <= unmeasured


def test_a_machine_without_a_card_fails_with_the_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, None, "--only", "families")
    assert done.returncode == 1
    (row,) = [
        row for row in json.loads((tmp_path / "check.json").read_text())["rows"] if row.get("right") is False
    ]
    assert "device 'cuda:0' cannot be used here: there is no NVIDIA driver" in row["error"]
