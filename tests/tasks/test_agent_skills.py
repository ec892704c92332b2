"""Agent Skills: what is written obeys the specification, and is read back as it was; foreign folders become skills."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moevolve.errors import UsageError
from moevolve.tasks import folder as suites
from moevolve.tasks.agent_skills.folder import faults, folders, read, validate
from moevolve.tasks.agent_skills.suite import write
from moevolve.tasks.agent_skills.tree import Example, Leaf, Learnt, Success, imported, names_of, written

words = st.from_regex(r"[a-z0-9_]{1,12}", fullmatch=True)
paths = st.lists(words, min_size=2, max_size=4).map("/".join)
texts = st.text(max_size=80)


@st.composite
def trees(draw: st.DrawFn) -> list[Leaf]:
    found = draw(st.lists(paths, min_size=1, max_size=6, unique=True))
    leaves = [path for path in found if not any(other.startswith(f"{path}/") for other in found)]
    low = draw(st.integers(1, 8))
    return [
        Leaf(
            path=path,
            summary=draw(texts),
            levels=(low, low + draw(st.integers(0, 40))),
            requires=tuple(draw(st.lists(st.sampled_from(leaves), max_size=2))),
            change=draw(st.sampled_from([None, "compose", "split"])),
            feature=draw(st.sampled_from(["", "carry", "length>=9"])),
            level=draw(st.none() | st.integers(0, 40)),
            sealed=draw(st.none() | st.floats(0, 1)),
            n=draw(st.integers(0, 999)),
            mastery=tuple(
                Success(level, 0.5, 0.25, draw(st.floats(0.5, 1)), 40)
                for level in draw(st.sets(st.integers(1, 9)))
            ),
        )
        for path in sorted(leaves)
    ]


def learnt(leaves: list[Leaf], text: str) -> dict[str, Learnt]:
    return {
        leaf.path: Learnt(
            examples=tuple(Example(prompt=f"{text}{n}", answer=text, level=1 + n % 2) for n in range(8)),
            route=text,
            failures=((text, text, text),),
            lessons=(text,),
        )
        for leaf in leaves
    }


def reference(path: Path) -> list[str]:
    """What the specification's own validator finds."""
    return pytest.importorskip("skills_ref").validate(path)  # type: ignore[no-any-return]


HOSTILE = [
    "---\nname: x",
    "``` ````",
    "\u202egnp",
    "\x00\x07\x7f",
    "a: b # c",
    "\ufeff{}[]&*!|>'\"%@",
    "\u2028\x85",
]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(leaves=trees(), text=texts | st.sampled_from(HOSTILE))
def test_a_tree_that_is_written_is_in_order_and_is_read_back_the_same(
    tmp_path: Path, leaves: list[Leaf], text: str
) -> None:
    out = tmp_path / "skills"
    shutil.rmtree(out, ignore_errors=True)
    files = written(leaves, learnt(leaves, text), out)
    assert all((out / name).is_file() for name in files)
    for each in folders(out):
        assert validate(each) == []
    assert [each.leaf for each in imported(out)] == leaves
    assert all(len(each.examples) == 8 for each in imported(out))


@pytest.mark.parametrize("text", HOSTILE)
def test_the_specifications_own_validator_agrees(tmp_path: Path, text: str) -> None:
    leaves = [
        Leaf(path="text/rot_13", summary=text, levels=(1, 3)),
        Leaf(path="text/sort", summary="s", levels=(1, 3)),
    ]
    written(leaves, learnt(leaves, text), tmp_path / "out")
    for each in folders(tmp_path / "out"):
        assert reference(each) == []


def test_every_node_is_a_skill_and_a_branch_lists_its_children(tmp_path: Path) -> None:
    leaves = [Leaf(path=path, summary=path, levels=(1, 3)) for path in ("text/sort", "text/deep/caesar")]
    written(leaves, {}, tmp_path / "out")
    assert sorted(each.name for each in folders(tmp_path / "out")) == [
        "text",
        "text-deep",
        "text-deep-caesar",
        "text-sort",
    ]
    body = read(tmp_path / "out" / "text").body
    assert "`text-sort`" in body and "`text-deep`" in body


def test_names_are_told_apart_and_never_too_long() -> None:
    long = "a/" + "b" * 90
    names = names_of(["x/a_b", "x_a/b", long, "x/_"])
    assert len(set(names.values())) == 4
    assert all(0 < len(name) <= 64 and "--" not in name for name in names.values())


RULES = [
    ({"description": "d"}, "`name`"),
    ({"name": "a", "description": ""}, "`description`"),
    ({"name": "a", "description": "d" * 1025}, "1025"),
    ({"name": "a" * 65, "description": "d"}, "65"),
    ({"name": "A", "description": "d"}, "lower-case"),
    ({"name": "a_b", "description": "d"}, "hyphens"),
    ({"name": "-a", "description": "d"}, "hyphen"),
    ({"name": "a--b", "description": "d"}, "hyphen"),
    ({"name": "b", "description": "d"}, "folder"),
    ({"name": "a", "description": "d", "version": "1"}, "unknown field"),
    ({"name": "a", "description": "d", "compatibility": "c" * 501}, "compatibility"),
    ({"name": "a", "description": "d", "metadata": {"x": {"y": "z"}}}, "metadata"),
    ({"name": "a", "description": "d", "allowed-tools": ["x"]}, "allowed-tools"),
]


