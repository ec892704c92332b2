"""Devices by name: what computes here, and the sentence that says what a card lacks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from moevolve.config import Config
from moevolve.errors import ConfigError, UsageError
from moevolve.loop import resolve
from moevolve.models import device
from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.device import Cards, cards, missing, settled_device
from moevolve.models.engine import Engine

ALONE = "the kernels for cards are not installed (pip install 'moevolve[cuda]')"

NO_DRIVER = Cards()
OLD = Cards(driver=12040, names=("A card",), capabilities=((9, 0),))
DEAD = Cards(driver=13000, failure=100)
TURING = Cards(driver=13000, names=("An old card",), capabilities=((7, 5),))
HOPPER = Cards(driver=13000, names=("A new card",), capabilities=((9, 0),))


@pytest.mark.parametrize(
    ("there", "index", "sentence"),
    [
        (NO_DRIVER, 0, "there is no NVIDIA driver (libcuda.so.1 is not found)"),
        (OLD, 0, "the NVIDIA driver supports CUDA 12.4, and 13.0 is needed"),
        (DEAD, 0, "the NVIDIA driver does not start (error 100)"),
        (TURING, 0, "An old card does not multiply bf16: compute capability 8.0 is needed"),
        (HOPPER, 3, "there is no card 3: the driver has 1"),
    ],
)
def test_what_a_machine_lacks_is_said_first(there: Cards, index: int, sentence: str) -> None:
    assert missing(index, there) == [sentence, ALONE]


def test_a_card_that_could_be_used_lacks_the_kernels_alone() -> None:
    assert missing(0, HOPPER) == [ALONE]


def test_nothing_is_missing_where_card_and_kernels_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(device, "kernels", lambda: tmp_path)
    monkeypatch.setattr(device, "cards", lambda: HOPPER)
    assert missing() == []
    assert settled_device("cuda") == settled_device("auto") == "cuda:0"
    assert missing(1) == ["there is no card 1: the driver has 1"]


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_a_card_is_refused_with_what_is_missing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(device, "cards", lambda: NO_DRIVER)
    with pytest.raises(UsageError) as refused:
        Engine.load(seed_checkpoint(), device=name)
    assert str(refused.value) == (
        f"device '{name}' cannot be used here: there is no NVIDIA driver (libcuda.so.1 is not found), and {ALONE}; "
        "cpu and auto can"
    )


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "CUDA", "cuda:1000", "cpu:0", ""])
def test_another_name_is_none(name: str) -> None:
    with pytest.raises(UsageError, match="is none: take cpu, auto, cuda or cuda:N"):
        settled_device(name)
    with pytest.raises(ConfigError, match="policy.device"):
        Config.load("small", {"policy.device": name})


def test_the_processor_and_auto_compute_here() -> None:
    assert Engine.load(seed_checkpoint(), device="cpu", threads=1).threads == 1
    assert Engine.load(seed_checkpoint(), device="auto", threads=1).threads == 1


def test_a_run_records_what_auto_came_to() -> None:
    config = Config.load("small", {"policy.device": "auto"})
    engine = resolve.engine(config)
    assert resolve.settled(config, engine).policy.device == "cpu"


def test_a_run_on_a_card_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cards", lambda: NO_DRIVER)
    with pytest.raises(UsageError, match="device 'cuda:1' cannot be used here"):
        resolve.engine(Config.load("small", {"policy.device": "cuda:1"}))


def test_an_endpoint_has_no_device_here() -> None:
    settings = {"policy.endpoint": "http://127.0.0.1:1/v1", "policy.model": "m", "policy.device": "auto"}
    with pytest.raises(ConfigError, match="leave `device` out"):
        Config.load("endpoint", settings)


DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int room, int device) { strcpy(name, device ? "Second" : "First"); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 + device : 6; return 0; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_driver_names_its_cards(tmp_path: Path) -> None:
    source, library = tmp_path / "driver.c", tmp_path / "libcuda.so.1"
    source.write_text(DRIVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-w", "-o", library, source], check=True)
    assert cards(str(library)) == Cards(
        driver=13000, names=("First", "Second"), capabilities=((8, 6), (9, 6))
    )
