"""Leaves that a tree grows: two skills in turn, a part of a skill that a feature separates, levels beyond the first ones.

Generator, grader and truth of such a leaf follow from the leaves that it is made of: nobody writes them. A composed prompt
begins with both verbs, as in `rev+srt:bdca=`, and its answer is the second skill's to the first one's answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

import msgspec

from moevolve.errors import UsageError
from moevolve.randomness import key
from moevolve.records import Grown, SkillInfo
from moevolve.skills.features import Feature, feature
from moevolve.tasks.skill import Skill
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task

PARTS = 3
"""Most skills that one prompt asks for in turn."""
DRAWS = 48
"""Tasks by which two skills are tried on each other."""
TRIES = 400
"""Draws before a level is held to have no task on one side of a feature."""
COMMON = 0.15
"""Least share of a level's tasks on either side of a feature that splits it."""
ALONE = 0.5
"""Most of a composed leaf's tasks that one of its two skills answers alone."""


def payload_of(prompt: str) -> str:
    """`bdca` of `rev:bdca=`; a prompt of another form as it is."""
    verb, colon, rest = prompt.partition(":")
    return rest.removesuffix("=") if colon and rest.endswith("=") else prompt


class Composed(msgspec.Struct, frozen=True):
    """The generator of two skills in turn."""

    first: Skill
    second: Skill

    def __call__(self, rng: Random, level: int) -> Task:
        for _ in range(TRIES):
            task = self.first.generator(rng, level)
            answer = self.of(task.prompt)
            if answer is not None:
                return Task(prompt=f"{self.verb}:{payload_of(task.prompt)}=", answer=answer)
        raise UsageError(
            f"no answer of {self.first.path} fits a prompt of {self.second.path} at level {level}"
        )

    @property
    def verb(self) -> str:
        return f"{self.first.verb}+{self.second.verb}"

    def of(self, prompt: str) -> str | None:
        """The second skill's answer to the first one's, of a prompt of the first skill."""
        assert self.first.truth is not None and self.second.truth is not None, "both know their answers"
        between = self.first.truth(prompt)
        return None if between is None else self.second.truth(f"{self.second.verb}:{between}=")


class ComposedTruth(msgspec.Struct, frozen=True):
    """The right answer to a prompt of two skills in turn."""

    both: Composed

    def __call__(self, prompt: str) -> str | None:
        verb, colon, rest = prompt.partition(":")
        if not colon or verb != self.both.verb:
            return None
        return self.both.of(f"{self.both.first.verb}:{rest}")


class Part(msgspec.Struct, frozen=True):
    """The generator of the tasks of a skill on one side of a feature."""

    whole: Skill
    feature: Feature
    holds: bool

    def __call__(self, rng: Random, level: int) -> Task:
        for _ in range(TRIES):
            task = self.whole.generator(rng, level)
            if self.feature.holds(payload_of(task.prompt)) == self.holds:
                return task
        raise UsageError(
            f"no task of {self.whole.path} at level {level} lies on this side of {self.feature}: "
            f"{'with' if self.holds else 'without'} it"
        )


def composed_path(first: str, second: str) -> str:
    """`compose/reverse_then_sort`."""
    return f"compose/{first.rpartition('/')[2]}_then_{second.rpartition('/')[2]}"


def composed(first: Skill, second: Skill, levels: tuple[int, int]) -> Skill:
    """The leaf that asks for `first` and then for `second`."""
    both = Composed(first, second)
    return Skill(
        path=composed_path(first.path, second.path),
        summary=f"{first.summary}; then, of the answer: {second.summary}",
        generator=both,
        levels=levels,
        verb=both.verb,
        alphabet=second.alphabet,
        truth=ComposedTruth(both),
    )


