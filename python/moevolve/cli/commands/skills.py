"""Prints a suite's skill tree with an example of each leaf, or how a run stands on its tree."""

from __future__ import annotations

import argparse
from pathlib import Path

from moevolve.cli import output
from moevolve.cli.reading import followed


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", nargs="?", type=Path, metavar="DIR", help="a run's folder (default: the suite itself)"
    )
    parser.add_argument("--suite", default="primer", help="which suite (default: primer)")
    parser.add_argument("--level", type=int, default=3, help="level of the examples (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(options: argparse.Namespace) -> int:
    if options.run is not None:
        return _run(options)
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
    with followed(options.run) as (reader, summary):
        asks = {path: skill.summary for path, skill in reader.view.skills.items()}
    if options.json:
        output.data(
            {
                "run": summary.run,
                "suite": summary.suite,
                "skills": [
                    {"path": path, "summary": asks[path], "figures": figures}
                    for path, figures in summary.skills.items()
                ],
            }
        )
    else:
        from moevolve.report import terminal, trees

        terminal.console().print(trees.standing(summary, asks))
    return 0
