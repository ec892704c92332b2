"""Optimisation runs on the screens: what an evaluator says of programs, where other runs have skills and a gate."""

from __future__ import annotations

from moevolve.errors import MoevolveError
from moevolve.journal import evaluations
from moevolve.journal.averages import mean
from moevolve.journal.drawing.chart import Series, chart_lines
from moevolve.journal.figures import UNKNOWN, counted
from moevolve.journal.kinds import Tone
from moevolve.journal.text import line, lines
from moevolve.records import Improved, Rated
from moevolve_tui.drawing.rows import Row, fit, rule, table, text
from moevolve_tui.drawing.words import chance, difference, rating
from moevolve_tui.model import RunModel
from moevolve_tui.targets import EntryTarget

MOST_METRICS = 200
MOST_CHARACTERS = 4000
"""Characters of one artifact that are shown."""


def rated_of(model: RunModel, row: int | None) -> tuple[int, Rated] | None:
    """A variant's newest evaluation, and the number of its record."""
    seq = None if row is None else model.view.ratings.place(row)
    entry = None if seq is None else model.entry(seq)
    if seq is None or entry is None or not isinstance(entry.record, Rated):
        return None
    return seq, entry.record


def improved_of(model: RunModel, name: str) -> tuple[int, Improved] | None:
    """The newest decision about a program, of the last thousand, and the number of its record."""
    for seq in reversed(model.view.ratings.decisions[-1000:]):
        entry = model.entry(seq)
        if entry is not None and isinstance(entry.record, Improved) and entry.record.candidate == name:
            return seq, entry.record
    return None


def champion_rows(model: RunModel, width: int, height: int) -> list[Row]:
    """The champion's score by evaluation, a step at each promotion."""
    ratings = model.view.ratings
    points: list[tuple[float, float]] = []
    for at, score in zip(ratings.champions_at, ratings.champions, strict=True):
        if points:
            points.append((float(at), points[-1][1]))
        points.append((float(at), score))
    if points and ratings.evaluations - 1 > points[-1][0]:
        points.append((float(ratings.evaluations - 1), points[-1][1]))
    chart = chart_lines(
        [Series("champion", points)], width, max(3, height - 1), message="no program has a score yet"
    )
    return [rule("Champion's score by evaluation", width), *(Row(each) for each in chart)]


def counts_rows(model: RunModel, width: int) -> list[Row]:
    """Evaluations, and those that failed by what happened."""
    ratings = model.view.ratings
    words = f"{counted(ratings.evaluations, 'evaluation')}, {ratings.rechecks:,} of them second looks"
    rows = [rule("Evaluations", width), Row(fit([(words, "plain")], width))]
    failed = sum(ratings.failures.values())
    if failed:
        kinds = ", ".join(
            f"{count:,} {line(kind, 24).replace('_', ' ')}"
            for kind, count in sorted(ratings.failures.items(), key=lambda each: -each[1])
        )
        rows += text(f"{failed:,} failed: {kinds}", width, "warn")
    noise = "scores differ from one evaluation to the next" if ratings.noisy else "no score has differed yet"
    rows.append(Row(fit([(noise, "quiet")], width)))
    return rows


def decision_line(record: Improved) -> tuple[str, Tone]:
    """A decision about a better program in one line."""
    ours, theirs = record.candidate_scores, record.champion_scores
    score = mean(ours) if ours else None
    words = f"{rating(score)}"
    if theirs and score is not None:
        words += f", {difference(score - mean(theirs))} over {line(record.champion, 10)}"
    if record.rule == "permutation":
        words += f", n={len(ours)}"
        words += "" if record.p is None else f", p {chance(record.p)}"
    else:
        words += ", the same twice"
    return words, "good" if record.decision == "promote" else "warn"


def improved_rows(model: RunModel, name: str, width: int) -> list[Row]:
    """How a program became champion, or why not; nothing where nothing was decided about it."""
    found = improved_of(model, name)
    if found is None:
        return []
    seq, record = found
    words, tone = decision_line(record)
    decided = "promoted" if record.decision == "promote" else "kept in the archive"
    rows = [rule("Decision", width), Row(fit([(f"{decided}: {words}", tone)], width), EntryTarget(seq))]
    for who, scores in (
        (record.candidate, record.candidate_scores),
        (record.champion, record.champion_scores),
    ):
        shown = " ".join(rating(each) for each in scores) or "none"
        rows += text(f"{line(who, 10)}: {shown}", width, "quiet")
    if record.p is not None and record.alpha is not None:
        rows += text(
            f"exact permutation test: p {chance(record.p)}, needed {chance(record.alpha)}", width, "quiet"
        )
    return rows


