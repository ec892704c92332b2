"""A suite: a named set of skills, and the one way to draw tasks from it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from moevolve.errors import SafetyError, UsageError
from moevolve.randomness import key
from moevolve.records import Answers
from moevolve.skills.tree import Node, grow
from moevolve.tasks.cutters import GENERAL, Cutter
from moevolve.tasks.installed import installed
from moevolve.tasks.registry import registered, skill
from moevolve.tasks.registry import requires as user_requires
from moevolve.tasks.skill import Skill
from moevolve.tasks.splits import NO_SECRET, SPLITS, Families, Split, same, split_of
from moevolve.tasks.task import Task, Verdict
from moevolve.tasks.tools.servers import ServerSection

if TYPE_CHECKING:
    from moevolve.tasks.validation import Judge, Report

TRIES = 4000
"""Draws before a (skill, level) is held to have no prompt in the wanted split."""
FRESH_TRIES = 24
"""Draws before a sample accepts a prompt for the second time."""

Cell = tuple[str, int]
"""(skill, level)."""


class Suite:
    """A named set of skills.

    Args:
        name: what runs call it.
        skills: its leaves.
        answers: `policy` where an answer must be made of the policy's words, by plans; `any` where a program may compute.
        cutters: ways to take a text apart that plans may use.
        tools: Python files whose functions programs may call.
        servers: MCP servers whose tools programs may call, by name.
        folder: where the suite lies, and its servers' commands run.
        environments: the Python file that defines its environments.
        requires: skill -> the skills that its tasks build on.
        endless: skills whose generators know every level, beyond those that they begin with.
        limits: keys of a run's configuration -> bounds that a run on it has unless its own file sets others.

    Raises:
        UsageError: two skills with one path, or a path that is also a branch.
    """

    def __init__(
        self,
        name: str,
        skills: Iterable[Skill],
        *,
        answers: Answers = "any",
        cutters: Mapping[str, Cutter] = GENERAL,
        tools: Sequence[Path] = (),
        servers: Mapping[str, ServerSection] | None = None,
        folder: Path = Path(),
        environments: Path | None = None,
        requires: Mapping[str, Sequence[str]] | None = None,
        endless: Iterable[str] = (),
        limits: Mapping[str, float] | None = None,
    ) -> None:
        self.name = name
        self.answers: Answers = answers
        self.cutters = dict(cutters)
        self.tools = tuple(tools)
        self.servers = dict(servers or {})
        self.folder = folder
        self.environments = environments
        self.requires = {path: tuple(of) for path, of in (requires or {}).items()}
        self.endless = frozenset(endless)
        self.limits = dict(limits or {})
        self._secret = NO_SECRET
        self._closed: frozenset[str] = frozenset()
        self.skills: dict[str, Skill] = {}
        for leaf in sorted(skills, key=lambda leaf: leaf.path):
            if leaf.path in self.skills:
                raise UsageError(f"suite {name}: two skills are called {leaf.path}")
            self.skills[leaf.path] = leaf
        for path in self.skills:
            if branch := next((other for other in self.skills if other.startswith(f"{path}/")), None):
                raise UsageError(f"suite {name}: {path} is a skill and cannot be the branch of {branch} too")

    def tree(self) -> Node:
        """The skill tree, from its root."""
        return grow(self.skills)

    @property
    def cells(self) -> list[Cell]:
        """Every (skill, level), by path and level."""
        return [
            (path, level)
            for path, leaf in self.skills.items()
            for level in range(leaf.levels[0], leaf.levels[1] + 1)
        ]

    def only(self, paths: Iterable[str] = (), levels: tuple[int, int] | None = None) -> Suite:
        """The suite with some of its skills and levels.

        Args:
            paths: the skills that stay; all of them if there are none.
            levels: lowest and highest level that stay, of a skill that has them.

        Raises:
            UsageError: there is no such skill (names the nearest), or one that has none of the levels.
        """
        chosen = [self[path] for path in paths] or list(self.skills.values())
        if levels is not None:
            chosen = [leaf.within(levels) for leaf in chosen]
        return self.of(chosen)

    def granting(self, file: Path) -> Suite:
        """The suite with the functions of one more Python file as tools.

        Raises:
            UsageError: its programs are plans, which call nothing.
        """
        if self.answers == "policy":
            raise UsageError(f"tools.path: answers of suite {self.name} are plans, which call no tools")
        other = self.of(self.skills.values())
        other.tools = (*self.tools, file)
        return other

    def keyed(self, secret: bytes) -> Suite:
        """The suite as one run has it: split by the run's secret, and with the sealed split closed."""
        other = self.of(leaf.keyed(secret) for leaf in self.skills.values())
        other._secret, other._closed = secret, frozenset({"sealed"})
        return other

    def opened(self) -> Suite:
        """The same with the sealed split open. A run opens it where it puts that on record, and nowhere else."""
        other = self.of(self.skills.values())
        other._closed = frozenset()
        return other

    def of(self, skills: Iterable[Skill]) -> Suite:
        """The same suite with other leaves."""
        other = Suite(
            self.name,
            skills,
            answers=self.answers,
            cutters=self.cutters,
            tools=self.tools,
            servers=self.servers,
            folder=self.folder,
            environments=self.environments,
            requires=self.requires,
            endless=self.endless,
            limits=self.limits,
        )
        other._secret, other._closed = self._secret, self._closed
        return other

    @property
    def secret(self) -> str:
        """The secret that splits it, in hexadecimal; empty outside of runs."""
        return self._secret.hex()

    def split_of(self, prompt: str) -> Split:
        """The split a prompt belongs to: its family's, where it has one."""
        for families, homes in self._families:
            family = families.of(prompt)
            if family in homes:
                return homes[family]
        return split_of(prompt, self._secret)

    @cached_property
    def _families(self) -> list[tuple[Families, dict[str, Split]]]:
        """Families of prompts, and where this run has them."""
        known = [leaf.families for leaf in self.skills.values() if leaf.families is not None]
        return [(families, families.splits(self._secret)) for families in known]

    def elsewhere(self, text: str) -> bool:
        """Whether a text may be a task of another split than train: what is trained on must not."""
        endless = any(leaf.listed is None for leaf in self.skills.values())
        return (endless and self.split_of(text) != "train") or same(text) in self._others

    @cached_property
    def _others(self) -> frozenset[str]:
        """Prompts of listed tasks that lie in other splits than train."""
        return frozenset(
            same(leaf.listed.tasks[level][index].prompt)
            for leaf in self.skills.values()
            if leaf.listed is not None
            for level, homes in leaf.listed.homes.items()
            for split, indices in homes.items()
            if split != "train"
            for index in indices
        )

    def __getitem__(self, path: str) -> Skill:
        """The skill at `path`.

        Raises:
            UsageError: there is none; names the nearest.
        """
        if path not in self.skills:
            raise UsageError(f"suite {self.name} has no skill {path!r}{nearest(path, self.skills)}")
        return self.skills[path]

    def task(self, skill: str, level: int, seed: int) -> Task:
        """The task that (skill, level, seed) names."""
        return self[skill].task(level, seed)

    def draw(self, split: str, skill: str, level: int, *parts: int | str) -> Task:
        """A task of `split` for a path of names and numbers; the same path always draws the same task.

        Raises:
            UsageError: no such split, skill or level, or no prompt of that level lies in the split.
            SafetyError: the split is closed.
        """
        if split not in SPLITS:
            raise UsageError(f"no split {split!r}{nearest(split, SPLITS)}")
        if split in self._closed:
            raise SafetyError(
                f"split {split!r} is closed: a run opens it for its first and its last score alone"
            )
        leaf = self[skill]
        whose = (self._secret.hex(),) if self._secret else ()
        start = key("task", *whose, split, skill, level, *parts)
        if leaf.listed is not None:
            return leaf.listed.task(leaf, split, level, start)
        for attempt in range(TRIES):
            task = leaf.task(level, key(start, attempt))
            if self.split_of(task.identity) == split:
                return task
        raise UsageError(
            f"skill {skill}, level {level}: none of {TRIES} prompts lies in split {split!r}; "
            "the generator needs more distinct prompts (200 or more a level)"
        )

    def spread(self, split: str, each: int) -> list[Cell]:
        """Every cell `each` times, or as often as it has listed tasks in `split`: what an evaluation draws from."""
        spread: list[Cell] = []
        for path, level in self.cells:
            tasks = self[path].listed
            spread += [(path, level)] * (each if tasks is None else tasks.size(split, level))
        return spread

    def has(self, split: Split, path: str, level: int) -> bool:
        """Whether a level of a skill has a prompt in a split, closed or not: no task of it is told."""
        leaf = self[path]
        if leaf.listed is not None:
            return leaf.listed.size(split, level) > 0
        start = key("has", split, path, level)
        return any(
            self.split_of(leaf.task(level, key(start, attempt)).identity) == split for attempt in range(TRIES)
        )

    def sample(self, split: str, cells: Sequence[Cell], *parts: int | str) -> list[Task]:
        """One task a cell, in order. No prompt comes twice where the cell has fresh ones left."""
        tasks: list[Task] = []
        seen: set[str] = set()
        orders: dict[Cell, Iterator[Task]] = {}
        for index, (path, level) in enumerate(cells):
            leaf = self[path]
            if leaf.listed is not None:
                if (path, level) not in orders:
                    start = key("order", split, path, level, *parts)
                    orders[path, level] = leaf.listed.order(leaf, split, level, start)
                tasks.append(next(orders[path, level]))
                continue
            for again in range(FRESH_TRIES):
                task = self.draw(split, path, level, *parts, index, again)
                if task.identity not in seen:
                    break
            seen.add(task.identity)
            tasks.append(task)
        return tasks

    def confirms(self, prompt: str, text: str) -> bool:
        """Whether `text` is the right answer to `prompt`, which may be no task but only ask like one."""
        verb = prompt.partition(":")[0]
        skill = next((each for each in self.skills.values() if each.verb and each.verb == verb), None)
        return skill is not None and skill.truth is not None and skill.truth(prompt) == text

    def grade(self, task: Task, answer: str) -> Verdict:
        """The sealed verdict on an answer."""
        return self[task.skill].grade(task, answer)

    def validate(self, samples: int = 400, judge: Judge | None = None) -> Report:
        """Proves the suite's generators and graders; see `moevolve.tasks.validation`."""
        from moevolve.tasks.validation import validate

        return validate(self, samples, judge)


