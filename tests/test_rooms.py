"""Walls between rooms that the import contracts cannot see."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "python" / "moevolve" / "models"


def test_the_native_engine_stays_in_the_models_room() -> None:
    """Whoever computes with a model does so through `Engine` and its typed requests, examples and rollouts."""
    sources = [
        *(ROOT / "python").rglob("*.py"),
        *(ROOT / "tui" / "moevolve_tui").rglob("*.py"),
        *(ROOT / "benches").glob("*.py"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "README.md",
    ]
    native = re.compile(r"\.native\b|_native\.(Engine|Scheduler)\b|import _native.*\bEngine\b")
    found = [
        f"{source.relative_to(ROOT)}:{number}: {line.strip()}"
        for source in sources
        if MODELS not in source.parents
        for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1)
        if native.search(line)
    ]
    assert found == []
