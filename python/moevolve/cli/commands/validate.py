"""Proves a suite: gold answers score 1, constant and cheap ones do not, and says what a gate can detect with its tasks."""

from __future__ import annotations

import argparse

from moevolve.cli import output


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "suite",
        metavar="SUITE",
        help="a folder with tasks.jsonl, a Python file that defines skills, or a name",
    )
    parser.add_argument(
        "--samples", type=int, default=400, metavar="N", help="tasks of each skill (default: 400)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(options: argparse.Namespace) -> int:
    from moevolve.cli.suites import named
    from moevolve.config import Config
    from moevolve.gate.finite import detectable, pools
    from moevolve.gate.spending import AlphaSpending
    from moevolve.loop.resolve import with_limits
    from moevolve.rollouts.grading import Given, SealedGrader
    from moevolve.tasks.tools.toolbox import Tools

    suite = named(options.suite)
    output.say(f"Proving {len(suite.skills)} skill{'s' * (len(suite.skills) != 1)} of {suite.name}")
    tools = Tools(suite.tools, suite.servers, suite.folder, suite.environments)
    try:
        _ = tools.tools  # As a run does, which cannot go on without them.
    finally:
        tools.close()
    config = Config.load("quickstart")
    judge = SealedGrader(suite, with_limits(config, suite).sandbox)
    try:
        judge.prove()
        report = suite.validate(
            options.samples,
            lambda given: judge.grade(
                [Given(*each, index) for index, each in enumerate(given)], ("validate",)
            ),
        )
    finally:
        judge.close()
    few = pools(suite)
    first = AlphaSpending(alpha=config.gate.alpha).level
    shown = detectable(sum(few.values()), first) if len(few) == len(suite.skills) else None
    if options.json:
        gate = {"tasks": sum(few.values()), "alpha": first, "detectable": shown} if few else None
        output.data({"suite": report.suite, "ok": report.ok, "leaves": report.leaves, "gate": gate})
    else:
        from moevolve.report import terminal, trees

        console = terminal.console()
        console.print(trees.validation(report))
        if len(few) == len(suite.skills):
            count = sum(few.values())
            least = "no gain at all" if shown is None else f"a gain of {shown:+.2f} or more"
            console.print(
                f"The gate has {count} tasks, which one decision spends: it can show {least} (in 8 of 10 tries, at an error "
                f"rate of {first:.3g}), and nothing smaller."
            )
    for problem in report.problems:
        output.say(problem)
    return 0 if report.ok else 1
