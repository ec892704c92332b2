"""Leaves that a tree grows: generator, grader and truth follow from the leaves they are made of."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.errors import UsageError
from moevolve.records import Grown, SkillInfo
from moevolve.skills.features import Feature
from moevolve.tasks.grader.carried import dumps, loads
from moevolve.tasks.grown import composed, fits, grown, parts, payload_of, sides
from moevolve.tasks.listed import listed
from moevolve.tasks.skill import Skill
from moevolve.tasks.splits import split_of
from moevolve.tasks.suite import Suite, suite
from moevolve.tasks.task import Task

PRIMER = suite("primer")
PAIRS = [(a, b) for a in PRIMER.skills for b in PRIMER.skills if fits(PRIMER, PRIMER[a], PRIMER[b])]


def change(kind: str, parents: list[str], *leaves: Skill, name: str = "g001", feature: str = "") -> Grown:
    return Grown(
        cycle=1,
        growth=name,
        change=kind,  # type: ignore[arg-type]
        skill=leaves[0].path,
        parents=parents,
        leaves=[SkillInfo(path=leaf.path, summary=leaf.summary, levels=leaf.levels) for leaf in leaves],
        feature=feature,
        variant="v0000",
        decision="added",
        reason="",
        trial=[],
        tokens=0,
    )


# ---------------------------------------------------------------------- composed leaves


@given(pair=st.sampled_from(PAIRS), level=st.integers(1, 16), seed=st.integers(0, 2**32))
def test_a_composed_answer_is_the_second_skills_to_the_first_ones(
    pair: tuple[str, str], level: int, seed: int
) -> None:
    first, second = (PRIMER[path] for path in pair)
    leaf = composed(first, second, (1, 16))
    task = leaf.task(level, seed)
    verb, _, rest = task.prompt.partition(":")
    assert verb == f"{first.verb}+{second.verb}"
    between = first.truth(f"{first.verb}:{rest}")  # type: ignore[misc]
    assert task.answer == second.truth(f"{second.verb}:{between}=")  # type: ignore[misc]
    assert leaf.truth is not None and leaf.truth(task.prompt) == task.answer
    assert leaf.grade(task, task.answer or "").success
    assert not leaf.grade(task, f"{task.answer}a").success


def test_what_composes_is_new_needs_both_skills_and_is_in_order() -> None:
    assert ("text/sort", "text/reverse") not in PAIRS, "the primer has it"
    assert ("text/reverse", "text/sort") not in PAIRS, "the first step changes nothing"
    assert ("text/reverse", "text/reverse") not in PAIRS, "it gives the payload back"
    assert ("text/sort", "text/sort") not in PAIRS, "once is as good as twice"
    assert ("text/reverse", "number/add") not in PAIRS, "letters are no sum"
    assert ("number/count", "number/parity") not in PAIRS, "its answers are a handful"
    assert ("text/caesar", "text/sort") in PAIRS
    assert ("number/add", "number/parity") in PAIRS
    for first, second in PAIRS:
        leaf = composed(PRIMER[first], PRIMER[second], (1, 8))
        assert Suite("one", [leaf]).validate(64).problems == []


def test_a_composed_leaf_composes_further_up_to_three_skills() -> None:
    two = composed(PRIMER["text/caesar"], PRIMER["text/sort"], (1, 8))
    with_two = PRIMER.of([*PRIMER.skills.values(), two])
    assert fits(with_two, two, PRIMER["text/reverse"])
    three = composed(two, PRIMER["text/reverse"], (1, 8))
    assert three.path == "compose/caesar_then_sort_then_reverse"
    assert three.verb == "cae+srt+rev"
    task = three.task(3, 7)
    assert three.truth is not None and three.truth(task.prompt) == task.answer
    with_three = with_two.of([*with_two.skills.values(), three])
    assert not fits(with_three, three, PRIMER["text/caesar"])


def test_skills_without_a_truth_or_with_listed_tasks_do_not_compose() -> None:
    own = Skill(
        path="own/echo", summary="", generator=lambda rng, level: Task(prompt=f"{rng.random()}", answer="x")
    )
    tree = PRIMER.of([*PRIMER.skills.values(), own])
    assert not fits(tree, own, PRIMER["text/sort"])
    assert not fits(tree, PRIMER["text/sort"], own)


def test_a_grown_leaf_travels_to_the_graders_process() -> None:
    leaf = composed(PRIMER["text/caesar"], PRIMER["text/sort"], (1, 8))
    side = sides(PRIMER["number/add"], Feature("carry"))[0]
    there = loads(dumps({"a": leaf, "b": side}, "two leaves"))
    assert there["a"].task(4, 9) == leaf.task(4, 9)
    assert there["b"].task(4, 9) == side.task(4, 9)


# ---------------------------------------------------------------------- splits


@given(level=st.integers(1, 16), seed=st.integers(0, 2**32))
def test_both_sides_of_a_split_hold_the_tasks_that_their_names_say(level: int, seed: int) -> None:
    which = Feature("carry")
    having, without = sides(PRIMER["number/add"], which)
    assert (having.path, without.path) == ("number/add_carry", "number/add_no_carry")
    assert which.holds(payload_of(having.task(level, seed).prompt))
    assert not which.holds(payload_of(without.task(min(level, 4), seed).prompt))


def test_a_side_has_the_levels_on_which_it_is_common_and_a_split_has_two_sides_or_none() -> None:
    having, without = parts(PRIMER["number/add"], Feature("carry"))
    assert having.levels[1] == 16
    assert without.levels[0] == 1 and without.levels[1] < 16, "long sums nearly always carry"
    assert parts(PRIMER["text/sort"], Feature("carry")) == []
    long, short = parts(PRIMER["text/sort"], Feature("length", least=9))
    assert (long.levels, short.levels) == ((7, 16), (1, 6))


def test_listed_tasks_are_not_split_since_their_prompts_tell_no_split() -> None:
    rows = {
        level: [Task(prompt=f"{level} {n} {'aa' if n % 2 else 'ab'}", answer="x") for n in range(40)]
        for level in (1, 2)
    }
    tasks = listed(rows)
    leaf = Skill(path="own/listed", summary="", generator=tasks.generate, levels=(1, 2), listed=tasks)
    assert parts(leaf, Feature("repeats")) == []


def test_a_task_of_a_side_lies_in_the_split_that_it_has_in_the_whole_leaf() -> None:
    secret = b"of this run"
    side = sides(PRIMER["number/add"], Feature("carry"))[0]
    keyed = PRIMER.of([*PRIMER.skills.values(), side]).keyed(secret)
    for index in range(20):
        task = keyed.draw("train", side.path, 5, index)
        assert split_of(task.prompt, secret) == "train"


# ---------------------------------------------------------------------- the tree


def test_changes_in_order_give_the_tree() -> None:
    two = composed(PRIMER["text/caesar"], PRIMER["text/sort"], (1, 8))
    three = composed(two, PRIMER["text/reverse"], (1, 8))
    higher = msgspec.structs.replace(PRIMER["text/sort"], levels=(1, 18))
    made = grown(
        PRIMER,
        [
            change("compose", ["text/caesar", "text/sort"], two),
            change("compose", [two.path, "text/reverse"], three, name="g002"),
            change("levels", ["text/sort"], higher, name="g003"),
            change("retire", [two.path], two, name="g004"),
        ],
    )
    assert set(made.skills) - set(PRIMER.skills) == {three.path}
    assert made["text/sort"].levels == (1, 18)
    assert len(made.task("text/sort", 18, 1).answer or "") == 20
    assert made.task(three.path, 3, 5) == three.task(3, 5)


def test_a_change_of_a_leaf_that_is_not_there_is_refused() -> None:
    two = composed(PRIMER["text/caesar"], PRIMER["text/sort"], (1, 8))
    with pytest.raises(UsageError, match="text/caesar"):
        grown(PRIMER.only(["text/sort"]), [change("compose", ["text/caesar", "text/sort"], two)])


def test_one_seed_names_one_task_for_ever() -> None:
    leaf = composed(PRIMER["number/add"], PRIMER["number/parity"], (1, 8))
    assert leaf.task(3, 11) == leaf.task(3, 11)
    assert leaf.generator(Random(11), 3).prompt == leaf.task(3, 11).prompt
