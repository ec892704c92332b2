"""Scores an agent and the bare policy on a suite, without evolving anything."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moevolve.cli import output
from moevolve.cli.commands.run import own_settings, policy_settings
from moevolve.config import Config, parse_settings
from moevolve.config.source import preset_of
from moevolve.errors import UsageError

if TYPE_CHECKING:
    from moevolve.loop.evaluation import Evaluation, Measured


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "suite",
        metavar="SUITE",
        help="a folder with tasks.jsonl, a Python file that defines skills, or a name",
    )
    parser.add_argument(
        "--agent", metavar="DIR", help="an agent's folder (default: the seed, or the run's champion)"
    )
    parser.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="a run whose champion is scored, under the run's own settings and splits",
    )
    parser.add_argument(
        "--model",
        metavar="PATH|NAME",
        help="a model's folder, a GGUF file, or a run, whose champion's weights answer; with --endpoint its name",
    )
    parser.add_argument(
        "--device",
        metavar="D",
        help="what computes the model: cpu, cuda:N or auto (default: cpu, or the run's)",
    )
    parser.add_argument("--endpoint", metavar="URL", help="an OpenAI-compatible server that answers")
    parser.add_argument("--key-env", metavar="VAR", help="with --endpoint: the variable that holds its key")
    parser.add_argument("--price", metavar="FILE", help="with --endpoint: TOML file of prices")
    parser.add_argument(
        "--split",
        action="append",
        metavar="SPLIT",
        help="train, dev, gate or sealed; may be given again (default: train and dev, so that the rest stays unseen)",
    )
    parser.add_argument(
        "--each", type=int, default=4, metavar="N", help="tasks a (skill, level) of a generator (default: 4)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="which tasks and samples, with --run within the run's splits (default: 0)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any key of a run's file; with --run on top of the run's",
    )
    parser.add_argument("--attempts", type=Path, metavar="FILE", help="write every attempt as a line of JSON")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")


def execute(options: argparse.Namespace) -> int:
    from moevolve.loop.champion import configuration
    from moevolve.loop.evaluation import evaluate

    if options.run is not None and (options.model or options.endpoint):
        raise UsageError("--run brings its own policy: leave --model and --endpoint out")
    if options.each < 1:
        raise UsageError("--each is at least 1")
    given = policy_settings(options) | own_settings(options) | parse_settings(options.set)
    seed = None
    if options.run is None:
        preset = preset_of(options.model, options.endpoint)
        config = Config.load(preset, {"seed": 0} | given).override(seed=options.seed)
    else:
        config, seed = configuration(options.run, given), options.seed or 0
    splits = tuple(dict.fromkeys(options.split or ("train", "dev")))
    done = evaluate(config, splits, options.each, options.run, lambda what: output.say(f"... {what}"), seed)
    if options.attempts is not None:
        _write(done, options.attempts)
    if options.json:
        output.data(
            {"suite": done.suite, "answers": done.answers, "splits": splits, "tokens": done.tokens}
            | {"agent": _figures(done.agent), "bare": _figures(done.bare)}
        )
        return 0
    from moevolve.report import terminal, trees

    rows = {
        path: (_of(done.agent, path), _of(done.bare, path), str(score.n))
        for path, score in done.agent.skills.items()
    }
    whose = "the policy" if done.answers == "policy" else "policy and program"
    title = f"{done.suite}: {', '.join(splits)}; answers by {whose}"
    console = terminal.console()
    console.print(trees.tree(title, ("agent", "bare policy", "tasks"), rows))
    for name, measured in (("agent", done.agent), ("bare policy", done.bare)):
        told = measured.score
        console.print(
            f"{name}: {told.mean:.3f} [{told.low:.3f}, {told.high:.3f}] on {told.n} tasks{_failures(measured)}"
        )
    return 0


def _of(measured: Measured, path: str) -> str:
    score = measured.skills.get(path)
    return "-" if score is None else f"{score.score:.3f}"


def _failures(measured: Measured) -> str:
    counts: dict[str, int] = {}
    for attempt in measured.attempts:
        if attempt.verdict.failure not in (None, "wrong"):
            counts[str(attempt.verdict.failure)] = counts.get(str(attempt.verdict.failure), 0) + 1
    return "".join(f"; {count} {failure}" for failure, count in sorted(counts.items()))


def _figures(measured: Measured) -> dict[str, Any]:
    return {
        "score": measured.score.mean,
        "score_ci": (measured.score.low, measured.score.high),
        "n": measured.score.n,
        "skills": measured.skills,
    }


def _write(done: Evaluation, file: Path) -> None:
    import msgspec

    with file.open("wb") as target:
        for who, measured in (("agent", done.agent), ("bare", done.bare)):
            for attempt in measured.attempts:
                row = {
                    "who": who,
                    "task": attempt.task.id,
                    "prompt": attempt.task.prompt,
                    "answer": attempt.answer,
                    "score": attempt.verdict.score,
                    "failure": attempt.verdict.failure,
                    "detail": attempt.verdict.detail,
                }
                target.write(msgspec.json.encode(row) + b"\n")