def suite(name: str, extra: Iterable[Skill] = ()) -> Suite:
    """The suite called `name`: `primer`, `user` (skills registered by `@skill`), or both: `primer+user`.

    Args:
        name: one name, or several joined by `+`.
        extra: more skills to add.

    Raises:
        UsageError: no such suite, or `user` while no skill is registered.
    """
    if name in _opened:
        return _opened[name]
    skills: list[Skill] = []
    cutters = dict(GENERAL)
    answers: set[Answers] = set()
    requires: dict[str, tuple[str, ...]] = {}
    endless: list[str] = []
    for part in name.split("+"):
        if part == "primer":
            from moevolve.tasks.primer import CUTTERS, PRIMER, REQUIRES

            skills += PRIMER
            requires |= REQUIRES
            endless += [leaf.path for leaf in PRIMER]
            cutters |= CUTTERS
            answers.add("policy")
        elif part == "office":
            from moevolve.tasks.office import OFFICE

            skills += OFFICE
            answers.add("any")
        elif part == "user":
            own = registered()
            if not own:
                raise UsageError(
                    "suite 'user' is empty: name the file that defines skills with @mv.skill (--suite FILE, or "
                    "suite.path), or import it first"
                )
            skills += own
            requires |= user_requires()
            answers.add("any")
        else:
            raise UsageError(f"no suite {part!r}{nearest(part, [*SUITES, *installed()])}")
    whose: Answers = "policy" if answers == {"policy"} else "any"
    return Suite(name, [*skills, *extra], answers=whose, cutters=cutters, requires=requires, endless=endless)


