"""A skill tree as Agent Skills: one folder a node, the tree's own data under `metadata`.

The specification knows no hierarchy, so that every node is a skill that stands for itself: a leaf with what was learnt of
it, a branch with a catalogue of its children.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from moevolve.errors import UsageError
from moevolve.records import Change
from moevolve.skills.tree import grow
from moevolve.tasks.agent_skills.folder import (
    DESCRIPTION,
    EXAMPLES,
    FILE,
    NAME,
    SkillFolder,
    bounded,
    fenced,
    folders,
    one_line,
    read,
    text_of,
)
from moevolve.tasks.skill import check_path

KEY = "moevolve"
"""Name of the metadata that holds a node, as JSON."""
SHOWN = 6
"""Examples, failures and lessons that a body shows, each."""
IMPORTED = "imported"
"""The branch of skills that name no path of their own."""


class Success(msgspec.Struct, frozen=True, array_like=True):
    """A level's success: the posterior's mean and 95 % interval over `n` attempts."""

    level: int
    mean: float
    low: float
    high: float
    n: int


class Leaf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A leaf of the tree, as it is exported and imported."""

    path: str
    summary: str
    levels: tuple[int, int]
    requires: tuple[str, ...] = ()
    """The skills it builds on or is made of."""
    change: Change | None = None
    """Of a leaf that a tree grew, how it came to be."""
    feature: str = ""
    """Of a part of a split leaf, what separates it."""
    level: int | None = None
    """The mastered level, with its 95 % interval."""
    level_ci: tuple[int, int] | None = None
    sealed: float | None = None
    """Score on sealed tasks, `n` of them: of a suite's leaf the last one, of a grown one that of the growth column."""
    n: int = 0
    mastery: tuple[Success, ...] = ()


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A solved task."""

    prompt: str
    answer: str
    level: int = 1


class Learnt(msgspec.Struct, frozen=True, kw_only=True):
    """What a run learnt of a leaf, for its body."""

    examples: tuple[Example, ...] = ()
    route: str = ""
    """The champion's plan for it."""
    failures: tuple[tuple[str, str, str], ...] = ()
    """(prompt, wrong answer, type)."""
    lessons: tuple[str, ...] = ()


def names_of(paths: Iterable[str]) -> dict[str, str]:
    """Path -> the skill's name: `text/rot13` is `text-rot13`; what would be one name is told apart by a digest."""
    paths = list(paths)
    plain = {path: re.sub("[^a-z0-9]+", "-", path.lower()).strip("-") for path in paths}
    counts: dict[str, int] = {}
    for name in plain.values():
        counts[name] = counts.get(name, 0) + 1
    names = {}
    for path, name in plain.items():
        if counts[name] > 1 or not name or len(name) > NAME:
            digest = hashlib.blake2b(path.encode(), digest_size=4).hexdigest()
            name = f"{name[: NAME - 9].rstrip('-')}-{digest}".lstrip("-")
        names[path] = name
    return names


