"""Walls between rooms that the import contracts cannot see."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "python" / "moevolve" / "models"
CRATES = ("kernels", "checkpoint", "model", "generate", "py")
"""From the numbers up to the bindings: each may depend on those before it."""


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


def test_the_crates_of_the_engine_stand_in_one_row() -> None:
    """The network knows nothing of requests and samples, files nothing of networks; tests of a crate count as the crate."""
    direct = {}
    for file in (ROOT / "rust").glob("*/Cargo.toml"):
        manifest = tomllib.loads(file.read_text(encoding="utf-8"))
        named = manifest.get("dependencies", {}) | manifest.get("dev-dependencies", {})
        direct[file.parent.name] = {
            name.removeprefix("moevolve-") for name in named if name.startswith("moevolve-")
        }

    def reached(crate: str) -> set[str]:
        below = direct.get(crate, set())
        return below.union(*map(reached, below))

    for at, crate in enumerate(CRATES):
        assert reached(crate) & set(CRATES) <= set(CRATES[:at]), crate
    assert "model" in reached("generate")
    assert "generate" not in reached("model")


def test_a_file_above_400_lines_says_why_it_is_one() -> None:
    """A file is one idea: one that is long gives the reason in its head, so that the next hand knows whether to split it."""
    sources = [
        source
        for folder in ("python", "tui", "cuda", "benches", "tests", "rust")
        for kind in ("*.py", "*.rs", "*.cu", "*.cuh")
        for source in (ROOT / folder).rglob(kind)
        if "target" not in source.relative_to(ROOT).parts
    ]
    assert len(sources) > 500
    long = {
        source: text for source in sources if (text := source.read_text(encoding="utf-8")).count("\n") > 400
    }
    head = {source: "".join(text.splitlines(keepends=True)[:16]) for source, text in long.items()}
    assert [str(source.relative_to(ROOT)) for source in long if "above 400 lines:" not in head[source]] == []
