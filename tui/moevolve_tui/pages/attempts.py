"""Attempts that were kept: lists of them, and one with its prompt, requests, answer and verdict."""

from __future__ import annotations

from collections.abc import Sequence

from moevolve.errors import MoevolveError
from moevolve.journal import samples
from moevolve.journal.kinds import Tone
from moevolve.journal.text import line, lines
from moevolve_tui.drawing.glossary import verbs
from moevolve_tui.drawing.rows import Row, fit, rule, text
from moevolve_tui.model import RunModel
from moevolve_tui.pages.page import Page
from moevolve_tui.targets import SampleTarget, VariantTarget

STAGES = {
    "direct": "train tasks, the bare policy",
    "again": "train tasks that it had failed, the bare policy",
    "program": "train tasks, through the program",
    "screen": "screening on train tasks",
    "gate": "the gate: tasks on which one side alone was right",
    "dev": "dev tasks",
}


def kept(
    model: RunModel, *, cycle: int | None = None, variant: str | None = None, limit: int = 100
) -> list[SampleTarget]:
    """Attempts on file, the newest cycle first; empty where there are none, or where they cannot be read."""
    if model.folder is None:
        return []
    try:
        until = None if model.until is None else model.view.cycle
        found = samples.stages(model.folder, cycle=cycle, variant=variant, until=until, limit=limit)
    except (MoevolveError, OSError, ValueError):
        return []
    return [
        SampleTarget(stage.cycle, stage.stage, stage.variant, each)
        for stage in found
        for each in stage.samples
    ]


def known_verbs(model: RunModel) -> dict[str, str]:
    """What the verbs of the run's prompts stand for, by the attempts on file."""
    return verbs((each.sample.skill, each.sample.prompt) for each in kept(model))


def verdict(target: SampleTarget) -> tuple[str, Tone]:
    """How an attempt ended, in a word."""
    sample = target.sample
    if sample.other_success is not None:
        return ("won", "good") if sample.success else ("lost", "bad")
    return ("right", "good") if sample.success else (line(sample.failure or "wrong", 12), "bad")


def failures_first(found: Sequence[SampleTarget]) -> list[SampleTarget]:
    """Attempts that failed before those that did not: they are what is looked for."""
    return sorted(found, key=lambda each: each.sample.success)


def sample_rows(found: Sequence[SampleTarget], width: int) -> list[Row]:
    """One row an attempt."""
    if not found:
        return [Row([("none on file", "quiet")])]
    rows = []
    for each in found:
        sample = each.sample
        words, tone = verdict(each)
        shown = f"{line(sample.prompt, 300)} > {line(sample.answer, 300) or '(no answer)'}"
        rows.append(
            Row(
                fit(
                    [
                        (f"c{each.cycle:<3} ", "quiet"),
                        (f"{words[:9]:<9} ", tone),
                        (f"{line(sample.skill, 20):<20} {sample.level:>2} ", "quiet"),
                        (shown, "plain"),
                    ],
                    width,
                ),
                each,
            )
        )
    return rows


class AttemptsPage(Page):
    """The kept attempts of a variant, or of all."""

    NAME = "Attempts"

    def __init__(self, context: object, variant: str | None = None, stage: str | None = None) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self.variant, self.stage = variant, stage

    def title(self) -> str:
        return f"Attempts  {self.variant or 'all'}"

    def build(self, width: int, height: int) -> list[Row]:
        found = kept(self.shown, variant=self.variant)
        rows: list[Row] = []
        for stage, words in STAGES.items():
            of = failures_first([each for each in found if each.stage == stage])
            if of and self.stage in (None, stage):
                rows += [rule(f"{words}, {len(of)} kept", width), *sample_rows(of, width)]
        if rows:
            return rows
        none = "No attempts of this variant are on file: of each stage a bounded choice is kept"
        if self.shown.optimises:
            none = "An evaluator scores whole programs in this run: Enter on 3 shows what it said of one"
        return text(none, width, "quiet")


class AttemptPage(Page):
    """One attempt, in whole."""

    NAME = "Attempt"

    def __init__(self, context: object, target: SampleTarget) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self.found = target

    def title(self) -> str:
        return f"Attempt  {self.found.sample.task}"

    def build(self, width: int, height: int) -> list[Row]:
        target, sample = self.found, self.found.sample
        words, tone = verdict(target)
        row = self.shown.view.variants.row(target.variant)
        rows = [
            rule(f"{line(sample.skill)} level {sample.level}", width),
            Row(
                [
                    (f"cycle {target.cycle}, {STAGES.get(target.stage, line(target.stage))}, by ", "quiet"),
                    (line(target.variant), "head"),
                ],
                None if row is None else VariantTarget(row, target.variant),
            ),
            Row([("verdict: ", "quiet"), (f"{words}, score {sample.score:.3g}", tone)]),
        ]
        if sample.detail:
            rows += text(lines(sample.detail), width, "warn", indent=2)
        rows += [rule("Prompt", width), *text(lines(sample.prompt), width)]
        if sample.requests:
            rows += requests(f"Requests of the program, {len(sample.requests)} kept", sample.requests, width)
        else:
            rows += [Row([("The program's requests in this stage are not on file", "quiet")])]
        rows += [rule("Answer", width), *text(lines(sample.answer) or "(no answer)", width, tone)]
        if sample.other_success is not None:
            rows += [
                rule(f"The champion's answer, {'right' if sample.other_success else 'wrong'}", width),
                *text(lines(sample.other or "(no answer)"), width),
            ]
        if sample.other_requests:
            rows += requests(
                f"Requests of the champion's program, {len(sample.other_requests)} kept",
                sample.other_requests,
                width,
            )
        return rows


def requests(title: str, asked: Sequence[tuple[str, str]], width: int) -> list[Row]:
    """What a program asked the policy in an attempt, and what it drew."""
    rows = [rule(title, width)]
    for number, (words, drawn) in enumerate(asked, 1):
        rows += text(f"{number} asked: {lines(words)}", width, "quiet")
        rows += text(f"  drawn: {lines(drawn)}", width)
    return rows