def written(leaves: Sequence[Leaf], learnt: dict[str, Learnt], out: Path) -> list[str]:
    """Writes a tree's folders into `out`; returns the files' names.

    Args:
        leaves: the tree.
        learnt: path -> what was learnt of the leaf.
        out: a folder that is not there yet, or is empty.

    Raises:
        UsageError: something is there.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already: name a folder that is new or empty")
    branches = {node.path: node for _, node in grow(leaf.path for leaf in leaves).walk() if not node.leaf}
    branches.pop("", None)
    by_path = {leaf.path: leaf for leaf in leaves}
    names = names_of(sorted([*by_path, *branches]))
    files = []
    for path, name in names.items():
        folder = out / name
        folder.mkdir(parents=True)
        if path in by_path:
            leaf, known = by_path[path], learnt.get(path, Learnt())
            skill = _leaf(leaf, known, name, names)
            rows = [msgspec.json.encode(each).decode() for each in known.examples]
            if rows:
                (folder / EXAMPLES).parent.mkdir()
                (folder / EXAMPLES).write_text("\n".join(rows) + "\n", encoding="utf-8")
                files.append(f"{name}/{EXAMPLES}")
        else:
            children = [each.path for each in branches[path].children]
            skill = _branch(path, children, by_path, name, names)
        (folder / FILE).write_text(text_of(skill), encoding="utf-8")
        files.append(f"{name}/{FILE}")
    return sorted(files)


def _leaf(leaf: Leaf, known: Learnt, name: str, names: dict[str, str]) -> SkillFolder:
    summary = one_line(leaf.summary, DESCRIPTION // 2)
    first = next(iter(known.examples), None)
    shape = f" Use it for prompts such as {one_line(first.prompt, 200)}" if first else ""
    parts = [f"# {one_line(leaf.path, 200)}", summary, _standing(leaf)]
    if leaf.requires:
        links = ", ".join(f"`{names.get(path, one_line(path, 80))}`" for path in leaf.requires)
        parts.append(f"## Builds on\n\n{links}")
    if known.route:
        parts.append(
            f"## Route\n\nThe plan by which the program answers it:\n\n{fenced(one_line(known.route, 2000))}"
        )
    if known.lessons:
        parts.append(
            "## Lessons\n\n" + fenced("\n".join(one_line(each, 300) for each in known.lessons[:SHOWN]))
        )
    if known.failures:
        rows = [
            f"{one_line(prompt, 200)} -> {one_line(answer, 200) or '(nothing)'} ({one_line(kind, 40)})"
            for prompt, answer, kind in known.failures[:SHOWN]
        ]
        parts.append("## Failures\n\nAnswers that were wrong:\n\n" + fenced("\n".join(rows)))
    if known.examples:
        step = max(1, len(known.examples) // SHOWN)
        rows = [
            f"{one_line(each.prompt, 200)} -> {one_line(each.answer, 200)}"
            for each in known.examples[::step][:SHOWN]
        ]
        parts.append(
            f"## Examples\n\nConfirmed answers; {len(known.examples)} of them are in [{EXAMPLES}]({EXAMPLES}).\n\n"
            + fenced("\n".join(rows))
        )
    return SkillFolder(
        name=name,
        description=f"{summary}.{shape}",
        body="\n\n".join(part for part in parts if part),
        metadata={KEY: _encoded(leaf)},
    )


def _encoded(leaf: Leaf) -> str:
    """A leaf as JSON of printable ASCII, without what closes a front matter, so that every reader of YAML gives it back."""
    text = json.dumps(msgspec.to_builtins(leaf), ensure_ascii=True)
    return text.replace("--", "-\\u002d").replace("\x7f", "\\u007f")


def _standing(leaf: Leaf) -> str:
    said = [f"Levels {leaf.levels[0]} to {leaf.levels[1]}."]
    if leaf.level is not None and leaf.level_ci is not None:
        said.append(
            f"Mastered up to level {leaf.level} (95 % interval {leaf.level_ci[0]} to {leaf.level_ci[1]})."
        )
    if leaf.sealed is not None:
        said.append(f"{leaf.sealed:.3f} of {leaf.n} sealed tasks right.")
    return " ".join(said)


def _branch(
    path: str, children: Sequence[str], leaves: dict[str, Leaf], name: str, names: dict[str, str]
) -> SkillFolder:
    rows = [
        f"- `{names[child]}`"
        + (f": {one_line(leaves[child].summary, 200)}" if child in leaves else ": a branch")
        for child in children
    ]
    words = ", ".join(one_line(child.rpartition("/")[2], 60) for child in children)
    return SkillFolder(
        name=name,
        description=one_line(f"Skills of the branch {path}: {words}", DESCRIPTION),
        body="\n".join([f"# {one_line(path, 200)}", "", *rows]),
        metadata={f"{KEY}-branch": one_line(path, 500)},
    )


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """A leaf from a folder, with its solved tasks."""

    leaf: Leaf
    examples: tuple[Example, ...]
    body: str


def imported(path: Path) -> list[Imported]:
    """The leaves of skills' folders, by path; branches follow from them.

    A skill of another maker is a leaf of the branch `imported`, named as its folder is.

    Raises:
        UsageError: a folder, its front matter, its tree data or its examples cannot be used; names the file.
    """
    found: dict[str, Imported] = {}
    for folder in folders(path):
        skill = read(folder)
        if f"{KEY}-branch" in skill.metadata:
            continue
        examples = _examples(folder / EXAMPLES)
        leaf = _leaf_of(skill, folder, examples)
        if leaf.path in found:
            raise UsageError(f"{folder}: another folder is {leaf.path} already")
        found[leaf.path] = Imported(leaf=leaf, examples=examples, body=skill.body)
    return [found[key] for key in sorted(found)]


def _leaf_of(skill: SkillFolder, folder: Path, examples: Sequence[Example]) -> Leaf:
    if KEY in skill.metadata:
        try:
            leaf = msgspec.json.decode(skill.metadata[KEY], type=Leaf)
        except msgspec.DecodeError as error:
            raise UsageError(f"{folder / FILE}: metadata.{KEY} holds no leaf: {error}") from None
        check_path(leaf.path)
        if not 1 <= leaf.levels[0] <= leaf.levels[1]:
            raise UsageError(f"{folder / FILE}: metadata.{KEY} has levels {list(leaf.levels)}")
        return leaf
    word = re.sub("[^a-z0-9]+", "_", skill.name.lower()).strip("_")
    if not word:
        digest = hashlib.blake2b(skill.name.encode(), digest_size=4).hexdigest()
        word = f"skill_{digest}"
    levels = [each.level for each in examples] or [1]
    return Leaf(
        path=f"{IMPORTED}/{word}",
        summary=one_line(skill.description, DESCRIPTION),
        levels=(min(levels), max(levels)),
    )


def _examples(file: Path) -> tuple[Example, ...]:
    if not file.is_file():
        return ()
    found = []
    for number, row in enumerate(bounded(file).split("\n"), 1):
        if not row.strip():
            continue
        try:
            example = msgspec.json.decode(row, type=Example)
        except msgspec.DecodeError as error:
            raise UsageError(f"{file}:{number}: {error}") from None
        if not example.prompt or example.level < 1:
            raise UsageError(f"{file}:{number}: an example has a prompt, and a level from 1 on")
        found.append(example)
    return tuple(found)
