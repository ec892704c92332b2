"""Selection policies: each against the formula that its paper, or its published code, has."""

from __future__ import annotations

import math
import sys
from collections import Counter
from statistics import fmean, median
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selection_trees import at, tree, trees

from moevolve.config.schema import Policy
from moevolve.errors import UsageError
from moevolve.selection.clade import Hgm, beta_cdf, beta_quantile, metaproductivity, temperature, transfer
from moevolve.selection.islands import MapElitesIslands
from moevolve.selection.pareto import GepaPareto, front, undominated
from moevolve.selection.policy import Budget, Evaluate, Expand
from moevolve.selection.table import POLICIES, policy
from moevolve.selection.tree import Node, Tree


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def formula(archive: Tree, midpoint: float, spread: float, novelty: str) -> dict[str, float]:
    """What the four sigmoid rules come to, written out once more."""
    raw = {}
    for node in archive:
        if not node.open:
            continue
        score, up = node.score, node.parent
        while score is None and up is not None:
            score, up = archive[up].score, archive[up].parent
        n = len(archive.children(node.id))
        share = 1 / (1 + n) if novelty == "paper" else math.exp(-((n / 8) ** 3))
        raw[node.id] = share * (0.5 if score is None else sigmoid(10 * (score - midpoint) / spread))
    total = sum(raw.values())
    return {id: weight / total if total else 1 / len(raw) for id, weight in raw.items()}


def known(archive: Tree) -> list[float]:
    found = (archive.score(node.id) for node in archive if node.open)
    return [score for score in found if score is not None]


@given(trees())
def test_dgm_is_its_formula(archive: Tree) -> None:
    assert policy("dgm").probabilities(archive) == pytest.approx(formula(archive, 0.5, 1.0, "paper"))


@given(trees())
def test_dgm_h_has_the_mean_of_the_three_best_as_its_midpoint(archive: Tree) -> None:
    top = fmean(sorted(known(archive))[-3:]) if known(archive) else 0.5
    assert policy("dgm-h-paper").probabilities(archive) == pytest.approx(formula(archive, top, 1.0, "paper"))
    assert policy("dgm-h-code").probabilities(archive) == pytest.approx(formula(archive, top, 1.0, "code"))


@given(trees())
def test_shinka_measures_in_median_absolute_deviations(archive: Tree) -> None:
    middle = median(known(archive)) if known(archive) else 0.5
    spread = median(abs(score - middle) for score in known(archive)) if known(archive) else 1.0
    wanted = formula(archive, middle, max(spread, 1e-6), "paper")
    assert policy("shinka").probabilities(archive) == pytest.approx(wanted, abs=1e-12)


def test_a_rule_written_out() -> None:
    chances = policy("dgm").probabilities(tree(("a", None, 0.5), ("b", "a", 0.7), ("c", "a", 0.4)))
    raw = {"a": 0.5 / 3, "b": sigmoid(2.0), "c": sigmoid(-1.0)}
    assert chances == pytest.approx({id: weight / sum(raw.values()) for id, weight in raw.items()})


def test_without_a_score_the_nearest_ancestors_counts() -> None:
    chances = policy("dgm").probabilities(
        tree(("a", None, None), ("b", "a", 0.9), ("c", "b", None), ("d", "c", None))
    )
    assert chances is not None
    assert chances["b"] == pytest.approx(chances["c"])  # one child each, one score
    assert chances["d"] == pytest.approx(2 * chances["c"])  # the same score, no child
    assert chances["a"] / chances["c"] == pytest.approx(
        0.5 / sigmoid(4.0)
    )  # no ancestor has one: the midpoint


@given(trees())
def test_pareto_counts_the_instances_that_a_node_wins(archive: Tree) -> None:
    winners = front(archive)
    kept = undominated(archive, winners)
    for instance, best in winners.items():
        top = max(node.scores[instance] for node in archive.members if instance in node.scores)
        assert best == {node.id for node in archive.members if node.scores.get(instance) == top}
        assert best & kept, "whoever is left out, each instance keeps a winner"
    for one in kept:
        assert any(best & kept == {one} for best in winners.values()), "who is left wins something alone"
    weights = GepaPareto().weights(archive)
    if not winners:
        assert set(weights.values()) == {1.0}
        return
    for node in archive.members:
        wins = sum(node.id in best for best in winners.values())
        assert weights[node.id] == (wins if node.id in kept else 0)


@given(trees())
def test_islands_mix_any_member_elites_and_scores(archive: Tree) -> None:
    rule = MapElitesIslands()
    islands = rule.residents(archive)
    assert all(archive.nodes[0].id in island for island in islands), "the first node lives everywhere"
    assert all(node.id in islands[(node.step or 0) % 5] for node in archive.nodes[1:])
    here = [node for node in archive.members if node.id in islands[archive.step % 5]]
    chances = rule.probabilities(archive)
    assert chances is not None
    assert sum(chances.values()) == pytest.approx(1.0)
    elites = set(rule.elites(here).values())
    for node in here:
        least = 0.2 / len(here) + (0.7 / len(elites) if node.id in elites else 0.0)
        assert least - 1e-9 <= chances[node.id] <= least + 0.1 + 1e-9
    assert all(chances[node.id] == 0 for node in archive.members if node not in here)