def fits(suite: Suite, first: Skill, second: Skill) -> bool:
    """Whether two skills make a third: the one's answers fit the other's prompts, both are needed, and no leaf of the suite
    asks for the same already; the new leaf is in order as any suite's must be."""
    if first.truth is None or second.truth is None or first.listed is not None:
        return False
    if not first.verb or not second.verb or (first.verb + second.verb).count("+") > PARTS - 2:
        return False
    path, both = composed_path(first.path, second.path), Composed(first, second)
    low, high = first.levels
    if path in suite.skills or any(each.verb == both.verb for each in suite.skills.values()):
        return False
    alone, same = 0, dict.fromkeys(suite.skills, 0)
    for draw in range(DRAWS):
        level = low + draw % (high - low + 1)
        task = first.generator(Random(key("compose", path, draw)), level)
        answer, between = both.of(task.prompt), first.truth(task.prompt)
        if answer is None or between is None:
            return False
        payload = payload_of(task.prompt)
        alone += answer in (payload, between, second.truth(f"{second.verb}:{payload}="))
        for other, leaf in suite.skills.items():
            if leaf.truth is not None and leaf.verb:
                same[other] += leaf.truth(f"{leaf.verb}:{payload}=") == answer
    if alone > ALONE * DRAWS or any(count > ALONE * DRAWS for count in same.values()):
        return False
    return Suite("growth", [composed(first, second, (low, high))]).validate(DRAWS).ok


def parts(leaf: Skill, which: Feature) -> list[Skill]:
    """Both sides of a leaf, each with the levels on which it is common; empty where one is common on none, or the leaf's
    tasks are listed: those lie in splits that no prompt tells."""
    if leaf.listed is not None:
        return []
    made = []
    for side, holds in zip(sides(leaf, which), (True, False), strict=True):
        levels = [
            level for level in range(leaf.levels[0], leaf.levels[1] + 1) if _common(leaf, which, level, holds)
        ]
        run = _longest_run(levels)
        if run is None:
            return []
        made.append(msgspec.structs.replace(side, levels=run))
    return made


def sides(leaf: Skill, which: Feature) -> list[Skill]:
    """The leaf of the tasks with a feature, and that of those without it, each with the whole leaf's levels."""
    return [
        Skill(
            path=f"{leaf.path}_{side}",
            summary=f"{leaf.summary} ({side.replace('_', ' ')})",
            generator=Part(leaf, which, holds),
            levels=leaf.levels,
            verb=leaf.verb,
            alphabet=leaf.alphabet,
            truth=leaf.truth,
        )
        for side, holds in zip(which.sides, (True, False), strict=True)
    ]


def _common(leaf: Skill, which: Feature, level: int, holds: bool) -> bool:
    drawn = [
        leaf.generator(Random(key("split", leaf.path, str(which), level, draw)), level)
        for draw in range(DRAWS)
    ]
    return sum(which.holds(payload_of(task.prompt)) == holds for task in drawn) >= COMMON * DRAWS


def _longest_run(levels: Iterable[int]) -> tuple[int, int] | None:
    """The longest run of levels without a gap, the lowest of equal ones."""
    best: tuple[int, int] | None = None
    start = last = None
    for level in levels:
        start = level if last is None or level != last + 1 or start is None else start
        last = level
        if best is None or last - start > best[1] - best[0]:
            best = (start, last)
    return best


def grown(suite: Suite, changes: Iterable[Grown]) -> Suite:
    """The suite as some changes of its tree leave it, in their order.

    Raises:
        UsageError: a change is of a leaf that is not there.
    """
    skills = dict(suite.skills)
    for change in changes:
        for leaf in _changed(skills, change):
            skills[leaf.path] = leaf
        if change.change == "retire":
            for info in change.leaves:
                skills.pop(info.path, None)
    return suite.of(skills.values())


def _changed(skills: Mapping[str, Skill], change: Grown) -> list[Skill]:
    """The leaves that a change adds, or gives other levels."""
    if change.change == "retire":
        return []
    missing = [path for path in change.parents if path not in skills]
    if missing:
        raise UsageError(f"change {change.growth} of the skill tree needs {missing[0]}, which is not there")
    sources = [skills[path] for path in change.parents]
    wanted = {info.path: info.levels for info in change.leaves}
    match change.change:
        case "levels":
            made = sources
        case "compose":
            made = [composed(sources[0], sources[1], change.leaves[0].levels)]
        case "split":
            made = sides(sources[0], feature(change.feature))
    if [leaf.path for leaf in made] != list(wanted):
        raise UsageError(f"change {change.growth} of the skill tree makes other leaves than are on record")
    return [msgspec.structs.replace(leaf, levels=wanted[leaf.path]) for leaf in made]


def info(leaf: Skill) -> SkillInfo:
    """A leaf as records name it."""
    return SkillInfo(path=leaf.path, summary=leaf.summary, levels=leaf.levels)
