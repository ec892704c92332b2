"""Writes a run's champion, or another variant, as files of its own: its weights as a model that transformers or llama.cpp
load, its program as a folder, both as an agent to start from; or prints the skill tree as JSON."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moevolve.cli import output
from moevolve.cli.reading import followed, opened, variant_of
from moevolve.errors import UsageError
from moevolve.journal.ratings import optimises
from moevolve.journal.reader import read
from moevolve.records import VariantAdded
from moevolve.report.summary import Summary, summarise

if TYPE_CHECKING:
    from moevolve.agents.genome import Genome
    from moevolve.journal.store import RunStore


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="DIR", help="the run's folder")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--weights",
        type=Path,
        metavar="PATH",
        help="the model, an adapter merged into it: a folder in Hugging Face layout, or a file where the name ends in .gguf",
    )
    what.add_argument("--program", type=Path, metavar="DIR", help="the program's files")
    what.add_argument(
        "--agent", type=Path, metavar="DIR", help="the program's files with an agent.toml, to start from"
    )
    what.add_argument(
        "--improver",
        type=Path,
        metavar="DIR",
        help="how the program improves itself (improve.py, proposer/), with its figures; for another agent's folder",
    )
    what.add_argument("--skills", action="store_true", help="print the skill tree with its figures as JSON")
    parser.add_argument(
        "--variant",
        metavar="ID",
        help="which variant, also `seed` (default: the champion; with --improver that whose descendants gained most)",
    )
    parser.add_argument(
        "--dtype",
        metavar="TYPE",
        help="with --weights: f32, bf16 or f16; of a .gguf file q8_0, q4_0 or q4_k, too "
        "(default: what was loaded; f16 of a .gguf file)",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace files that are there; others in the folder stay"
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def execute(options: argparse.Namespace) -> int:
    if options.dtype is not None and options.weights is None:
        raise UsageError("--dtype says how --weights are written")
    if options.skills:
        if options.variant is not None:
            raise UsageError("--skills are the run's, whatever its variants: leave --variant out")
        with followed(options.run) as (_, summary):
            output.data(_skills(summary))
        return 0

    from moevolve.loop import export, improvers
    from moevolve.loop.variants import genome_in
    from moevolve.models.champions import Champion

    with opened(options.run) as store:
        reader = read(store)
        wanted = next((k for k in ("agent", "improver", "weights") if getattr(options, k) is not None), None)
        if wanted is not None and optimises(reader.started):
            raise UsageError(
                f"--{wanted}: {options.run} improved a program for an evaluator, which is no agent and has no model: "
                "--program writes it"
            )
        default = "champion"
        if options.improver is not None and options.variant is None:
            default = improvers.best(store)
        variant = variant_of(options.variant or default, reader, options.run)
        if options.weights is not None:
            kind, out = "weights", options.weights
            chosen = Champion(variant.variant, variant.weights)
            files = export.export_weights(store, chosen, out, dtype=options.dtype, force=options.force)
        else:
            genome = genome_in(store, variant.program)
            if options.agent is not None:
                kind, out = "agent", options.agent
                summary = summarise(reader, store.head(), store.sandbox())
                files = export.export_program(
                    store, genome, out, described=lambda: _manifest(summary, variant), force=options.force
                )
            elif options.improver is not None:
                kind, out = "improver", options.improver
                genome = _packaged(store, genome, reader.started.run, reader.started.suite, variant.variant)
                files = export.export_program(store, genome, out, force=options.force)
            else:
                kind, out = "program", options.program
                files = export.export_program(store, genome, out, force=options.force)
    told = {
        "kind": kind,
        "run": reader.started.run,
        "variant": variant.variant,
        "weights": variant.weights,
        "program": variant.program,
        "path": str(out),
        "files": files,
    }
    if options.json:
        output.data(told)
    else:
        output.say(f"{kind} of {variant.variant}: {', '.join(files)}")
        print(out)
    return 0


def _packaged(store: RunStore, genome: Genome, run: str, suite: str, variant: str) -> Genome:
    """A program's improver with `improver.toml`, which says what it was measured to do."""
    from moevolve.agents.genome import Genome
    from moevolve.journal.text import line
    from moevolve.loop.improvers import files_of, generations
    from moevolve.report.arms import mean_of

    files = files_of(genome)
    found = generations(store, files)
    lines = [
        "# How a program improves itself. Put the files beside a solve.py; this one says where they come from.",
        f'run = "{line(run)}"',
        f'suite = "{line(suite)}"',
        f'variant = "{line(variant)}"',
        "# imp@k: gain of the best of k candidates over the champion, less its luck in being chosen; mean over generations.",
        f"generations = {len(found.gains)}",
        f"k = {found.candidates:.1f}",
    ]
    if found.gains:
        imp = mean_of(found.gains)
        lines.append(f"imp = {imp.mean}")
        lines += [f"imp_ci = [{imp.ci[0]}, {imp.ci[1]}]"] if imp.ci is not None else []
    lines += [f"screened = {found.screened}", f"passed = {found.passed}"]
    return Genome(files={**files, "improver.toml": "\n".join(lines) + "\n"})


def _skills(summary: Summary) -> dict[str, Any]:
    """The skill tree, leaves with their figures."""
    from moevolve.skills.tree import Node, grow

    def nested(node: Node) -> dict[str, Any]:
        here: dict[str, Any] = {"path": node.path, "name": node.name}
        if node.path in summary.skills:
            here["figures"] = summary.skills[node.path]
        if node.children:
            here["children"] = [nested(child) for child in node.children]
        return here

    return {
        "run": summary.run,
        "suite": summary.suite,
        "champion": summary.champion,
        "cycles": summary.cycles,
        "tree": nested(grow(summary.skills)),
        "growth": summary.growth,
    }


def _manifest(summary: Summary, variant: VariantAdded) -> str:
    """An `agent.toml` that says where the agent comes from."""
    from moevolve.journal.text import line

    score = summary.score
    lines = [f"# Variant {variant.variant} of run {line(summary.run)}, suite {line(summary.suite)}."]
    if variant.variant == summary.champion and score.initial is not None:
        after = "" if score.final is None else f", {score.final:.3f} after"
        lines.append(
            f"# On {score.n} sealed tasks with its weights: {score.initial:.3f} before the run{after}."
        )
    lines += [f"# Weights {variant.weights}", f"# Program {variant.program}", 'kind = "function"']
    return "\n".join(lines) + "\n"
