"""The picture of the rooms in README is the import contract."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def layers() -> list[str]:
    """The contract's layers from the top, room names alone."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = [c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    return [layer.replace("moevolve.", "") for layer in contract["layers"]]


def test_readme_draws_the_rooms_in_the_contracts_order() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    drawn = re.search(r"## Where things are\n\n```text\n(.*?)```", readme, re.S)
    assert drawn is not None and drawn[1].splitlines() == layers()


def test_every_room_is_in_the_contract() -> None:
    rooms = {
        path.stem
        for path in (ROOT / "python/moevolve").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file()) and not path.name.startswith("_")
    }
    assert rooms - {"presets"} == {room for layer in layers() for room in layer.split(" | ")}
