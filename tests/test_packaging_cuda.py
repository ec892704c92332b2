"""The wheel of the compiled kernels: small, installed beside the default one, imported without a driver, and run by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if "MOEVOLVE_DIST_CUDA" not in os.environ:
    pytest.skip("needs fresh wheels: run `make packaging-cuda`", allow_module_level=True)

(WHEEL,) = Path(os.environ["MOEVOLVE_DIST_CUDA"]).glob("moevolve_cuda13-*.whl")
(DEFAULT,) = Path(os.environ["MOEVOLVE_DIST"]).glob("moevolve-*.whl")
MOST = 40_000_000
"""Bytes that the wheel may have."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds both wheels, and nothing of the tree."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, DEFAULT, WHEEL], check=True)
    return folder


def command(
    environment: Path, *arguments: str, driver: str | None = None
) -> subprocess.CompletedProcess[str]:
    """A command of the environment, with a folder that has a driver's library or without one."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "LD_"))}
    if driver is not None:
        clean["LD_LIBRARY_PATH"] = driver
    words: list[str | Path] = [environment / "bin" / arguments[0], *arguments[1:]]
    return subprocess.run(
        words, capture_output=True, text=True, cwd=environment.parent, env=clean, check=False
    )


def test_the_wheel_has_the_kernels_and_little_else() -> None:
    with zipfile.ZipFile(WHEEL) as archive:
        names = archive.namelist()
    assert {
        f"moevolve_cuda13/{name}.fatbin" for name in ("route", "product_bf16", "attention", "adamw")
    } <= set(names)
    assert "moevolve_cuda13/sources.txt" in names
    assert not [n for n in names if not n.endswith((".fatbin", ".py", ".txt")) and "dist-info" not in n]
    assert WHEEL.stat().st_size <= MOST
    assert WHEEL.name.endswith("py3-none-any.whl")


def test_it_is_imported_without_a_driver_and_doctor_says_what_is_missing(environment: Path) -> None:
    imported = command(
        environment, "python", "-c", "import moevolve, moevolve_cuda13; print(moevolve_cuda13.__file__)"
    )
    assert imported.returncode == 0, imported.stderr
    assert str(environment) in imported.stdout
    doctor = command(environment, "moevolve", "doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(doctor.stdout)["findings"]}
    assert findings["gpu"]["value"] == "none; not used: there is no NVIDIA driver (libcuda.so.1 is not found)"


def test_a_card_is_refused_with_a_sentence(environment: Path) -> None:
    done = command(environment, "moevolve", "generate", "12+30=", "--device", "cuda:0")
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        "device 'cuda:0' cannot be used here: there is no NVIDIA driver (libcuda.so.1 is not found); cpu and auto can"
        in done.stderr
    )


def test_by_a_driver_it_draws_what_the_processor_draws(environment: Path) -> None:
    words = ["moevolve", "generate", "12+30=", "--max-tokens", "6"]
    twin = os.environ["MOEVOLVE_TWIN"]
    here = command(environment, *words)
    there = command(environment, *words, "--device", "cuda:0", driver=twin)
    assert there.returncode == 0, there.stderr
    assert there.stdout == here.stdout
    doctor = command(environment, "moevolve", "doctor", "--json", driver=twin)
    findings = {finding["name"]: finding for finding in json.loads(doctor.stdout)["findings"]}
    assert findings["gpu"]["value"] == "Twin; device cuda:0 can be used, and auto takes it"
