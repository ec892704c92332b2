"""Corrupt folders on the command line: exit 2 with one line that names what is wrong, in a gibibyte."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from folders import copied, edited
from leash import limited


def moevolve(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "moevolve.cli.main", *map(str, words)],
        capture_output=True,
        text=True,
        input="",
        timeout=120,
        preexec_fn=limited,
        check=False,
    )


def fifo(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return spoil


def zeros(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/dev/zero")

    return spoil


def cut(name: str, at: int) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:at])

    return spoil


def said(name: str, **changes: object) -> Callable[[Path], None]:
    return lambda folder: (edited(folder / name, **changes), None)[1]


def template(source: str) -> Callable[[Path], None]:
    return lambda folder: (edited(folder / "tokenizer_config.json", chat_template=source), None)[1]


LONG = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pipe for a configuration": (fifo("config.json"), "config.json: is not a plain file"),
    "a pipe for weights": (fifo("model-00001-of-00002.safetensors"), "is not a plain file"),
    "zeros for a tokenizer": (zeros("tokenizer.json"), "tokenizer.json: is not a plain file"),
    "a torn configuration": (cut("config.json", 99), "config.json: is not JSON"),
    "a torn tokenizer": (cut("tokenizer.json", 999), "tokenizer.json: is not JSON"),
    "torn weights": (cut("model-00002-of-00002.safetensors", 999), "model-00002-of-00002.safetensors"),
    "a map that promises 4 GB": (
        said("tokenizer.json", normalizer={"type": "Precompiled", "precompiled_charsmap": "/////w=="}),
        "precompiled_charsmap",
    ),
    "replacements in a row": (
        said("tokenizer.json", normalizer={"type": "Sequence", "normalizers": [LONG] * 3}),
        "normalizer",
    ),
    "a model that panics": (
        said("tokenizer.json", model={"type": "Unigram", "unk_id": 9, "vocab": [["a", 0.0]]}),
        "tokenizer.json",
    ),
    "another rope": (said("config.json", rope_scaling="yarn"), "rope_scaling"),
    "sizes of terabytes": (said("config.json", vocab_size=2**31 - 1), "config.json"),
    "a template of gigabytes": (
        template("{{ messages[0].content.ljust(3000000000) }}"),
        "it takes too much memory",
    ),
    "a template without end": (
        template("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        "processor time",
    ),
    "ten million values": (
        lambda folder: (
            (folder / "model.safetensors.index.json").write_text('{"a": [' + "0," * 10_000_000 + "0]}"),
            None,
        )[1],
        "model.safetensors.index.json: holds more than",
    ),
    "a template that writes half a character": (
        template("{{ '\\ud800' }}"),
        "the text is not Unicode: character 1",
    ),
    "a template in 25 loops": (
        template("{% for a in [1] %}" * 25 + "{% endfor %}" * 25),
        "the chat template of",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_generate_ends_with_one_line(tmp_path: Path, name: str) -> None:
    spoil, complaint = FOLDERS[name]
    folder = copied(tmp_path / "model")
    spoil(folder)
    words = ["--chat"] if "template" in name else []
    done = moevolve("generate", "--model", folder, *words, "the fox")
    assert done.returncode == 2, done.stderr
    assert complaint in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""
    assert "panicked" not in done.stderr and "Traceback" not in done.stderr


def test_plan_waits_for_nothing(tmp_path: Path) -> None:
    for spoil in (fifo("config.json"), zeros("config.json"), fifo("x.gguf")):
        folder = copied(tmp_path / "model")
        spoil(folder)
        given = folder / "x.gguf" if (folder / "x.gguf").exists() else folder
        done = moevolve("plan", given)
        assert done.returncode == 2 and "is not a plain file" in done.stderr
        assert done.stderr.count("\n") == 1
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
