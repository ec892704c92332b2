"""Files that somebody else made: read whole within a bound, never waited for."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from moevolve.config.files import parse_toml, read_bytes, read_text
from moevolve.errors import UsageError


def test_a_plain_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes("one\r\ntwo\rä\n".encode())
    assert read_text(file) == "one\ntwo\nä\n"
    assert read_bytes(file, 12) == file.read_bytes()
    with pytest.raises(UsageError, match="has 12 bytes"):
        read_bytes(file, 11)


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfcycles = 3\r\n")
    assert read_text(tmp_path / "a") == "cycles = 3\n"


def test_a_pipe_is_refused_unless_a_shell_has_put_it_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is not a plain file"):
        read_bytes(tmp_path / "pipe")
    source, target = os.pipe()
    os.write(target, b"handed over")
    os.close(target)
    assert read_text(f"/dev/fd/{source}") == "handed over"
    os.close(source)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("/dev/zero")
    with pytest.raises(UsageError, match="is not a plain file"):
        read_bytes(tmp_path / "x")
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("x = " + "[" * 20_000, "nested too deep"),
        ("a." * 20_000 + "b = 1", "parts"),
        ("x = " + "9" * 10_000, "digits"),
        ("x = ", "Invalid"),
    ],
)
def test_toml_that_takes_a_stack_or_minutes_is_none(said: str, why: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError, match=why):
        parse_toml(said)


def test_a_long_sentence_is_no_key(tmp_path: Path) -> None:
    said = "One. " * 200
    assert parse_toml(f'x = """\n{said}\n"""') == {"x": f"{said}\n"}