def verdict_rows(model: RunModel, row: int, width: int) -> list[Row]:
    """What the evaluator said of a program: score or failure, metrics, artifacts, what it printed."""
    found = rated_of(model, row)
    if found is None:
        return [rule("Evaluation", width), Row([("not evaluated yet", "quiet")])]
    seq, record = found
    rows = [rule(f"Evaluation {record.evaluation:,}", width)]
    if record.failure is None:
        rows.append(Row([("score ", "quiet"), (rating(record.score), "head")], EntryTarget(seq)))
    else:
        failure = line(record.failure, 40).replace("_", " ")
        rows.append(Row([("failed: ", "quiet"), (failure, "bad")], EntryTarget(seq)))
    if record.detail:
        rows += text(lines(record.detail), width, "warn", indent=2)
    rows += metric_rows([record], [""], width)
    for name, words in _told(model, record.evaluation):
        rows += [rule(line(name, 40), width), *text(words, width, "quiet")]
    return rows


def _told(model: RunModel, evaluation: int) -> list[tuple[str, str]]:
    if model.folder is None:
        return []
    try:
        found = evaluations.told(model.folder, evaluation)
    except (MoevolveError, OSError, ValueError) as error:
        return [("artifacts", line(str(error)))]
    if found is None:
        return []
    named = [(f"artifact {name}", value) for name, value in sorted(found.artifacts.items())]
    named += [("printed", found.output)] if found.output else []
    return [
        (name, lines(value if len(value) <= MOST_CHARACTERS else value[: MOST_CHARACTERS - 1] + "…"))
        for name, value in named
    ]


def metric_rows(records: list[Rated], names: list[str], width: int) -> list[Row]:
    """Metrics of one evaluation or of several beside each other, with the difference of the last two."""
    keys = list(dict.fromkeys(key for record in records for key in record.metrics))[:MOST_METRICS]
    if not keys:
        return []
    size = max(12, min(32, width - 14 * (len(records) + 1)))
    heads: list[tuple[str, Tone]] = [("metric", "quiet"), *((name, "quiet") for name in names)]
    two = len(records) > 1
    cells = [heads + ([("change", "quiet")] if two else [])] if two else []
    for key in keys:
        values = [record.metrics.get(key) for record in records]
        row: list[tuple[str, Tone]] = [(line(key, size), "plain")]
        row += [(_value(value), "plain") for value in values]
        if two:
            row.append((_changed(values[-2], values[-1]), "quiet"))
        cells.append(row)
    widths = [size, *([-13] * (len(records) + two))]
    return [rule("Metrics", width), *(Row(fit(each.line, width)) for each in table(cells, widths))]


def _value(value: float | bool | str | None) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return line(value, 40) if isinstance(value, str) else rating(value)


def _changed(before: float | bool | str | None, after: float | bool | str | None) -> str:
    numbers = [
        each for each in (before, after) if isinstance(each, int | float) and not isinstance(each, bool)
    ]
    return difference(numbers[1] - numbers[0]) if len(numbers) == 2 else ""


def compared_rows(model: RunModel, before: int, after: int, width: int) -> list[Row]:
    """Scores and metrics of two programs beside each other."""
    variants = model.view.variants
    found = [rated_of(model, row) for row in (before, after)]
    names = [line(variants.name(row), 12) for row in (before, after)]
    scores = [None if each is None else each[1].score for each in found]
    words = f"score {rating(scores[0])} > {rating(scores[1])}"
    if scores[0] is not None and scores[1] is not None:
        words += f", {difference(scores[1] - scores[0])}; one evaluation each"
    rows = [rule(f"What the evaluator said, {names[0]} and {names[1]}", width)]
    rows.append(Row(fit([(words, "plain")], width)))
    records = [each[1] for each in found if each is not None]
    return rows + (metric_rows(records, names, width) if len(records) == 2 else [])


def skills_rows(model: RunModel, width: int) -> list[Row]:
    """What stands in place of a skill tree: metrics of the initial program and of the champion."""
    rows = text(
        "An evaluator scores whole programs here: there is no skill tree. Its numbers, of the initial program and of the "
        "champion:",
        width,
        "quiet",
    )
    champion = model.view.variants.row(model.view.champion)
    if champion is None or not len(model.view.variants):
        return [*rows, *text("No program was evaluated yet", width, "quiet")]
    return [*rows, *compared_rows(model, 0, champion, width)]