def test_the_best_of_each_cell_is_its_elite() -> None:
    nodes = [
        Node(id="a", score=0.1, features={"size": 0.0}),
        Node(id="b", parent="a", score=0.9, features={"size": 1.0}),
        Node(id="c", parent="a", score=0.5, features={"size": 10.0}),
        Node(id="d", parent="a", score=0.6, features={"size": 9.5}),
    ]
    assert MapElitesIslands().elites(nodes) == {(0,): "a", (1,): "b", (9,): "d"}


def test_the_best_of_an_island_are_seen_on_the_next_one() -> None:
    """After fifty births, all on island 1 but the first, the best tenth lives on island 2, too."""
    born = [Node(id="n0", score=0.0)]
    born += [Node(id=f"n{i}", parent="n0", score=i / 100, step=1) for i in range(1, 51)]
    islands = MapElitesIslands().residents(Tree(born))
    assert islands[2] == {"n0", "n49", "n48", "n47", "n46", "n45"}
    assert islands[3] == {"n0"}


@given(trees())
@settings(max_examples=10)
def test_draws_follow_the_probabilities(archive: Tree) -> None:
    for name in POLICIES:
        rule = policy(name)
        chances = rule.probabilities(archive)
        if chances is not None:
            seen = Counter(rule.choose(archive, at(index)) for index in range(400))
            assert all(abs(seen[id] / 400 - chance) < 0.125 for id, chance in chances.items())


@given(trees())
def test_a_clade_is_a_node_with_all_that_came_of_it(archive: Tree) -> None:
    for node in archive:
        below = [node, *(each for each, _ in archive.descendants(node.id))]
        sums = sum(each.wins for each in below), sum(each.losses for each in below)
        assert archive.clades[node.id] == sums


@given(trees())
def test_hgm_expands_while_evaluations_support_one_more_node(archive: Tree) -> None:
    action = Hgm().decide(archive, at(0))
    supported = archive.evaluations**0.6 >= len(archive)
    assert isinstance(action, Expand if supported else Evaluate)
    assert archive[action.node].open


def test_hgm_draws_from_the_posterior_of_clades_to_expand() -> None:
    """b is no better than d, but its child is: the share of draws that its clade wins is P(Beta(15, 7) > Beta(6, 6))."""
    nodes = [
        Node(id="a", open=False),
        Node(id="b", parent="a", wins=5, losses=5),
        Node(id="c", parent="b", wins=9, losses=1, open=False),
        Node(id="d", parent="a", wins=5, losses=5),
    ]
    seen = Counter(Hgm().choose(Tree(nodes), at(index)) for index in range(2000))
    mass = [beta_cdf((i + 1) / 1000, 15, 7) - beta_cdf(i / 1000, 15, 7) for i in range(1000)]
    wins = sum(share * beta_cdf((i + 0.5) / 1000, 6, 6) for i, share in enumerate(mass))
    assert seen["b"] / 2000 == pytest.approx(wins, abs=0.04)


def test_hgm_draws_from_the_posterior_of_a_node_to_evaluate() -> None:
    nodes = [Node(id="a", open=False)]
    nodes += [Node(id="b", parent="a", wins=1), Node(id="c", parent="b", wins=0, losses=1)]
    nodes += [Node(id=f"d{i}", parent="a", open=False) for i in range(9)]
    seen = Counter(Hgm().decide(Tree(nodes), at(index)).node for index in range(2000))
    # P(Beta(2, 1) > Beta(1, 2)) = 5/6, whatever the clades say.
    assert seen["b"] / 2000 == pytest.approx(5 / 6, abs=0.04)


@given(trees())
def test_a_nodes_draw_does_not_depend_on_who_else_is_open(archive: Tree) -> None:
    """Closing others never changes the winner: draws are counted by node, not taken from one stream."""
    winner = Hgm().choose(archive, at(0))
    fewer = [
        msgspec.structs.replace(node, open=node.id == winner or (node.open and number % 2 == 0))
        for number, node in enumerate(archive)
    ]
    assert Hgm().choose(Tree(fewer), at(0)) == winner


def test_little_budget_left_makes_hgm_greedy() -> None:
    assert temperature(None) == 1
    assert temperature(Budget(total=100, spent=75)) == 4
    nodes = [
        Node(id="a", open=False),
        Node(id="b", parent="a", wins=6, losses=4),
        Node(id="c", parent="a", wins=4, losses=6),
    ]
    early = Counter(Hgm().choose(Tree(nodes), at(i), Budget(total=100)) for i in range(400))
    late = Counter(Hgm().choose(Tree(nodes), at(i), Budget(total=100, spent=98)) for i in range(400))
    assert early["c"] > 40 > 4 > late["c"]