@pytest.mark.parametrize(("front", "said"), RULES)
def test_a_broken_rule_is_named(front: dict[str, object], said: str) -> None:
    assert any(said in fault for fault in faults(front, "a")), faults(front, "a")


def skill(
    folder: Path, front: str, body: str = "Do it.", examples: list[dict[str, object]] | None = None
) -> Path:
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(f"---\n{front}\n---\n\n{body}\n", encoding="utf-8")
    if examples is not None:
        (folder / "references").mkdir()
        rows = "".join(json.dumps(each) + "\n" for each in examples)
        (folder / "references" / "examples.jsonl").write_text(rows, encoding="utf-8")
    return folder


def test_a_foreign_skill_is_a_leaf_with_its_examples_as_tasks(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": f"rot13: {n}", "answer": str(n)} for n in range(12)]
    front = "name: rot-13\ndescription: >\n  Shift letters\n  by thirteen.\nlicense: MIT\nmetadata:\n  version: 1.0"
    skill(tmp_path / "in" / "rot-13", front, examples=rows)
    skill(tmp_path / "in" / "quiet", "name: quiet\ndescription: says nothing")
    found = imported(tmp_path / "in")
    assert [each.leaf.path for each in found] == ["imported/quiet", "imported/rot_13"]
    assert found[1].leaf.summary == "Shift letters by thirteen."
    files, without = write(found, tmp_path / "suite")
    assert files == ["suite.toml", "tasks.jsonl"] and list(without) == ["imported/quiet"]
    suite = suites.load(tmp_path / "suite")
    assert list(suite.skills) == ["imported/rot_13"]
    assert suite.draw("train", "imported/rot_13", 1, 0).answer is not None


def test_levels_with_too_few_examples_become_one_level(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "answer": "x", "level": 1 + n // 4} for n in range(9)]
    skill(tmp_path / "in" / "a", "name: a\ndescription: d", examples=rows)
    write(imported(tmp_path / "in"), tmp_path / "suite")
    assert suites.load(tmp_path / "suite")["imported/a"].levels == (1, 1)
    rows += [{"prompt": f"q{n}", "answer": "x", "level": 3} for n in range(4)]
    skill(tmp_path / "more" / "a", "name: a\ndescription: d", examples=rows)
    write(imported(tmp_path / "more"), tmp_path / "second")
    assert suites.load(tmp_path / "second")["imported/a"].levels == (1, 3)


def test_prerequisites_go_into_the_suite(tmp_path: Path) -> None:
    leaves = [
        Leaf(path="a/x", summary="x", levels=(1, 1)),
        Leaf(path="a/y", summary="y", levels=(1, 1), requires=("a/x",)),
    ]
    made = {
        leaf.path: Learnt(examples=tuple(Example(prompt=f"{leaf.path} {n}", answer="1") for n in range(5)))
        for leaf in leaves
    }
    written(leaves, made, tmp_path / "out")
    write(imported(tmp_path / "out"), tmp_path / "suite")
    assert suites.load(tmp_path / "suite").requires == {"a/y": ("a/x",)}


BROKEN = [
    ("name: a\ndescription: [", "YAML"),
    ("- a", "fields"),
    ("name: b\ndescription: d", "folder"),
    ('name: a\ndescription: d\nmetadata:\n  moevolve: "{}"', "leaf"),
    (
        'name: a\ndescription: d\nmetadata:\n  moevolve: \'{"path": "../x", "summary": "", "levels": [1, 2]}\'',
        "x",
    ),
]


@pytest.mark.parametrize(("front", "said"), BROKEN)
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, front: str, said: str) -> None:
    skill(tmp_path / "in" / "a", front)
    with pytest.raises(UsageError, match=said):
        imported(tmp_path / "in")


def test_aliases_do_not_multiply_and_files_are_bounded(tmp_path: Path) -> None:
    bomb = "name: a\ndescription: d\nmetadata:\n  a: &a [x, x]\n  b: &b [*a, *a]\n  c: [*b, *b]"
    skill(tmp_path / "in" / "a", bomb)
    with pytest.raises(UsageError, match="metadata"):
        imported(tmp_path / "in")
    skill(tmp_path / "large" / "a", "name: a\ndescription: d", body="x" * (1 << 20))
    with pytest.raises(UsageError, match="1 MiB"):
        imported(tmp_path / "large")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    leaves = [Leaf(path="a/x", summary="x", levels=(1, 1))]
    with pytest.raises(UsageError, match="out"):
        written(leaves, {}, tmp_path / "out")


def test_without_a_reader_of_yaml_the_error_says_what_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skill(tmp_path / "in" / "a", "name: a\ndescription: d")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(UsageError, match=r"moevolve\[skills\]"):
        imported(tmp_path / "in")
