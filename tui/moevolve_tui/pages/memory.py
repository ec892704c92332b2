"""Screen 6: lessons of the run, searched as memory searches; a lesson in whole."""

from __future__ import annotations

from moevolve.errors import MoevolveError
from moevolve.journal.figures import counted, score
from moevolve.journal.kinds import Tone
from moevolve.journal.lessons import Hit, MemoryStore, Query, memory_folder
from moevolve.journal.remembering import brought
from moevolve.journal.text import line, lines
from moevolve.records import Lesson
from moevolve_tui.drawing.rows import Row, fit, middle, rule, text
from moevolve_tui.model import RunModel
from moevolve_tui.pages.page import Page
from moevolve_tui.targets import EntryTarget, LessonTarget, VariantTarget

MOST = 500
"""Most lessons of a list."""


def hits(model: RunModel, wanted: str) -> tuple[list[Hit], str]:
    """Lessons that a search finds, without words the newest; and why there are none."""
    before = None if model.until is None else model.view.cycle + 1
    try:
        with MemoryStore(memory_folder(model.path)) as store:
            return store.search(Query(text=wanted or None, k=MOST, before_cycle=before)), ""
    except (MoevolveError, OSError, ValueError) as error:
        return [], line(str(error))


class MemoryPage(Page):
    NAME = "Memory"
    NUMBER = 6

    def __init__(self, context: object) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self.wanted = ""

    def title(self) -> str:
        return f"Memory  / searches{f': {self.wanted}' if self.wanted else ''}"

    def follows(self, model: RunModel) -> tuple[object, ...]:
        memory = model.view.memory
        return model.view.lessons, memory.recalls, memory.pairs, len(memory.merges), self.wanted

    def build(self, width: int, height: int) -> list[Row]:
        model = self.shown
        if model.optimises:
            return text(
                "An evaluator scores programs in this run: it keeps no lessons. What a program's evaluation said stands "
                "behind Enter on 3",
                width,
                "quiet",
            )
        found, fault = hits(model, self.wanted)
        right = sum(hit.lesson.success for hit in found)
        rows = [
            Row(
                fit(
                    [
                        (f"{model.view.lessons:,} lessons kept by this run", "head"),
                        (f"; shown {len(found)}: {right} right, {len(found) - right} wrong", "quiet"),
                    ],
                    width,
                )
            )
        ]
        counts = model.view.memory
        found_gain = counts.gain
        worth = brought(
            counts.recalls,
            counts.practised,
            None if found_gain is None else found_gain.gain,
            None if found_gain is None else found_gain.interval,
            counts.pairs,
        )
        tone: Tone = "quiet"
        if found_gain is not None:
            tone = "good" if found_gain.interval[0] > 0 else "bad" if found_gain.interval[1] < 0 else "plain"
        rows += text(worth, width, tone)
        if counts.merges:
            newest = list(counts.merges.items())[-1]
            words = f"{counted(len(counts.merges), 'merge')} of lessons that say the same, last {newest[0]}"
            rows.append(Row(fit([(words, "quiet")], width), EntryTarget(newest[1])))
        if fault:
            return [*rows, *text(fault, width, "warn")]
        # Beside another pane a lesson's text comes before the whole of its skill's name.
        longest = max([len(line(hit.lesson.skill)) for hit in found] + [5])
        name = min(22 if width >= 70 else 14, longest)
        rows.append(
            Row(fit([(f"{'id':<9} {'skill':<{name}} {'level':>5} {'':<6} trust text", "quiet")], width))
        )
        for hit in found:
            lesson = hit.lesson
            rows.append(
                Row(
                    fit(
                        [
                            (f"{line(lesson.id, 8):<9} ", "quiet"),
                            (f"{middle(line(lesson.skill), name):<{name}} {lesson.level:>5} ", "plain"),
                            ("right  " if lesson.success else "wrong  ", "good" if lesson.success else "bad"),
                            (f" {score(hit.trust)}{'*' if hit.pinned else ' '} ", "quiet"),
                            (_said(lesson), "plain"),
                        ],
                        width,
                    ),
                    LessonTarget(lesson),
                )
            )
        if not found:
            rows.append(Row([("no lesson" if not self.wanted else "no lesson like that", "quiet")]))
        rows.append(
            Row(
                fit(
                    [
                        (
                            "trust is how far outcomes speak for a lesson, * is pinned; `moevolve memory` keeps lessons",
                            "quiet",
                        )
                    ],
                    width,
                )
            )
        )
        return rows


def _said(lesson: Lesson) -> str:
    if not lesson.prompt:
        return line(lesson.text, 200)
    return f"{line(lesson.prompt, 200)} > {line(lesson.answer, 200)}"


class LessonPage(Page):
    NAME = "Lesson"

    def __init__(self, context: object, lesson: Lesson) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self.lesson = lesson

    def title(self) -> str:
        return f"Lesson  {line(self.lesson.id, 24)}"

    def build(self, width: int, height: int) -> list[Row]:
        lesson = self.lesson
        row = self.shown.view.variants.row(lesson.variant)
        return [
            rule(
                f"{line(lesson.skill)} level {lesson.level}, {'right' if lesson.success else 'wrong'}", width
            ),
            Row(
                [
                    (f"cycle {lesson.cycle} of run {line(lesson.run, 40)}, by ", "quiet"),
                    (line(lesson.variant), "head"),
                ],
                None if row is None else VariantTarget(row, lesson.variant),
            ),
            rule("Prompt", width),
            *text(lines(lesson.prompt), width),
            rule("Answer", width),
            *text(lines(lesson.answer), width, "good" if lesson.success else "bad"),
            rule("Searched as", width),
            *text(lines(lesson.text), width, "quiet"),
            *self._sources(width),
        ]

    def _sources(self, width: int) -> list[Row]:
        """The lessons that it was made of."""
        if not self.lesson.sources:
            return []
        return [
            rule(f"Made of {counted(len(self.lesson.sources), 'lesson')} that said the same", width),
            *text(", ".join(line(each, 32) for each in self.lesson.sources), width, "quiet"),
        ]
