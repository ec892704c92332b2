"""Parent choice: the Darwin Goedel Machine's formula, and the rules it is compared with."""

import math
from collections import Counter
from random import Random

import pytest

from moevolve.errors import UsageError
from moevolve.journal.archive import Archive, Variant
from moevolve.selection.parents import SELECTIONS, BestSelection, DgmSelection, RandomSelection


def variant(id: str, parent: str | None, score: float | None) -> Variant:
    return Variant(
        id,
        [parent] if parent else [],
        0,
        "weights",
        "program",
        "program",
        "operator",
        "summary",
        score,
        "kept",
    )


def archive(*rows: tuple[str, str | None, float | None]) -> Archive:
    made = Archive()
    for row in rows:
        made.add(variant(*row))
    return made


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_formula() -> None:
    chances = DgmSelection().probabilities(archive(("a", None, 0.5), ("b", "a", 0.7), ("c", "a", 0.4)))
    raw = {"a": 0.5 / 3, "b": sigmoid(2.0), "c": sigmoid(-1.0)}
    for id, weight in raw.items():
        assert math.isclose(chances[id], weight / sum(raw.values()))
    assert math.isclose(sum(chances.values()), 1.0)


def test_no_variant_is_ever_excluded() -> None:
    chances = DgmSelection().probabilities(archive(("a", None, 1.0), ("b", "a", 0.0), ("c", "b", 0.0)))
    assert all(chance > 0 for chance in chances.values())


def test_without_a_score_the_nearest_ancestors_counts() -> None:
    policy = DgmSelection()
    family = archive(("a", None, None), ("b", "a", 0.9), ("c", "b", None), ("d", "c", None))
    chances = policy.probabilities(family)
    assert math.isclose(chances["b"], chances["c"])  # one child each, one score
    assert math.isclose(chances["d"], 2 * chances["c"])  # the same score, no child
    assert math.isclose(chances["a"] / chances["c"], 0.5 / sigmoid(4.0))  # the midpoint: no ancestor has one


def test_the_choice_follows_the_probabilities_and_the_generator() -> None:
    family = archive(("a", None, 0.5), ("b", "a", 0.8), ("c", "a", 0.2))
    policy = DgmSelection()
    rng = Random(3)
    seen = Counter(policy.choose(family, rng).id for _ in range(4000))
    for id, chance in policy.probabilities(family).items():
        assert abs(seen[id] / 4000 - chance) < 0.03
    assert policy.choose(family, Random(5)) == policy.choose(family, Random(5))


def test_the_best_is_the_champion() -> None:
    family = archive(("a", None, 0.5), ("b", "a", 0.8), ("c", "a", 0.9))
    family.update("b", status="champion")
    assert BestSelection().choose(family, Random(0)).id == "b"


def test_a_random_choice_gives_every_variant_its_turn() -> None:
    family = archive(("a", None, 0.0), ("b", "a", 1.0), ("c", "a", None))
    rng = Random(1)
    seen = Counter(RandomSelection().choose(family, rng).id for _ in range(3000))
    assert all(abs(seen[id] / 3000 - 1 / 3) < 0.05 for id in "abc")


@pytest.mark.parametrize("name", SELECTIONS)
def test_every_rule_names_an_empty_archive(name: str) -> None:
    with pytest.raises(UsageError, match="empty archive"):
        SELECTIONS[name]().choose(Archive(), Random(0))


@pytest.mark.parametrize("name", SELECTIONS)
def test_what_a_guard_vetoed_is_nobodys_parent(name: str) -> None:
    family = archive(("a", None, 0.1), ("b", "a", 1.0))
    family.update("b", status="vetoed")
    assert {SELECTIONS[name]().choose(family, Random(seed)).id for seed in range(50)} == {"a"}
