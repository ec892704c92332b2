"""Prints a suite's skill tree with an example of each leaf, or how a run stands on its tree; takes back what the tree grew;
writes and reads trees as folders of Agent Skills (SKILL.md)."""

from __future__ import annotations

import argparse
from pathlib import Path

from moevolve.cli import output
from moevolve.cli.asking import taken_back
from moevolve.cli.reading import followed, opened
from moevolve.config.files import typed
from moevolve.errors import UsageError
from moevolve.journal.store import is_run
from moevolve.journal.text import line

IMPORTED = "imported"
"""Where a run's folder takes skills from elsewhere."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        nargs="?",
        type=Path,
        metavar="DIR",
        help="a run's folder (default: the suite itself); with --import the suite's folder to write",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--tree", action="store_true", help="print the tree alone, with levels and intervals")
    what.add_argument(
        "--export", type=Path, metavar="OUT", help="write the run's tree as Agent Skills, one folder a node"
    )
    what.add_argument(
        "--import",
        type=Path,
        metavar="SKILLS",
        dest="source",
        help="read Agent Skills; their examples become the tasks of a suite in DIR, or in DIR/imported of a run",
    )
    what.add_argument(
        "--validate", type=Path, metavar="SKILLS", help="hold Agent Skills to the specification"
    )
    what.add_argument(
        "--rollback",
        metavar="CHANGE",
        help="take back a change of the run's tree, such as g003, a leaf that it added or one that opened levels, and "
        "whatever builds on it",
    )
    parser.add_argument("--suite", default="primer", help="which suite (default: primer)")
    parser.add_argument("--level", type=int, default=3, help="level of the examples (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(options: argparse.Namespace) -> int:
    if options.validate is not None:
        return _validate(options)
    for name, asked in (
        ("--tree", options.tree),
        ("--export", options.export),
        ("--import", options.source),
        ("--rollback", options.rollback),
    ):
        if asked and options.run is None:
            raise UsageError(f"{name} needs a folder: `moevolve skills DIR {name}`")
    if options.export is not None:
        return _export(options)
    if options.source is not None:
        return _import(options)
    if options.rollback is not None:
        return _roll_back(options)
    return _suite(options) if options.run is None else _run(options)


def _suite(options: argparse.Namespace) -> int:
    from moevolve.cli.suites import named

    chosen = named(options.suite)
    leaves = []
    for path, leaf in chosen.skills.items():
        low, high = leaf.levels
        task = chosen.draw("train", path, min(high, max(low, options.level)), "example")
        leaves.append(
            {
                "path": path,
                "summary": leaf.summary,
                "levels": leaf.levels,
                "requires": list(chosen.requires.get(path, ())),
                "example": {"level": task.level, "prompt": task.prompt, "answer": task.answer},
            }
        )
    if options.json:
        output.data({"suite": chosen.name, "skills": leaves})
    else:
        from moevolve.report import terminal, trees

        rows = {
            leaf.path: (f"{leaf.levels[0]}-{leaf.levels[1]}", leaf.summary, _example(entry["example"]))
            for leaf, entry in zip(chosen.skills.values(), leaves, strict=True)
        }
        terminal.console().print(trees.tree(chosen.name, ("levels", "asks", "example"), rows))
    return 0


def _example(example: object) -> str:
    assert isinstance(example, dict)
    return f"{example['prompt']}{'' if example['answer'] is None else example['answer']}"


def _run(options: argparse.Namespace) -> int:
    from moevolve.report.growth import mastery

    with followed(options.run) as (reader, summary):
        skills = dict(reader.view.skills)
    if options.json:
        output.data(
            {
                "run": summary.run,
                "suite": summary.suite,
                "skills": [
                    {
                        "path": path,
                        "summary": skills[path].summary,
                        "figures": figures,
                        "mastery": mastery(skills[path]),
                    }
                    for path, figures in summary.skills.items()
                ],
                "growth": summary.growth,
            }
        )
        return 0
    from moevolve.report import terminal, trees

    asks = {path: skill.summary for path, skill in skills.items()}
    console = terminal.console()
    if options.tree:
        console.print(trees.whole(summary, asks))
        return 0
    console.print(trees.standing(summary, asks))
    if summary.growth is not None:
        console.print(terminal.growth(summary))
        console.print(trees.changes(summary.growth))
    return 0


def _export(options: argparse.Namespace) -> int:
    from moevolve.loop.skill_export import export_skills

    with opened(options.run) as store:
        files = export_skills(store, options.export)
    if options.json:
        output.data({"path": str(options.export), "files": files})
    else:
        count = sum(name.endswith("SKILL.md") for name in files)
        output.say(f"{count} skills of {options.run}")
        print(options.export)
    return 0


def _import(options: argparse.Namespace) -> int:
    from moevolve.tasks.agent_skills.suite import write
    from moevolve.tasks.agent_skills.tree import imported

    out = options.run / IMPORTED if is_run(options.run) else options.run
    skills = imported(options.source)
    files, untold = write(skills, out)
    leaves = [each.leaf for each in skills]
    if options.json:
        output.data({"path": str(out), "files": files, "skills": leaves, "without_tasks": untold})
        return 0
    from moevolve.report import terminal, trees

    terminal.console().print(
        trees.tree(
            str(options.source),
            ("levels", "examples", "asks"),
            {
                each.leaf.path: (
                    f"{each.leaf.levels[0]}-{each.leaf.levels[1]}",
                    str(len(each.examples)),
                    each.leaf.summary,
                )
                for each in skills
            },
        )
    )
    for path, why in untold.items():
        output.say(f"{line(path)} has no tasks in the suite: {why}.")
    output.say(f"A suite of these skills: `moevolve run --suite {typed(out)}`.")
    return 0


def _validate(options: argparse.Namespace) -> int:
    from moevolve.tasks.agent_skills.folder import folders, validate

    found = {str(folder): validate(folder) for folder in folders(options.validate)}
    broken = {folder: faults for folder, faults in found.items() if faults}
    if options.json:
        output.data({"skills": len(found), "faults": broken})
    else:
        for folder, faults in broken.items():
            for fault in faults:
                print(f"{line(folder)}: {line(fault, 500)}")
        output.say(f"{len(found)} skills, {len(broken)} of them not in order.")
    return 1 if broken else 0


def _roll_back(options: argparse.Namespace) -> int:
    from moevolve.loop.run import roll_back

    with followed(options.run) as (reader, _):
        growth = reader.view.growth
        made = growth.origin(options.rollback) if options.rollback in growth.skills else None
        opened = [
            each for each in growth.in_force() if each.change == "levels" and each.skill == options.rollback
        ]
        change = made.name if made else opened[0].name if opened else options.rollback
    entry = roll_back(options.run, change)
    if options.json:
        output.data({"change": change, "done": entry is not None})
    else:
        output.say(taken_back(options.run, change, entry))
    return 0
