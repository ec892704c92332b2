"""Screen 2: the skill tree with intervals, and a skill by level."""

from __future__ import annotations

import msgspec

from moevolve.journal import decisions
from moevolve.journal.figures import level as level_text
from moevolve.journal.figures import score
from moevolve.journal.intervals import wilson
from moevolve.journal.kinds import Tone
from moevolve.journal.kinds.growth import said
from moevolve.journal.scores import Skill
from moevolve.journal.text import line
from moevolve.records import Gated
from moevolve_tui.drawing.rows import Row, fit, rule, text
from moevolve_tui.drawing.skills import skill_line, tree_rows
from moevolve_tui.drawing.words import ends
from moevolve_tui.model import RunModel
from moevolve_tui.pages import evaluations
from moevolve_tui.pages.attempts import kept, sample_rows
from moevolve_tui.pages.page import Page
from moevolve_tui.targets import EntryTarget, FoldTarget, SkillTarget

SORTS = ("name", "gain", "score now")


class SkillsPage(Page):
    NAME = "Skills"
    NUMBER = 2

    def __init__(self, context: object) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self._closed: frozenset[str] = frozenset()

    def title(self) -> str:
        if self.context.model is not None and self.context.model.optimises:
            return "Skills  none: what the evaluator measures"
        return "Skills"

    def hints(self) -> tuple[str, ...]:
        if self.context.model is not None and self.context.model.optimises:
            return ()
        return "before > now, change ±95 %", "L level mastered", f"O sorts: {SORTS[self.context.sort % 3]}"

    def follows(self, model: RunModel) -> tuple[object, ...]:
        # Skills change with scores and attempts alone, and levels take some time to work out.
        view = model.view
        return (
            len(view.curve),
            len(view.practice.cycles),
            len(view.changes),
            view.cycle,
            view.growth.tries,
            len(view.growth.in_force()),
            view.growth.scored is not None,
            view.ratings.evaluations,
            self._closed,
        )

    def build(self, width: int, height: int) -> list[Row]:
        view = self.shown.view
        if self.shown.optimises:
            return evaluations.skills_rows(self.shown, width)
        leaves = [found.interval for skill in view.skills.values() if (found := skill.gain) is not None]
        up = sum(low > 0 for low, _ in leaves)
        down = sum(high < 0 for _, high in leaves)
        split = next((skill.split for skill in view.skills.values()), "dev")
        noise = len(leaves) - up - down
        head = f"{len(view.skills)} skills: {up} up, {down} down, {noise} within noise (95 %), {split} tasks"
        if not leaves:
            head = f"{len(view.skills)} skills, {split} tasks: one score each so far, no change can be told"
        if view.growth.skills or view.growth.opened:
            new = len(view.growth.skills)
            head += f"; grown {new} {'leaf' if new == 1 else 'leaves'}, {len(view.growth.opened)} with more levels"
        tree = tree_rows(view, self._closed)
        sort = self.context.sort % 3
        if sort:
            tree = [row for row in tree_rows(view) if row.leaf]
            tree = [msgspec.structs.replace(row, name=row.path, depth=0) for row in tree]
            order = (
                (lambda row: row.change[0] if row.change else 0.0)
                if sort == 1
                else (lambda row: row.now if row.now is not None else row.before or 0.0)
            )
            tree.sort(key=order, reverse=True)
        rows = text(head, width, "head")
        for row in tree:
            target = SkillTarget(row.path) if row.leaf else FoldTarget(row.path)
            rows.append(Row(fit(skill_line(row, width, open=row.path not in self._closed), width), target))
        legend = "+ rose, ! fell beyond its interval; a level L is mastered from .80 on"
        if view.growth.skills or view.growth.opened:
            legend += "; g: grown, with its sealed tasks of the growth column alone"
        rows += text(legend, width, "quiet")
        return [*rows, *self._growth(width)]

    def _growth(self, width: int) -> list[Row]:
        """Changes of the tree that were tried, newest first."""
        changes = list(self.shown.view.growth.changes)[::-1]
        rows = [rule("Growth of the tree, in no score", width)] if changes else []
        for change in changes[:200]:
            words = said(change.change, change.skill, list(change.parents), list(change.leaves))
            tone: Tone = "good" if change.state == "added" else "quiet"
            text_of = f"{change.name} cycle {change.cycle}, {change.state}: {words} ({change.reason})"
            rows += text(text_of, width, tone, EntryTarget(change.seq))
        return rows

    def fold(self, index: int, open: bool) -> bool:
        target = self.target(index)
        if not isinstance(target, FoldTarget):
            return False
        self._closed = self._closed - {target.key} if open else self._closed | {target.key}
        return True


