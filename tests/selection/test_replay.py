"""Frozen replay: policies walk the tree that a run recorded, and nothing is attempted again."""

from __future__ import annotations

from typing import Literal

import pytest
from selection_trees import tree

from moevolve.records import (
    Chosen,
    Decision,
    Gated,
    Improved,
    Rated,
    Record,
    RunStarted,
    Screened,
    Selected,
    SkillScore,
    VariantAdded,
)
from moevolve.selection.replayed import recorded, reveal
from moevolve.selection.table import POLICIES, policy
from moevolve.selection.tree import Node, Tree


def added(
    id: str, parent: str | None, level: Literal["program", "weights", "seed"] = "program"
) -> VariantAdded:
    return VariantAdded(
        variant=id,
        parents=[parent] if parent else [],
        cycle=1,
        level=level,
        weights="w",
        program="p",
        operator="o",
        summary="s",
        score=None,
    )


def selected(step: int, parent: str) -> Selected:
    return Selected(cycle=1, step=step, policy="dgm", action="expand", variant=parent, chance=0.5)


def screened(id: str, score: float) -> Screened:
    skills = {"a": SkillScore(score=score, n=10)}
    return Screened(cycle=1, variant=id, score=score, baseline=0.5, n=10, passed=score > 0.5, skills=skills)


def chosen(id: str | None) -> Chosen:
    baseline = {"a": SkillScore(score=0.5, n=10)}
    return Chosen(cycle=1, chosen=id, not_chosen=[], unscreened=[], tokens=1, baseline=baseline)


def gated(id: str, champion: str, decision: Decision) -> Gated:
    return Gated(
        cycle=1,
        level="program",
        candidate=id,
        champion=champion,
        decision=decision,
        reason="",
        n=1,
        wins=1,
        losses=0,
        gain=0.1,
        evidence=9.0,
        alpha=0.01,
        skills={},
        tokens=1,
    )


STARTED = RunStarted(
    run="r",
    seed=1,
    arm="full",
    suite="s",
    answers="any",
    skills=[],
    config="{}",
    champion="v0",
    weights="w",
    program="p",
    parameters=1,
)
RUN: list[Record] = [
    STARTED,
    added("v0", None, "seed"),
    selected(0, "v0"),
    added("v1", "v0"),
    screened("v1", 0.8),
    added("v2", "v0"),
    screened("v2", 0.4),
    chosen("v1"),
    gated("v1", "v0", "promote"),
    added("v3", "v1", "weights"),
    selected(1, "v2"),
    added("v4", "v2"),
    screened("v4", 0.9),
    chosen("v4"),
    gated("v4", "v1", "veto"),
    selected(2, "v0"),
    added("v5", "v0"),
    screened("v5", 0.6),
    chosen(None),
]


def test_the_tree_is_what_the_journal_says() -> None:
    whole = recorded(RUN)
    assert [(node.id, node.parent, node.step) for node in whole] == [
        ("v0", None, None),
        ("v1", "v0", 0),
        ("v2", "v0", 0),
        ("v3", "v1", None),
        ("v4", "v2", 1),
        ("v5", "v0", 2),
    ]
    assert whole.champion == "v1"
    assert not whole["v4"].open
    # Screened once itself (.8 of 10), champion of two screenings (.5 of 10 each).
    assert (whole["v1"].wins, whole["v1"].losses) == (18, 12)
    assert (whole["v0"].wins, whole["v0"].losses) == (5, 5)
    assert whole["v1"].scores == {"a": 0.5}


def test_a_step_reveals_what_the_run_made_in_its_next_step_there() -> None:
    """The best policy climbs: the first node's children, then the best scored of what is left."""
    walk = reveal(recorded(RUN), policy("best"), seed=0)
    assert walk.order == ["v0", "v1", "v2", "v0"]
    assert walk.best == [0.0, 0.8, 0.8, 0.9, 0.9]


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_reveals_the_whole_tree_once(name: str) -> None:
    whole = recorded(RUN)
    walk = reveal(whole, policy(name), seed=3)
    assert sorted(walk.order) == ["v0", "v0", "v1", "v2"]
    assert walk.best[-1] == 0.9
    assert walk == reveal(whole, policy(name), seed=3)


def test_nothing_below_a_closed_node_is_revealed() -> None:
    closed = Tree(
        [
            Node(id="a", score=0.1),
            Node(id="b", parent="a", score=0.2, open=False),
            Node(id="c", parent="b", score=1.0),
        ]
    )
    assert reveal(closed, policy("random"), seed=1).best == [0.1, 0.2]
    assert reveal(tree(("a", None, 0.3)), policy("hgm"), seed=1).order == []


def rated(evaluation: int, id: str, score: float | None, purpose: Literal["candidate", "recheck"]) -> Rated:
    metrics: dict[str, float | bool | str] = {"speed": 2.0, "said": "fast"} if score is not None else {}
    failure = None if score is not None else "crashed"
    return Rated(
        evaluation=evaluation, variant=id, purpose=purpose, score=score, failure=failure, metrics=metrics
    )


def test_each_evaluation_of_an_optimisation_run_is_a_step_of_its_own() -> None:
    records: list[Record] = []
    for evaluation, (id, parent, score) in enumerate(
        [("v0", None, -9.0), ("v1", "v0", -3.0), ("v2", "v0", None), ("v3", "v1", -1.0)]
    ):
        records += [added(id, parent), rated(evaluation, id, score, "candidate")]
    improved = Improved(
        evaluation=5,
        candidate="v3",
        champion="v0",
        decision="promote",
        rule="permutation",
        candidate_scores=[-2.0],
        champion_scores=[-9.0],
    )
    tree = recorded([*records, rated(4, "v3", -2.5, "recheck"), rated(5, "v3", -1.5, "recheck"), improved])
    assert [(node.id, node.step, node.score) for node in tree] == [
        ("v0", None, -9.0),
        ("v1", 1, -3.0),
        ("v2", 2, None),
        ("v3", 3, -2.0),
    ]
    assert (tree.champion, tree.step) == ("v3", 5)
    assert tree["v1"].scores == {"speed": 2.0}
    for name in POLICIES:
        found = reveal(tree, policy(name), 3)
        assert len(found.order) == 3 and found.best[0] == -9.0 and found.best[-1] == -2.0, name


def test_scores_near_the_limit_of_numbers_have_a_mean() -> None:
    def rated(number: int, purpose: Literal["candidate", "recheck"]) -> Rated:
        return Rated(
            evaluation=number,
            variant="v0",
            purpose=purpose,
            score=1.7e308,
            failure=None,
            detail="",
            metrics={},
        )

    found = recorded(
        [added("v0", None, "seed"), rated(0, "candidate"), rated(1, "recheck"), rated(2, "recheck")]
    )
    assert [node.score for node in found] == [1.7e308]
