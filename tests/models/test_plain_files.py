"""What is no plain file, in the place of every file that is read: refused at once, never waited for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from corrupt.odd import device, fifo, listening
from folders import copied

from moevolve.errors import CheckpointError
from moevolve.models.engine import Engine
from moevolve.models.plan import Plan

KINDS = [fifo, device, listening, Path.mkdir]
FILES = [
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "model-00002-of-00002.safetensors",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
]


def put(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    make(file)
    return file


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_model(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    folder = copied(tmp_path / "m")
    file = put(folder, name, make)
    with pytest.raises(CheckpointError, match=r"is not a plain file") as caught:
        Engine.load(folder, threads=1)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_file_of_an_adapter(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    folder = copied(tmp_path / "m")
    engine = Engine.load(folder, threads=1)
    engine.adapt(2)
    engine.save_adapter(tmp_path / "a")
    put(tmp_path / "a", name, make)
    with pytest.raises(CheckpointError, match=rf"{name}: is not a plain file"):
        Engine.load(folder, threads=1, adapter=tmp_path / "a")


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", ["training.safetensors", "weights.safetensors"])
def test_a_file_of_training(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    engine = Engine.load(copied(tmp_path / "m"), threads=1)
    engine.save_training(tmp_path / "t", "")
    put(tmp_path / "t", name, make)
    with pytest.raises(CheckpointError, match=rf"{name}: is not a plain file"):
        engine.load_training(tmp_path / "t")


@pytest.mark.parametrize("make", [fifo, device, listening], ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", ["config.json", "x.gguf"])
@pytest.mark.parametrize("of", [Engine.load, Plan.of], ids=["load", "plan"])
def test_what_is_given_itself(
    tmp_path: Path, name: str, make: Callable[[Path], None], of: Callable[[Path], object]
) -> None:
    make(tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"{name}: is not a plain file"):
        of(tmp_path / name)


def test_a_file_as_large_as_a_disk_is_not_read(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        folder = copied(tmp_path / name)
        with (folder / name).open("ab") as file:
            file.truncate(1 << 40)
        with pytest.raises(CheckpointError, match=rf"{name}: has \d+ bytes"):
            Engine.load(folder, threads=1)
        shutil.rmtree(folder)


def test_a_file_of_millions_of_values_is_not_taken_apart(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors.index.json", "special_tokens_map.json"):
        folder = copied(tmp_path / name)
        (folder / name).write_text('{"normalizer": [' + "0," * (5 << 20) + "0]}", encoding="utf-8")
        with pytest.raises(CheckpointError, match=rf"{name}: holds more than \d+ values"):
            Engine.load(folder, threads=1)
        shutil.rmtree(folder)
