"""What separates the failures of a skill."""

from random import Random

import pytest

from moevolve.errors import UsageError
from moevolve.skills.features import Feature, Seen, feature, separations


@pytest.mark.parametrize(
    ("which", "payload", "holds"),
    [
        (Feature("length", least=4), "abcd", True),
        (Feature("length", least=5), "abcd", False),
        (Feature("repeats"), "abba", True),
        (Feature("repeats"), "abab", False),
        (Feature("variety", least=3), "abab", False),
        (Feature("character", character="a"), "bba", True),
        (Feature("carry"), "17+5", True),
        (Feature("carry"), "12+5", False),
        (Feature("carry"), "21-3", True),
        (Feature("carry"), "25-3", False),
        (Feature("carry"), "bdca", False),
        (Feature("alike"), "71542,71983", True),
        (Feature("alike"), "715,71983", False),
    ],
)
def test_a_feature_is_a_property_of_the_payload(which: Feature, payload: str, holds: bool) -> None:
    assert which.holds(payload) is holds


@pytest.mark.parametrize(
    "which",
    [
        Feature("length", least=9),
        Feature("variety", least=2),
        Feature("character", character="x"),
        Feature("carry"),
    ],
)
def test_a_feature_is_read_back_from_its_text(which: Feature) -> None:
    assert feature(str(which)) == which


@pytest.mark.parametrize(
    "text", ["", "longness", "length", "length>=x", "character=", "character=ab", "carry=1"]
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="feature"):
        feature(text)


def attempts(fails: Feature, share: float, n: int = 300) -> list[Seen]:
    """Sums of two numbers; those with the feature fail in that share of tries, the others never."""
    draw = Random(1)
    made = []
    for _ in range(n):
        level = draw.randint(1, 4)
        payload = f"{draw.randrange(10**level)}+{draw.randrange(10**level)}"
        made.append(Seen(payload, level, not fails.holds(payload) or draw.random() >= share))
    return made


def test_the_feature_that_makes_tasks_fail_is_found_first() -> None:
    found = separations(attempts(Feature("carry"), 0.9))
    assert found[0].feature == Feature("carry")
    assert found[0].difference > 0.5
    assert found[0].evidence > 3


def test_where_nothing_separates_failures_the_evidence_is_small() -> None:
    draw = Random(2)
    noise = [Seen(each.payload, each.level, draw.random() < 0.5) for each in attempts(Feature("carry"), 0.0)]
    assert all(abs(each.evidence) < 4 for each in separations(noise))


def test_a_feature_that_nearly_every_task_has_separates_nothing() -> None:
    made = [Seen("abcdefg", 1, index % 2 == 0) for index in range(40)]
    assert separations(made) == []
