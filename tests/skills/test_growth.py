"""Which changes of a skill tree are proposed, what a trial decides, and what a rollback takes with it."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from moevolve.config import GrowthSection
from moevolve.records import Grown, SkillInfo, Tally
from moevolve.skills.features import Feature, Seen
from moevolve.skills.growth import Proposal, Tree, judge, new_leaves, propose, rolled_back
from moevolve.skills.mastery import Mastery

SECTION = GrowthSection(on=True, trials=3, leaves=6)


def change(
    name: str, kind: str, skill: str, parents: list[str], leaves: dict[str, tuple[int, int]], cycle: int = 1
) -> Grown:
    return Grown(
        cycle=cycle,
        growth=name,
        change=kind,  # type: ignore[arg-type]
        skill=skill,
        parents=parents,
        leaves=[SkillInfo(path=path, summary="", levels=levels) for path, levels in leaves.items()],
        feature="",
        variant="v0000",
        decision="added",
        reason="",
        trial=[],
        tokens=0,
    )


def composed(name: str, skill: str, first: str, second: str) -> Grown:
    return change(name, "compose", skill, [first, second], {skill: (1, 4)})


SPLIT = change(
    "g009", "split", "number/add", ["number/add"], {"number/add_carry": (1, 4), "number/add_no_carry": (1, 4)}
)


def mastery(success: dict[str, float], n: int = 200) -> Mastery:
    made = Mastery(dict.fromkeys(success, (1, 4)))
    for path, rate in success.items():
        for level in range(1, 5):
            made.observe(path, level, round(rate * n), n)
    return made


def tree(success: dict[str, float], **fields: Any) -> Tree:
    given: dict[str, Any] = {
        "mastery": mastery(success),
        "grown": [],
        "declined": [],
        "taken_back": [],
        "tops": {},
        "fits": lambda first, second: False,
        "seen": {},
    }
    return Tree(**(given | fields))


def proposals(asked: Tree, cycle: int = 5, **settings: Any) -> list[Proposal]:
    return propose(asked, cycle, msgspec.structs.replace(SECTION, **settings), Random(1))


# ---------------------------------------------------------------------- levels


def test_a_mastered_leaf_opens_its_next_levels_and_another_does_not() -> None:
    asked = tree({"text/sort": 0.97, "text/dedupe": 0.5}, tops={"text/sort": None, "text/dedupe": None})
    assert proposals(asked) == [Proposal("levels", "text/sort")]


def test_a_generator_that_knows_no_more_levels_opens_none() -> None:
    assert proposals(tree({"text/sort": 0.97}, tops={"text/sort": 4})) == []
    assert proposals(tree({"text/sort": 0.97}, tops={"text/sort": 5})) == [Proposal("levels", "text/sort")]


def test_what_was_declined_rests_and_what_a_person_took_back_stays_away() -> None:
    asked = tree({"text/sort": 0.97}, tops={"text/sort": None})
    before = change("g001", "levels", "text/sort", ["text/sort"], {"text/sort": (1, 6)}, cycle=3)
    declined = msgspec.structs.replace(asked, declined=[before])
    assert proposals(declined, cycle=5) == []
    assert proposals(declined, cycle=6) == [Proposal("levels", "text/sort")]
    assert proposals(msgspec.structs.replace(asked, taken_back=[before]), cycle=99) == []


# ---------------------------------------------------------------------- compose


def test_two_mastered_leaves_that_fit_compose() -> None:
    asked = tree({"a/x": 0.97, "a/y": 0.98, "a/z": 0.4}, fits=lambda *pair: pair == ("a/y", "a/x"))
    assert proposals(asked) == [Proposal("compose", "a/y", "a/x")]
    weak = tree({"a/x": 0.97, "a/y": 0.4}, fits=lambda first, second: True)
    assert {(each.skill, each.second) for each in proposals(weak)} == {("a/x", "a/x")}


def test_grown_leaves_are_bounded_and_room_for_a_split_is_left() -> None:
    made = [composed(f"g00{n}", f"compose/{n}", "a/x", "a/y") for n in range(4)]
    success = {"a/x": 0.97, "a/y": 0.98} | {each.skill: 0.5 for each in made}
    asked = tree(success, fits=lambda *pair: True, grown=made)
    assert proposals(asked) == []
    assert proposals(msgspec.structs.replace(asked, grown=made[:3]))[0].change == "compose"


# ---------------------------------------------------------------------- split and retire


def mixed() -> dict[str, list[Seen]]:
    """Sums that carry fail."""
    draw = Random(3)
    rows = [f"{draw.randrange(100)}+{draw.randrange(100)}" for _ in range(200)]
    return {"number/add": [Seen(row, 1, not Feature("carry").holds(row)) for row in rows]}


def test_a_leaf_with_mixed_success_splits_by_what_separates_its_failures() -> None:
    sides = {"number/add_carry": 0.2, "number/add_no_carry": 0.9}
    asked = tree({"number/add": 0.5} | sides, seen=mixed())
    assert proposals(asked) == [Proposal("split", "number/add", feature=Feature("carry"))]
    assert proposals(msgspec.structs.replace(asked, grown=[SPLIT])) == [], "one split at a time"


def test_a_leaf_that_fails_at_random_or_is_seen_seldom_is_not_split() -> None:
    draw = Random(4)
    rows = [Seen(each.payload, 1, draw.random() < 0.5) for each in mixed()["number/add"]]
    assert proposals(tree({"number/add": 0.5}, seen={"number/add": rows})) == []
    assert proposals(tree({"number/add": 0.5}, seen={"number/add": mixed()["number/add"][:20]})) == []


def test_a_dead_grown_leaf_is_retired_and_a_suites_own_never() -> None:
    made = [composed("g001", "compose/x", "a/x", "a/y")]
    dead = tree({"a/x": 0.0, "compose/x": 0.0}, grown=made)
    assert proposals(dead) == [Proposal("retire", "compose/x")]
    assert proposals(tree({"a/x": 0.0, "compose/x": 0.3}, grown=made)) == []


def test_a_split_whose_both_sides_are_mastered_is_retired_as_one() -> None:
    asked = tree({"number/add_carry": 0.97, "number/add_no_carry": 0.97}, grown=[SPLIT])
    assert Proposal("retire", "number/add_carry", "number/add_no_carry") in proposals(asked)


def test_the_number_of_trials_bounds_the_proposals_and_kinds_take_turns() -> None:
    asked = tree(
        {"a/x": 0.97, "a/y": 0.97, "number/add": 0.5},
        tops={"a/x": None, "a/y": None},
        fits=lambda *pair: True,
        seen=mixed(),
    )
    assert [each.change for each in proposals(asked, trials=3)] == ["compose", "split", "levels"]
    assert len(proposals(asked, trials=1)) == 1


# ---------------------------------------------------------------------- trials


def tally(skill: str, successes: int, attempts: int, level: int = 1) -> Tally:
    return Tally(skill=skill, level=level, attempts=attempts, successes=successes)


@pytest.mark.parametrize(
    ("kind", "trial", "added"),
    [
        ("levels", [tally("a/x", 12, 24), tally("a/x", 4, 24, 2)], True),
        ("levels", [tally("a/x", 0, 48)], False),
        ("levels", [tally("a/x", 2, 48)], False),
        ("compose", [tally("compose/x", 48, 48)], True),
        ("compose", [], False),
        ("split", [tally("a/x_carry", 8, 48), tally("a/x_no_carry", 44, 48)], True),
        ("split", [tally("a/x_carry", 22, 48), tally("a/x_no_carry", 26, 48)], False),
        ("split", [tally("a/x_carry", 22, 48)], False),
        ("retire", [tally("compose/x", 0, 48)], True),
        ("retire", [tally("compose/x", 12, 48)], False),
        ("retire", [tally("a/x_carry", 46, 48), tally("a/x_no_carry", 47, 48)], True),
        ("retire", [tally("a/x_carry", 20, 48), tally("a/x_no_carry", 47, 48)], False),
    ],
)
def test_the_trial_decides(kind: Any, trial: list[Tally], added: bool) -> None:
    assert judge(kind, trial)[0] is added


# ---------------------------------------------------------------------- rollback


def test_a_rollback_takes_what_builds_on_it_and_nothing_else() -> None:
    grown = [
        composed("g001", "compose/a", "a/x", "a/y"),
        change("g002", "levels", "a/x", ["a/x"], {"a/x": (1, 6)}),
        composed("g003", "compose/b", "compose/a", "a/x"),
        change("g004", "levels", "compose/b", ["compose/b"], {"compose/b": (1, 6)}),
        change("g005", "levels", "a/x", ["a/x"], {"a/x": (1, 8)}),
        composed("g006", "compose/c", "a/y", "a/x"),
    ]

    def names(stay: list[Grown] | None) -> list[str]:
        assert stay is not None
        return [each.growth for each in stay]

    assert names(rolled_back(grown, "g001")) == ["g002", "g005", "g006"]
    assert names(rolled_back(grown, "g002")) == ["g001", "g003", "g004", "g006"], "later levels stand on it"
    assert names(rolled_back(grown, "g005")) == ["g001", "g002", "g003", "g004", "g006"]
    assert rolled_back(grown, "g007") is None


def test_a_retirement_that_is_rolled_back_brings_the_leaf_again() -> None:
    grown = [
        composed("g001", "compose/a", "a/x", "a/y"),
        change("g002", "retire", "compose/a", ["compose/a"], {"compose/a": (1, 4)}),
    ]
    assert new_leaves(grown) == {}
    stay = rolled_back(grown, "g002")
    assert stay is not None and list(new_leaves(stay)) == ["compose/a"]
