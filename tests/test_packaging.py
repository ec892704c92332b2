"""The wheels: what lies in them, and that they work in an empty environment outside the tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if "MOEVOLVE_DIST" not in os.environ:
    pytest.skip("needs fresh wheels: run `make packaging`", allow_module_level=True)

DIST = Path(os.environ["MOEVOLVE_DIST"])


def wheel(name: str) -> Path:
    (found,) = DIST.glob(f"{name}-*.whl")
    return found


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds both wheels, and nothing of the tree."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    wheels = [str(wheel("moevolve")), str(wheel("moevolve_tui"))]
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", *wheels], check=True)
    return folder


def command(environment: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    program = [environment / "bin" / str(arguments[0]), *arguments[1:]]
    return subprocess.run(
        program, capture_output=True, text=True, cwd=environment.parent, env=clean, check=False
    )


def test_the_wheel_holds_the_package_and_little_else():
    with zipfile.ZipFile(wheel("moevolve")) as archive:
        names = archive.namelist()
        seed = [i.file_size for i in archive.infolist() if i.filename.startswith("moevolve/models/seed/")]
    for needed in (
        "moevolve/_native.pyi",
        "moevolve/py.typed",
        "moevolve/models/seed/config.json",
        "moevolve/models/seed/model.safetensors",
        "moevolve/models/seed/tokenizer.json",
    ):
        assert needed in names
    assert any(n.startswith("moevolve/_native") and n.endswith(".so") for n in names)
    assert any(n.startswith("moevolve/presets/") and n.endswith(".toml") for n in names)
    assert any("LICENSE" in n for n in names)
    assert not [n for n in names if n.startswith(("tests", "rust", "target")) or "__pycache__" in n]
    assert 0 < sum(seed) <= 8_000_000
    assert "cp311-abi3" in wheel("moevolve").name


def test_the_tui_wheel_is_pure_and_styled():
    with zipfile.ZipFile(wheel("moevolve_tui")) as archive:
        names = archive.namelist()
    assert "moevolve_tui/screens.tcss" in names
    assert wheel("moevolve_tui").name.endswith("py3-none-any.whl")


def test_the_command_runs_there(environment: Path):
    out = environment.parent / "run"
    run = command(environment, "moevolve", "run", "quickstart", "--seed", "3", "--cycles", "1", "--out", out)
    assert run.returncode == 0, run.stderr
    shown = command(environment, "moevolve", "show", out, "--json")
    assert shown.returncode == 0, shown.stderr
    figures = json.loads(shown.stdout)
    assert figures["status"] == "finished"
    assert figures["score"]["n"] > 0


def test_doctor_and_watch_are_there(environment: Path):
    doctor = command(environment, "moevolve", "doctor")
    assert doctor.returncode == 0, doctor.stderr
    imported = command(environment, "python", "-c", "import moevolve_tui, moevolve; print(moevolve.__file__)")
    assert imported.returncode == 0, imported.stderr
    assert str(environment) in imported.stdout
