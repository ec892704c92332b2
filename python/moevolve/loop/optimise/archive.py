"""The archive of an optimisation run: a fold of its records, from which everything that comes next follows."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from moevolve.gate.spending import AlphaSpending
from moevolve.journal.averages import mean
from moevolve.records import Improved, Rated, Record, VariantAdded
from moevolve.selection.tree import Node, Tree


class Program(msgspec.Struct, kw_only=True):
    """A program and what evaluations said of it."""

    id: str
    parent: str | None
    text: str
    """Hash of its text."""
    operator: str
    step: int | None
    length: int = 0
    first: float | None = None
    """The score by which it was found: the luckiest of many, where scores differ."""
    fresh: list[float] = []
    """Scores of later evaluations, which nothing was chosen by."""
    metrics: dict[str, float] = {}
    failures: int = 0
    """Further evaluations that failed since the last one that did not, or since a decision."""
    rechecked: bool = False
    """Whether a decision about it was made."""

    @property
    def score(self) -> float | None:
        """Its best estimate: the mean of fresh scores, else the first one."""
        return mean(self.fresh) if self.fresh else self.first

    @property
    def steady(self) -> bool:
        """Whether every evaluation gave the same score, and there were two."""
        return bool(self.fresh) and all(score == self.first for score in self.fresh)


class ProgramArchive:
    """Programs, the champion, and the error budget, after so many records."""

    def __init__(self, population: int, alpha: float) -> None:
        self.programs: dict[str, Program] = {}
        self.members: dict[str, None] = {}
        """Those that a parent may be, in order of birth."""
        self.champion: str | None = None
        self.spending = AlphaSpending(alpha=alpha)
        self.applied = 0
        """Evaluations on record."""
        self.failed = 0
        self.noisy = False
        """Whether two evaluations of one program gave two scores: then no score of this evaluator is taken as it is."""
        self._population = population
        self._nodes: dict[str, Node] = {}
        """Members as policies see them, which few records change."""
        self._features: list[str] = []
        self._values: dict[str, float] = {}
        self.value: Callable[[str], float] = self._values.__getitem__
        """A program's score; below every score where it has none."""
        self._children: dict[str, list[str]] = {}

    def take(self, record: Record) -> None:
        """Takes the next record."""
        if isinstance(record, VariantAdded):
            self._values[record.variant] = -math.inf
            self.programs[record.variant] = Program(
                id=record.variant,
                parent=record.parents[0] if record.parents else None,
                text=record.program,
                operator=record.operator,
                step=record.cycle if record.parents else None,
            )
            for parent in record.parents[:1]:
                self._children.setdefault(parent, []).append(record.variant)
        elif isinstance(record, Rated):
            self._rate(record)
        elif isinstance(record, Improved):
            self.programs[record.candidate].rechecked = True
            for each in (record.candidate, record.champion):
                self.programs[each].failures = 0
            promoted = record.decision == "promote"
            if record.rule == "permutation":
                self.spending = self.spending.after(promoted=promoted)
            if promoted:
                self.champion = record.candidate

    def _rate(self, record: Rated) -> None:
        self.applied += 1
        program = self.programs[record.variant]
        self._nodes.pop(program.id, None)
        if record.purpose == "recheck":
            if record.score is None:
                program.failures += 1
                return
            program.fresh.append(record.score)
            program.failures = 0
            self._values[program.id] = mean(program.fresh)
            if not self.noisy and program.first is not None and record.score != program.first:
                self.noisy = True
                self._nodes.clear()
            return
        program.first = record.score
        program.metrics = {
            name: float(value)
            for name, value in record.metrics.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        if record.score is None:
            self.failed += 1
        else:
            self._values[program.id] = record.score
        if record.score is not None or not self.members:
            self.members[program.id] = None
        if self.champion is None:
            self.champion = program.id
        if self._population and len(self.members) > self._population:
            kept = [each for each in self.members if each != self.champion]
            lowest = min(map(self.value, kept))
            worst = min(id for id in kept if self._values[id] == lowest)
            del self.members[worst]
            self.programs[worst].metrics = {}
            for changed in (worst, *self._children.pop(worst, ())):
                self._nodes.pop(changed, None)

    def best(self) -> Program:
        """The champion.

        Raises:
            KeyError: nothing has been evaluated yet.
        """
        return self.programs[self.champion or ""]

    def tree(self, step: int, *, shares: bool, features: list[str]) -> Tree:
        """The archive as selection policies see it.

        Args:
            step: steps of selection before this one.
            shares: whether to say which share of the archive each member is better than, for policies that count successes.
            features: metrics that span a grid beside the program's length.
        """
        if features != self._features:
            self._features = list(features)
            self._nodes.clear()
        nodes = [self._nodes.get(id) or self._node(id) for id in self.members]
        if shares:
            ordered = sorted(self.members, key=self.value)
            rank = {id: place / max(1, len(ordered) - 1) for place, id in enumerate(ordered)}
            looks = {id: 1 + len(self.programs[id].fresh) for id in ordered}
            nodes = [
                msgspec.structs.replace(
                    node, wins=rank[node.id] * looks[node.id], losses=(1 - rank[node.id]) * looks[node.id]
                )
                for node in nodes
            ]
        return Tree(nodes, self.champion, step)

    def _node(self, id: str) -> Node:
        program = self.programs[id]
        grid = {name: program.metrics[name] for name in self._features if name in program.metrics}
        node = self._nodes[id] = Node(
            id=id,
            parent=program.parent if program.parent in self.members else None,
            score=program.score,
            scores=program.metrics,
            features={"length": float(program.length), **grid},
            step=program.step,
            exhausted=program.score is None or (program.steady and not self.noisy),
        )
        return node