SUITES = ("primer", "office", "user")


def shipped(name: str) -> bool:
    """Whether `name` is that of a suite that ships, or of several joined by `+`."""
    return all(part in SUITES for part in name.split("+"))


def own_settings(suite: str | Path | None, agent: str | Path | None) -> dict[str, str]:
    """What the options about a suite and an agent set: dotted key -> value.

    Args:
        suite: the name of one that ships or that an installed package offers, or the path of one's own.
        agent: the folder of an agent of one's own.
    """
    settings = {}
    if suite is not None:
        own = isinstance(suite, Path) or not (shipped(suite) or _installed(suite))
        settings["suite.path" if own else "suite.name"] = str(Path(suite).resolve()) if own else str(suite)
    if agent is not None:
        settings["agent.path"] = str(Path(agent).resolve())
    return settings


def _installed(name: str) -> bool:
    """Whether `name` is a suite of an installed package, and no file or folder here."""
    return not Path(name).exists() and name in installed()


_opened: dict[str, Suite] = {}
"""Suites that do not ship, by name and digest: `support@5f0c83aa...`."""


def register(suite: Suite, digest: str) -> str:
    """Makes a suite from elsewhere known as `NAME@DIGEST`; returns that."""
    name = f"{suite.name}@{digest}"
    _opened[name] = suite
    return name


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or the whole list when nothing is near."""
    words = list(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(words)}"


__all__ = ["SUITES", "Cell", "Suite", "skill", "suite"]
