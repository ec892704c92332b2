"""Imported skills as a suite's folder: their examples are its tasks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from moevolve.errors import UsageError
from moevolve.tasks.agent_skills.tree import Imported
from moevolve.tasks.splits import SPLITS

LEVELS = 64
"""Highest level of a listed task."""


def write(skills: Sequence[Imported], out: Path, name: str = "imported") -> tuple[list[str], dict[str, str]]:
    """Writes a suite's folder; returns its files, and path -> why a skill has no tasks in it.

    A level needs a task for each split. Where a skill's levels have fewer, all of its tasks are of one level.

    Raises:
        UsageError: something is there, or no skill has enough examples.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already: name a folder that is new or empty")
    rows: list[str] = []
    told: dict[str, str] = {}
    told_of: list[Imported] = []
    prompts: set[str] = set()
    for each in skills:
        tasks = {
            example.prompt: example for example in each.examples if example.prompt not in prompts
        }.values()
        if len(tasks) < len(SPLITS):
            told[each.leaf.path] = f"{len(tasks)} examples, of {len(SPLITS)} that a suite needs"
            continue
        prompts.update(task.prompt for task in tasks)
        counts = Counter(task.level for task in tasks)
        low, high = min(counts), max(counts)
        plain = high > LEVELS or any(counts[level] < len(SPLITS) for level in range(low, high + 1))
        for number, task in enumerate(tasks):
            row = {
                "id": f"{each.leaf.path}/{number}",
                "skill": each.leaf.path,
                "level": 1 if plain else task.level,
                "prompt": task.prompt,
                "answer": task.answer,
            }
            rows.append(json.dumps(row, ensure_ascii=False))
        told_of.append(each)
    if not rows:
        raise UsageError(
            f"no skill has the {len(SPLITS)} examples that a suite needs, in its references/examples.jsonl"
        )
    there = {each.leaf.path for each in told_of}
    sections = [
        line
        for each in told_of
        for line in (
            f"[skills.{json.dumps(each.leaf.path)}]",
            f"summary = {_string(each.leaf.summary)}",
            f"requires = {json.dumps([path for path in each.leaf.requires if path in there])}",
            "",
        )
    ]
    out.mkdir(parents=True, exist_ok=True)
    head = [f"name = {json.dumps(name)}", 'summary = "Skills that were imported, with their examples"', ""]
    (out / "suite.toml").write_text("\n".join([*head, *sections]), encoding="utf-8")
    (out / "tasks.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return ["suite.toml", "tasks.jsonl"], told


def _string(text: str) -> str:
    """A text as TOML: a JSON string but for DEL, which TOML wants escaped too."""
    return json.dumps(text).replace("\x7f", "\\u007f")
