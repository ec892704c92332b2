"""A run's skill tree as Agent Skills: leaves with mastery and scores, and what the run learnt of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moevolve.agents.plans.behaviour import Behaviour
from moevolve.errors import UsageError
from moevolve.journal import samples
from moevolve.journal.lessons import MemoryStore, Query, memory_folder
from moevolve.journal.reader import read
from moevolve.journal.scores import Skill
from moevolve.journal.store import RunStore
from moevolve.journal.view import RunView
from moevolve.loop import resolve
from moevolve.loop import snapshot as snapshots
from moevolve.loop.behaviours import TABLE as BEHAVIOURS
from moevolve.records import RunStarted
from moevolve.tasks.agent_skills.tree import Example, Leaf, Learnt, Success, written
from moevolve.tasks.grown import grown
from moevolve.tasks.suite import Suite

EXAMPLES = 6
"""Confirmed answers of each level that are exported."""
LESSONS = 8
DIGITS = 4


def export_skills(store: RunStore, out: Path) -> list[str]:
    """Writes a run's tree as folders of Agent Skills into `out`; returns the files' names.

    Examples are confirmed answers to train tasks alone, so that no export tells a sealed task.

    Raises:
        UsageError: something is there, or the run has no skills on record.
    """
    leaves = tree_of(store)
    suite = _suite(store)
    verbs = {} if suite is None else {path: leaf.verb for path, leaf in suite.skills.items()}
    return written(leaves, _learnt(store, [leaf.path for leaf in leaves], verbs), out)


def tree_of(store: RunStore) -> list[Leaf]:
    """A run's tree with its figures, by path.

    Raises:
        UsageError: the run has no skills on record.
    """
    view = read(store).view
    if not view.skills or view.started is None:
        raise UsageError(f"{store.path} has no skills on record")
    suite = _suite(store)
    requires = {} if suite is None else suite.requires
    found = [_suites(skill, view, requires.get(path, ())) for path, skill in view.skills.items()]
    found += [_grown(skill, view) for skill in view.growth.skills.values()]
    return sorted(found, key=lambda leaf: leaf.path)


def _suite(store: RunStore) -> Suite | None:
    """The run's suite with what its tree grew; None where the suite is not here any more."""
    started = store.entries(0, 1)[0].record
    state = snapshots.latest(store)
    assert isinstance(started, RunStarted), "a journal begins with the start of a run"
    try:
        suite = resolve.suite(resolve.on_record(started, store.path))
        return suite if state is None else grown(suite, state.growth)
    except UsageError:
        return None


def _suites(skill: Skill, view: RunView, requires: tuple[str, ...]) -> Leaf:
    share = skill.newest.get("sealed") or skill.first.get("sealed")
    high = view.growth.opened.get(skill.path, skill.levels[1])
    level, ends = skill.level or (None, None)
    return Leaf(
        path=skill.path,
        summary=skill.summary,
        levels=(skill.levels[0], high),
        requires=requires,
        level=level,
        level_ci=ends,
        sealed=None if share is None else round(share.score, DIGITS),
        n=0 if share is None else share.n,
        mastery=_mastery(skill),
    )


def _grown(skill: Skill, view: RunView) -> Leaf:
    made, share = view.growth.origin(skill.path), view.growth.scores.get(skill.path)
    level, ends = skill.level or (None, None)
    return Leaf(
        path=skill.path,
        summary=skill.summary,
        levels=skill.levels,
        requires=() if made is None else made.parents,
        change=None if made is None else made.change,
        feature="" if made is None else made.feature,
        level=level,
        level_ci=ends,
        sealed=None if share is None else round(share.score, DIGITS),
        n=0 if share is None else share.n,
        mastery=_mastery(skill),
    )


def _mastery(skill: Skill) -> tuple[Success, ...]:
    return tuple(
        Success(
            level=level,
            mean=round(each.mean, DIGITS),
            low=round(each.low, DIGITS),
            high=round(each.high, DIGITS),
            n=each.n,
        )
        for level, each in skill.mastery.items()
    )


def _learnt(store: RunStore, paths: list[str], verbs: Mapping[str, str]) -> dict[str, Learnt]:
    examples = _examples(store, verbs)
    routes = _routes(store)
    failures: dict[str, dict[str, tuple[str, str, str]]] = {}
    for stage in samples.stages(store, limit=200):
        for each in stage.samples:
            if not each.success and stage.stage != "dev":
                row = each.prompt, each.answer, each.failure or "wrong"
                failures.setdefault(each.skill, {}).setdefault(each.prompt, row)
    started = read(store).started
    memory = MemoryStore(memory_folder(store.path))
    found = {}
    for path in paths:
        hits = memory.search(Query(skill=path, run=started.run, k=LESSONS))
        lessons = [hit.lesson for hit in hits]
        found[path] = Learnt(
            examples=tuple(examples.get(path, ())),
            route=routes.get(path, ""),
            failures=tuple(failures.get(path, {}).values()),
            lessons=tuple(
                f"{'right' if lesson.success else 'wrong'}: {lesson.text}"
                if lesson.kind == "fact"
                else f"{lesson.kind}: {lesson.text}"
                for lesson in lessons
            ),
        )
    memory.close()
    return found


def _examples(store: RunStore, verbs: Mapping[str, str]) -> dict[str, list[Example]]:
    """Confirmed answers by skill, a few of each level, the newest ones, by level and prompt; parts of tasks, which another
    verb asks for, are left out."""
    state = snapshots.latest(store)
    cells: dict[tuple[str, int], list[Example]] = {}
    for item in reversed([] if state is None else state.buffer):
        cell = cells.setdefault((item.skill, item.level), [])
        verb = verbs.get(item.skill, "")
        if len(cell) < EXAMPLES and item.answer and (not verb or item.prompt.startswith(f"{verb}:")):
            cell.append(Example(prompt=item.prompt, answer=item.answer, level=item.level))
    found: dict[str, list[Example]] = {}
    for (skill, _), cell in sorted(cells.items()):
        found.setdefault(skill, []).extend(sorted(cell, key=lambda each: each.prompt))
    return found


def _routes(store: RunStore) -> dict[str, str]:
    """The champion's plans by skill, those for what was grown included."""
    reader = read(store)
    row = reader.view.variants.row(reader.view.champion)
    if row is None:
        return {}
    program = reader.variant(row).program
    found: dict[str, str] = {}
    for key, value in store.scan(BEHAVIOURS, program):
        if key == program or key.startswith(f"{program}+"):
            found |= Behaviour.decoded(store.blob(value.decode())).plans
    return {path: plan for path, plan in found.items() if plan != "null"}