class SkillPage(Page):
    """A skill: what it is, its score, its levels by what was tried, the gate's figures of it, kept attempts."""

    NAME = "Skill"

    def __init__(self, context: object, path: str) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self.path = path

    def title(self) -> str:
        return f"Skill  {self.path}"

    def build(self, width: int, height: int) -> list[Row]:
        view = self.shown.view
        skill = view.skills.get(self.path) or view.growth.skills.get(self.path)
        if skill is None:
            return text(f"This run has no skill {self.path}", width, "quiet")
        rows = [rule(self.path, width), *text(skill.summary, width)]
        found = skill.gain
        first, newest = skill.first.get(skill.split), skill.newest.get(skill.split)
        if first is not None:
            words = f"{skill.split}: {score(first.score)} n={first.n}"
            if newest is not None and found is not None:
                words += f" > {score(newest.score)} n={newest.n}, {ends(*found.interval)} (95 %)"
            rows.append(Row([(words, "plain")]))
        level = skill.level
        rows.append(
            Row(
                [
                    (
                        f"level mastered: {level_text(*level) if level else 'not tried'} (95 %), from {score(0.8)} on",
                        "plain",
                    )
                ]
            )
        )
        rows += self._grown(width)
        rows += self._levels(skill, width)
        failures = ", ".join(
            f"{count:,} {line(kind)}"
            for kind, count in sorted(skill.failures.items(), key=lambda each: -each[1])
        )
        rows += text(f"failures on train tasks: {failures or 'none'}", width, "quiet")
        rows += self._gates(width)
        samples = [target for target in kept(self.shown, limit=60) if target.sample.skill == self.path]
        return [*rows, rule("Attempts kept, newest first", width), *sample_rows(samples[:80], width)]

    def _grown(self, width: int) -> list[Row]:
        """How the tree came to the leaf or to its levels, and its growth column."""
        growth = self.shown.view.growth
        rows: list[Row] = []
        for change in growth.in_force():
            if change.skill == self.path or any(self.path == path for path, _ in change.leaves):
                words = said(change.change, change.skill, list(change.parents), list(change.leaves))
                rows.append(
                    Row(
                        fit(
                            [(f"{change.name} cycle {change.cycle}: {words} ({change.reason})", "good")],
                            width,
                        ),
                        EntryTarget(change.seq),
                    )
                )
        share = growth.scores.get(self.path)
        if share is not None:
            rate = wilson(share.score * share.n, share.n)
            said_so = f"growth column: {score(share.score)} n={share.n}, {ends(rate.low, rate.high)} (95 %), in no score"
            rows.append(Row([(said_so, "sealed")]))
        return rows

    def _levels(self, skill: Skill, width: int) -> list[Row]:
        if not skill.practice:
            return [Row([("no attempts on train tasks yet", "quiet")])]
        rows = [
            rule("Train tasks, right of tried (95 %)", width),
            Row([(f"level  {'bare policy':<25} {'through the program':<25} now (posterior)", "quiet")]),
        ]
        known = skill.mastery
        for level, (bare, of_bare, through, of_through) in sorted(skill.practice.items()):
            now = known.get(level)
            posterior = f"{score(now.mean):>4} [{score(now.low)}, {score(now.high)}]" if now else "–"
            rates = f"{_rate(bare, of_bare):<25} {_rate(through, of_through):<25}"
            rows.append(Row(fit([(f"{level:>5}  {rates} {posterior}", "plain")], width)))
        return rows

    def _gates(self, width: int) -> list[Row]:
        """What the newest promotions did to the skill, by the gate's pairs."""
        rows: list[Row] = []
        for seq in list(self.shown.view.changes)[-8:][::-1]:
            record = decisions.behind(self.shown.view, self.shown.entry, seq)
            if isinstance(record, Gated) and self.path in record.skills:
                gained = record.skills[self.path]
                pairs = sum(len(each.candidate) for each in record.pairs if each.skill == self.path)
                tone: Tone = "plain"
                of = f" of {pairs} pairs" if pairs else ""
                rows.append(
                    Row(fit([(f"moved by {line(record.candidate)}: {gained:+.3f}{of}", tone)], width))
                )
        return [rule("At the gate", width), *rows] if rows else []


def _rate(right: int, tried: int) -> str:
    if not tried:
        return "–"
    found = wilson(right, tried)
    return f"{f'{right}/{tried}':<8} {score(found.mean):>4} [{score(found.low)}, {score(found.high)}]"
