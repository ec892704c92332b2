"""Lists a suite's skills with how many tasks they have, and some of the tasks."""

from __future__ import annotations

import argparse
from typing import Any

from moevolve.cli import output


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "suite",
        metavar="SUITE",
        help="a folder with tasks.jsonl, a Python file that defines skills, or a name",
    )
    parser.add_argument("--skill", metavar="PATH", help="the tasks of one skill")
    parser.add_argument("--level", type=int, metavar="N", help="the tasks of one level")
    parser.add_argument("-n", type=int, default=3, metavar="N", help="tasks of each skill (default: 3)")
    parser.add_argument("--answers", action="store_true", help="show the gold answers too")
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(options: argparse.Namespace) -> int:
    from moevolve.cli.suites import named
    from moevolve.tasks.splits import SPLITS

    suite = named(options.suite)
    levels = None if options.level is None else (options.level, options.level)
    suite = suite.only([options.skill] if options.skill else (), levels)
    skills: list[dict[str, Any]] = []
    tasks: list[dict[str, Any]] = []
    for path, leaf in suite.skills.items():
        low, high = leaf.levels
        listed = None
        if leaf.listed is not None:
            listed = {
                split: sum(leaf.listed.size(split, level) for level in range(low, high + 1))
                for split in SPLITS
            }
        skills.append({"path": path, "summary": leaf.summary, "levels": leaf.levels, "listed": listed})
        cells = [(path, low + index % (high - low + 1)) for index in range(options.n)]
        for task in suite.sample("train", cells, "shown"):
            row = {"id": task.id, "skill": path, "level": task.level, "prompt": task.prompt}
            row |= {"messages": task.messages} if task.messages else {}
            row |= {"files": task.files.name} if task.files is not None else {}
            tasks.append(row | ({"answer": task.answer} if options.answers else {}))
    if options.json:
        output.data({"suite": suite.name, "answers": suite.answers, "skills": skills, "tasks": tasks})
        return 0
    from moevolve.journal.text import line
    from moevolve.report import terminal, trees

    rows = {
        str(row["path"]): (
            f"{row['levels'][0]}-{row['levels'][1]}",
            "no end" if row["listed"] is None else str(sum(row["listed"].values())),
            line(str(row["summary"])),
        )
        for row in skills
    }
    console = terminal.console()
    console.print(trees.tree(suite.name, ("levels", "tasks", "asks"), rows))
    for shown in tasks:
        answer = f"  ->  {line(str(shown['answer']))}" if "answer" in shown else ""
        before = len(shown.get("messages", ())) - 1
        said = f"(after {before} message{'s' * (before != 1)}) " if before > 0 else ""
        console.print(f"{shown['id']}  {said}{line(shown['prompt'])}{answer}")
    return 0
