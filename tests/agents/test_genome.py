"""Programs as values."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from moevolve.agents.genome import Genome, editable, load, seed_genome, unusable
from moevolve.errors import UsageError
from moevolve.records import Edit


def edit(path: str, text: str = "x = 1\n") -> Edit:
    return Edit(path=path, text=text, operator="test", summary="test")


def test_the_seed_is_a_program():
    seed = seed_genome()
    assert sorted(seed.files) == ["improve.py", "learn.py", "solve.py"]
    assert unusable(seed.files) is None


def test_the_hash_is_of_the_content():
    one, two = Genome(files={"a.py": "1", "b.py": "2"}), Genome(files={"b.py": "2", "a.py": "1"})
    assert one.hash == two.hash
    assert one.hash != Genome(files={"a.py": "12", "b.py": ""}).hash
    assert one.hash != Genome(files={"a.py": "1"}).hash


def test_a_byte_order_mark_is_no_part_of_a_program(tmp_path: Path):
    for name, mark in (("plain", b""), ("marked", b"\xef\xbb\xbf")):
        (tmp_path / name).mkdir()
        for file, text in seed_genome().files.items():
            (tmp_path / name / file).write_bytes(mark + text.encode())
    assert load(tmp_path / "marked") == load(tmp_path / "plain") == seed_genome()


def test_edits_give_a_new_program():
    seed = seed_genome()
    child = seed.edited([edit("solve.py"), edit("more.py")])
    assert child.files["more.py"] == "x = 1\n"
    assert seed.files["solve.py"] != child.files["solve.py"]


@pytest.mark.parametrize(
    "path",
    [
        "../solve.py",
        "/etc/x.py",
        "a/../b.py",
        ".hidden",
        "a//b.py",
        "",
        "worker.py",
        "operators.py",
        "agent/x.py",
        "a/" * 8,
        "a/./b",
        " blank.md",
        "blank /x.md",
        "dot.",
        "tab\t.md",
        "line\n.md",
        "bidi\u202e.md",
        "zero\u200bwidth.md",
        "e\u0301.md",
        "half\udcff.md",
        "a*.md",
        "a[1].md",
        "c:x.md",
        "back\\slash.md",
        "x" * 121,
        "ü" * 120 + "é",
        "𝒳" * 61,
    ],
)
def test_a_path_that_means_no_file_of_its_own_is_refused_with_the_reason(path):
    with pytest.raises(UsageError, match="cannot be called .*: "):
        seed_genome().edited([edit(path)])


@pytest.mark.parametrize(
    "path",
    [
        "system prompt.md",
        "prompts/dé jà/vu 1.2.md",
        "提示.md",
        "-x.md",
        "a--b.c.d",
        "#1 & (2), it's.txt",
        "ü" * 120,
        "a/b/c/d/e/f.md",
    ],
)
def test_a_path_may_have_blanks_dots_dashes_and_letters_of_any_script(path, tmp_path):
    child = seed_genome().edited([edit(path)])
    child.write(tmp_path / "one")
    assert load(tmp_path / "one") == child
    with pytest.raises(UsageError, match="case alone"):
        child.edited([edit(path.swapcase())]) if path.swapcase() != path else child.edited([edit("SOLVE.py")])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\nb\n", "a\nc\n"),
        ("a\nb", "a\nc"),
        ("a\nb", "a\nb\n"),
        ("a\x0cb\u2028c\n", "a\x0cb\u2028d\n"),
        ("a\r\nb\r\n", "a\r\nc\r\n"),
    ],
)
@pytest.mark.skipif(shutil.which("patch") is None, reason="there is no patch(1) here")
@pytest.mark.parametrize("path", ["plain.md", "with a blank.md", "提示.md"])
def test_the_difference_applies_as_a_patch_to_the_byte(before, after, path, tmp_path):
    old, new = (Genome(files={path: text, "kept.md": "k\n"}) for text in (before, after))
    old.write(tmp_path)
    done = subprocess.run(
        ["patch", "-p1", "--binary", "--no-backup-if-mismatch"],
        input=old.diff(new).encode(),
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert (tmp_path / path).read_bytes() == after.encode()


def test_what_is_no_plain_file_is_refused_by_its_name(tmp_path):
    seed_genome().write(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe is no plain file"):
        load(tmp_path)


def test_sizes_are_bounded():
    with pytest.raises(UsageError, match="characters"):
        seed_genome().edited([edit("solve.py", "#" * 100_000)])
    with pytest.raises(UsageError, match="files"):
        seed_genome().edited([edit(f"part{index}.py") for index in range(80)])


def test_the_difference_reads_as_a_patch():
    seed = seed_genome()
    child = seed.edited([edit("learn.py", "x = 1")])
    assert seed.diff(seed) == ""
    patch = seed.diff(child)
    assert "--- a/learn.py" in patch
    assert "+x = 1" in patch
    assert "solve.py" not in patch


def test_writing_replaces_what_was_there(tmp_path):
    (tmp_path / "stale.py").write_text("old")
    seed_genome().write(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.glob("*.py")} == seed_genome().files


class TestFolder:
    def test_a_folder_is_an_agent_with_the_seeds_other_files(self, tmp_path: Path) -> None:
        files = {
            "solve.py": "from tools.text import x\n",
            "tools/text.py": "x = 1\n",
            "prompts/system.md": "Be brief.",
        }
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        (tmp_path / "__pycache__").mkdir()
        (tmp_path / "__pycache__" / "solve.pyc").write_bytes(b"\xff")
        # A run that was started here is no part of it.
        (tmp_path / "runs" / "a" / "journal").mkdir(parents=True)
        (tmp_path / "runs" / "a" / "journal" / "data.mdb").write_bytes(b"\xff")
        genome = load(tmp_path)
        assert genome.files == files | {
            name: seed_genome().files[name] for name in ("improve.py", "learn.py")
        }
        genome.write(tmp_path / "out")
        assert load(tmp_path / "out") == genome

    def test_writing_leaves_nothing_of_an_older_program(self, tmp_path: Path) -> None:
        Genome(files={"solve.py": "", "prompts/a.md": "a"}).write(tmp_path)
        Genome(files={"solve.py": "", "prompts/b.md": "b"}).write(tmp_path)
        assert sorted(path.name for path in tmp_path.rglob("*.md")) == ["b.md"]

    def test_what_the_description_does_not_name_is_frozen(self) -> None:
        described = Genome(
            files={"agent.toml": 'edit = ["prompts/*.md"]', "solve.py": "", "prompts/a.md": ""}
        )
        assert described.edited([edit("prompts/a.md", "new")]).files["prompts/a.md"] == "new"
        for path in ("solve.py", "agent.toml", "prompts/a.py"):
            assert not editable(described.files, [edit(path)])
            with pytest.raises(UsageError, match="is frozen"):
                described.edited([edit(path)])
        plain = Genome(files={"agent.toml": "", "solve.py": ""})
        assert editable(plain.files, [edit("solve.py")]) and not editable(plain.files, [edit("agent.toml")])

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({}, "has no solve.py"),
            ({"solve.py": b"\xff"}, "not UTF-8"),
            ({"solve.py": b"", "agent.toml": b"kind = 'container'"}, "agent.toml: Invalid enum value"),
            ({"solve.py": b"", "agent.toml": b"edits = []"}, "unknown field `edits`"),
            ({"solve.py": b"", "worker.py": b""}, "cannot be called 'worker.py'"),
            ({"solve.py": b"", "big.txt": b"x" * 100_000}, "more than"),
        ],
    )
    def test_what_cannot_be_used_is_named(
        self, files: dict[str, bytes], message: str, tmp_path: Path
    ) -> None:
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match=message):
            load(tmp_path)

    def test_a_file_far_too_large_is_refused_unread(self, tmp_path: Path) -> None:
        (tmp_path / "solve.py").write_text("")
        with (tmp_path / "data.bin").open("wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(UsageError, match="is larger than"):
            load(tmp_path)

    def test_a_link_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "solve.py").symlink_to("/etc/passwd")
        with pytest.raises(UsageError, match="is a link"):
            load(tmp_path)

    def test_a_file_cannot_be_a_folder_too(self) -> None:
        assert unusable({"a": "", "a/b.py": ""}) == "'a' is a file and a folder"
        assert "case alone" in (unusable({"A.md": "", "a.md": ""}) or "")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("logo.md", b"\x89PNG\r\n\x1a\n\x00\xff", "logo.md is not UTF-8 text"),
        ("large.md", b"x" * (5 << 20), "large.md is larger than"),
        ("long.md", b"x" * (65 << 10), "long.md has 66560 characters"),
        ("nul.md", b"a\0b", "nul.md holds NUL"),
        ("random.py", b"", "agent.rng"),
        ("math.py", b"", "agent.rng"),
        ("rounds.py", b"", "stands beside it"),
    ],
)
def test_what_no_agent_can_hold_is_refused_by_its_name(name, data, said, tmp_path):
    (tmp_path / "solve.py").write_text("async def solve(task, agent):\n    return ''\n")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=said):
        load(tmp_path)


def test_a_link_is_refused_wherever_it_leads(tmp_path):
    for name, target in (("file.md", "solve.py"), ("folder", "."), ("nowhere.md", "none")):
        agent = tmp_path / name
        agent.mkdir()
        (agent / "solve.py").write_text("async def solve(task, agent):\n    return ''\n")
        (agent / name).symlink_to(target)
        with pytest.raises(UsageError, match=f"{name} is a link"):
            load(agent)


def test_ends_of_lines_and_modes_of_files_are_no_matter(tmp_path):
    agent = tmp_path / "agent"
    agent.mkdir(parents=True)
    text = 'edit = ["*.md"]\r\n[limits]\r\nrequests = 3\r\n'
    files = {
        "agent.toml": text,
        "solve.py": "async def solve(task, agent):\r\n    return ''\r\n",
        "p.md": "a\r\nb\rc",
    }
    for name, content in files.items():
        (agent / name).write_bytes(content.encode())
        (agent / name).chmod(0o444)
    agent.chmod(0o555)
    found = load(agent)
    assert {name: found.files[name] for name in files} == files
    for _ in range(2):
        found.write(tmp_path / "copy")
    assert load(tmp_path / "copy") == found
