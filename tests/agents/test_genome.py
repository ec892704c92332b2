"""Programs as values."""

from __future__ import annotations

import pytest

from moevolve.agents.genome import Genome, seed_genome, unusable
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


def test_edits_give_a_new_program():
    seed = seed_genome()
    child = seed.edited([edit("solve.py"), edit("more.py")])
    assert child.files["more.py"] == "x = 1\n"
    assert seed.files["solve.py"] != child.files["solve.py"]


@pytest.mark.parametrize(
    "path", ["../solve.py", "/etc/x.py", "a/b.py", "solve.txt", "Solve.py", "", "worker.py", "operators.py"]
)
def test_a_path_outside_is_refused(path):
    with pytest.raises(UsageError, match="cannot be called"):
        seed_genome().edited([edit(path)])


def test_sizes_are_bounded():
    with pytest.raises(UsageError, match="characters"):
        seed_genome().edited([edit("solve.py", "#" * 100_000)])
    with pytest.raises(UsageError, match="files"):
        seed_genome().edited([edit(f"part{index}.py") for index in range(20)])


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