def test_hgm_hands_back_the_highest_lower_quantile() -> None:
    nodes = [
        Node(id="a", wins=1),
        Node(id="b", parent="a", wins=80, losses=20),
        Node(id="c", parent="a", wins=3),
    ]
    assert Hgm().final(Tree(nodes)) == "b"
    assert metaproductivity(Tree(nodes), "a") == 84 / 104


@pytest.mark.parametrize(("a", "b"), [(1, 1), (0.5, 3), (30, 2), (200, 300)])
def test_the_beta_quantile_is_the_inverse_of_its_distribution(a: float, b: float) -> None:
    for share in (0.01, 0.05, 0.5, 0.975):
        assert beta_cdf(beta_quantile(share, a, b), a, b) == pytest.approx(share, abs=1e-9)
    assert beta_cdf(0.3, 1, 1) == pytest.approx(0.3)
    assert beta_cdf(0.3, 1, 4) == pytest.approx(1 - 0.7**4)


def test_what_is_exported_had_the_best_descendants() -> None:
    """The mean gain over descendants, less by .6 for each step; two descendants are too few."""
    chosen = transfer(
        tree(("a", None, 0.5), ("b", "a", 0.4), ("c", "b", 0.6), ("d", "b", 0.6), ("e", "d", 0.7))
    )
    assert chosen is not None
    assert chosen.id == "b"
    assert transfer(tree(("a", None, 0.5), ("b", "a", 0.9), ("c", "b", 1.0))) is None


def test_the_best_is_the_champion_and_random_gives_everyone_a_turn() -> None:
    archive = tree(("a", None, 0.5), ("b", "a", 0.8), ("c", "a", 0.9), champion="b")
    assert policy("best").choose(archive, at(0)) == "b"
    assert policy("random").probabilities(archive) == pytest.approx(dict.fromkeys("abc", 1 / 3))


@pytest.mark.parametrize("name", POLICIES)
class TestEveryPolicy:
    def test_names_an_empty_archive(self, name: str) -> None:
        with pytest.raises(UsageError, match="empty archive"):
            policy(name).decide(Tree([]), at(0))

    def test_never_chooses_what_is_closed(self, name: str) -> None:
        nodes = [
            Node(id="a", score=0.1, wins=1, losses=9),
            Node(id="b", parent="a", score=1.0, wins=9, open=False),
        ]
        assert {policy(name).decide(Tree(nodes), at(index)).node for index in range(50)} == {"a"}
        assert policy(name).final(Tree(nodes)) == "a"

    def test_is_a_function_of_tree_and_draw(self, name: str) -> None:
        archive = tree(("a", None, 0.5), ("b", "a", 0.8), ("c", "a", 0.2))
        first, again = ([policy(name).choose(archive, at(i)) for i in range(20)] for _ in range(2))
        assert first == again


def test_a_policy_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="no selection policy 'huxley': policies are dgm, dgm-h-paper"):
        policy("huxley")
    assert set(get_args(Policy)) == POLICIES.keys() | {"genome"}


def test_what_is_no_tree_is_refused() -> None:
    for score in (math.nan, math.inf):
        with pytest.raises(UsageError, match="finite"):
            tree(("a", None, score))
    with pytest.raises(UsageError, match="before its parent"):
        tree(("a", "b", 0.1))
    with pytest.raises(UsageError, match="twice"):
        tree(("a", None, 0.1), ("a", None, 0.1))


LARGE = [sys.float_info.max, -sys.float_info.max, 1.5e308, -1.5e308, 0.0]


@pytest.mark.parametrize("name", list(POLICIES))
@given(st.data())
def test_scores_near_the_limit_of_numbers_are_scores(name: str, data: st.DataObject) -> None:
    """An evaluator's penalty is often the lowest number there is."""
    scores = data.draw(st.lists(st.sampled_from([*LARGE, None]), min_size=1, max_size=7))
    nodes = [
        Node(
            id=f"n{number}",
            parent=f"n{number // 2}" if number else None,
            score=score,
            scores={} if score is None else {"metric": score, "other": -score},
            features={} if score is None else {"metric": score, "length": float(number)},
            wins=number / 7,
            losses=1 - number / 7,
            step=number or None,
        )
        for number, score in enumerate(scores)
    ]
    archive = Tree(nodes, "n0", len(nodes))
    chosen = policy(name)
    chances = chosen.probabilities(archive)
    if chances is not None:
        assert math.fsum(chances.values()) == pytest.approx(1) and min(chances.values()) >= 0
    assert chosen.choose(archive, at(1)) in archive
    known = [score for score in scores if score is not None]
    if name != "hgm":
        assert archive[chosen.final(archive)].score == (max(known) if known else None)
