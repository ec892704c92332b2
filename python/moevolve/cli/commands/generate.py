"""Lets a policy complete prompts: those given, or one a line from stdin."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from moevolve.cli import output
from moevolve.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prompts", nargs="*", metavar="PROMPT", help="what to complete (default: lines from stdin)"
    )
    parser.add_argument(
        "--model", type=Path, metavar="PATH", help="folder of a checkpoint (default: the shipped seed)"
    )
    parser.add_argument("-n", "--n", type=int, default=1, help="completions of each prompt (default: 1)")
    parser.add_argument(
        "--max-tokens", type=int, default=64, help="most tokens of a completion (default: 64)"
    )
    parser.add_argument(
        "--temperature", type=float, help="0 is greedy (default: 0 for one completion, else 1)"
    )
    parser.add_argument("--top-p", type=float, default=1.0, help="nucleus mass in (0, 1] (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="draws other samples (default: 0)")
    parser.add_argument("--threads", type=int, default=0, help="threads of the engine (default: every core)")
    parser.add_argument(
        "--json", action="store_true", help="print prompts, completions, tokens and log-probabilities"
    )


def execute(options: argparse.Namespace) -> int:
    prompts: list[str] = options.prompts
    if not prompts:
        if sys.stdin.isatty():
            raise UsageError(
                "give a prompt, such as `moevolve generate rev:abcd=`, or pipe one a line into stdin"
            )
        prompts = [text for text in sys.stdin.read().splitlines() if text]

    from moevolve.policy.checkpoint import seed_checkpoint
    from moevolve.policy.engine import Engine

    engine = Engine.load(options.model or seed_checkpoint(), threads=options.threads)
    answers = engine.generate(
        prompts,
        max_tokens=options.max_tokens,
        n=options.n,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
    )
    if options.json:
        output.data(
            [
                {"prompt": prompt, "completions": list(samples)}
                for prompt, samples in zip(prompts, answers, strict=True)
            ]
        )
        return 0
    for samples in answers:
        for completion in samples:
            print(completion.text)
    return 0
