"""Growth of the skill tree: which changes are proposed, and which of them the trial adds.

A mastered leaf opens its next levels; two mastered leaves become one that asks for both in turn; a leaf with mixed success
is split by what separates its failures; a leaf that the tree grew and nobody can solve, or a split that has healed, is
retired.
Everything here is a function of estimates and draws: what tries a change stands in the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from random import Random

import msgspec

from moevolve.config import GrowthSection
from moevolve.journal.figures import counted, score
from moevolve.journal.growth import Row, taken_back
from moevolve.journal.intervals import independent_gain, wilson
from moevolve.records import Change, Grown, Tally
from moevolve.skills.features import Feature, Seen, separations
from moevolve.skills.mastery import Mastery

FIRST = 8
"""Levels that a composed leaf begins with."""
REST = 3
"""Cycles before a change that was declined is tried again."""
LEARNABLE = 0.05
"""A new cell is added if its success in the trial is above this, at 95 %: what never succeeds teaches nothing."""
MIXED = (0.2, 0.85)
"""Success of a leaf that may be split."""
SEEN = 40
"""Attempts at a leaf that it takes to look for what separates its failures."""
EVIDENCE = 3.0
"""Standard errors by which a feature must separate them before the trial."""
DEAD = 0.1
"""A leaf is proposed to be retired if its success is below this, at 95 %; the trial retires it below twice as much."""
TRIED = 24
"""Attempts that it takes to call a leaf dead."""
HEALED = 0.6
"""Both sides of a split succeed above this, at 95 %: nothing separates them any more."""


class Proposal(msgspec.Struct, frozen=True):
    """A change that is to be tried.

    Attributes:
        change: which kind.
        skill: the leaf that opens levels, is split or retired; of `compose` the first of the two.
        second: of `compose`, the second.
        feature: of `split`.
    """

    change: Change
    skill: str
    second: str = ""
    feature: Feature | None = None


class Tree(msgspec.Struct, frozen=True):
    """The skill tree as growth looks at it.

    Attributes:
        mastery: of the champion with its program, over all leaves and levels.
        grown: changes in force, in order.
        declined: those that were tried and not added.
        taken_back: those that a person took back.
        tops: leaf -> its highest level, None where there is none; a leaf without an entry opens none.
        fits: whether two leaves make a third.
        seen: the newest attempts by leaf.
    """

    mastery: Mastery
    grown: Sequence[Grown]
    declined: Sequence[Grown]
    taken_back: Sequence[Grown]
    tops: Mapping[str, int | None]
    fits: Callable[[str, str], bool]
    seen: Mapping[str, Sequence[Seen]]

    @property
    def new(self) -> dict[str, Grown]:
        """Leaf -> the change that added it, of those that are still there."""
        return new_leaves(self.grown)


def new_leaves(grown: Sequence[Grown]) -> dict[str, Grown]:
    """Leaf -> the change that added it, of those that are still there."""
    found: dict[str, Grown] = {}
    for change in grown:
        for leaf in change.leaves:
            if change.change in ("compose", "split"):
                found[leaf.path] = change
            elif change.change == "retire":
                found.pop(leaf.path, None)
    return found


def propose(tree: Tree, cycle: int, section: GrowthSection, draw: Random) -> list[Proposal]:
    """The changes to try in a cycle: kinds take turns, in each a draw says which."""
    # One new leaf, or one split, a cycle: the next one may build on what the trial says of it.
    kinds: list[tuple[Iterator[Proposal], int | None]] = [
        (_retire(tree), None),
        (_compose(tree, section, draw), 1),
        (_split(tree, section, draw), 1),
        (_levels(tree, draw), None),
    ]
    turns = [islice((each for each in kind if not _rests(tree, each, cycle)), most) for kind, most in kinds]
    chosen: list[Proposal] = []
    while turns and len(chosen) < section.trials:
        turn = turns.pop(0)
        if (proposal := next(turn, None)) is not None:
            chosen.append(proposal)
            turns.append(turn)
    return chosen


def _rests(tree: Tree, proposal: Proposal, cycle: int) -> bool:
    """Whether the same was declined a few cycles ago, or taken back ever."""
    asked = [proposal.skill, *([proposal.second] if proposal.second else [])]
    recent = [each for each in tree.declined if cycle - each.cycle < REST]
    return any(
        each.change == proposal.change and each.parents == asked for each in [*recent, *tree.taken_back]
    )


def _retire(tree: Tree) -> Iterator[Proposal]:
    pairs: dict[str, list[str]] = {}
    for path, change in sorted(tree.new.items()):
        wins, tries = tree.mastery.whole(path)
        if tries >= TRIED and wilson(wins / tries * round(tries), round(tries)).high < DEAD:
            yield Proposal("retire", path)
        elif change.change == "split":
            pairs.setdefault(change.growth, []).append(path)
    for paths in pairs.values():
        if len(paths) == 2 and all(tree.mastery.mastered(path) for path in paths):
            yield Proposal("retire", paths[0], paths[1])


def _compose(tree: Tree, section: GrowthSection, draw: Random) -> Iterator[Proposal]:
    composed = sum(change.change == "compose" for change in tree.new.values())
    if composed + 2 >= section.leaves:
        # Two leaves are left for a split.
        return
    able = [
        path
        for path in sorted(tree.mastery.levels)
        if tree.mastery.mastered(path) and not _is_split(tree, path)
    ]
    pairs = [(first, second) for first in able for second in able]
    draw.shuffle(pairs)
    for first, second in pairs:
        if tree.fits(first, second):
            yield Proposal("compose", first, second)


def _split(tree: Tree, section: GrowthSection, draw: Random) -> Iterator[Proposal]:
    if len(tree.new) + 2 > section.leaves or any(c.change == "split" for c in tree.new.values()):
        return
    mixed = []
    split = {change.skill for change in tree.grown if change.change == "split"}
    for path, attempts in sorted(tree.seen.items()):
        if path in split:
            continue
        success = sum(each.success for each in attempts) / max(1, len(attempts))
        if len(attempts) >= SEEN and MIXED[0] <= success <= MIXED[1]:
            found = [each for each in separations(attempts) if abs(each.evidence) >= EVIDENCE]
            # Levels tell lengths apart already.
            found.sort(key=lambda each: each.feature.kind == "length")
            if found:
                mixed.append((path, found[0].feature))
    draw.shuffle(mixed)
    for path, feature in mixed:
        yield Proposal("split", path, feature=feature)


def _levels(tree: Tree, draw: Random) -> Iterator[Proposal]:
    able = []
    for path, top in sorted(tree.tops.items()):
        high = tree.mastery.levels[path][1]
        if (top is None or high < top) and tree.mastery.mastered(path):
            able.append(path)
    draw.shuffle(able)
    for path in able:
        yield Proposal("levels", path)


def _is_split(tree: Tree, path: str) -> bool:
    return path in tree.new and tree.new[path].change == "split"


def judge(change: Change, trial: Sequence[Tally]) -> tuple[bool, str]:
    """Whether the trial adds a change, and why in words."""
    by_leaf: dict[str, list[int]] = {}
    for tally in trial:
        counts = by_leaf.setdefault(tally.skill, [0, 0])
        counts[0] += tally.successes
        counts[1] += tally.attempts
    wins, n = (sum(counts[place] for counts in by_leaf.values()) for place in (0, 1))
    said = f"{wins} of {counted(n, 'attempt')} right"
    if not n:
        return False, "no attempt was answered"
    if change in ("levels", "compose"):
        return wilson(wins, n).low >= LEARNABLE, said
    each = {path: wilson(*counts) for path, counts in sorted(by_leaf.items())}
    if change == "split":
        if len(each) != 2:
            return False, "one side was not answered"
        first, second = each.values()
        low, high = independent_gain(first, second)
        words = " and ".join(
            f"{score(rate.mean)} (n={rate.n}) of {path.rpartition('/')[2]}" for path, rate in each.items()
        )
        return low > 0 or high < 0, words
    dead = wilson(wins, n).high <= 2 * DEAD
    healed = len(each) == 2 and all(rate.low >= HEALED for rate in each.values())
    return dead or healed, f"{said}; {'both sides are mastered' if healed else 'nobody solves it'}" if (
        dead or healed
    ) else said


def rolled_back(grown: Sequence[Grown], name: str) -> list[Grown] | None:
    """The changes that stay once one is taken back, and with it whatever builds on it; None where it is not in force."""
    rows = [
        Row(each.growth, each.change, each.skill, each.parents, [leaf.path for leaf in each.leaves])
        for each in grown
    ]
    gone = taken_back(rows, name)
    return [each for index, each in enumerate(grown) if index not in gone] if gone else None
