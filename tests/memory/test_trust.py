"""Trust is earned: useless lessons stay where they were, poison sinks and expires, and help rises."""

from __future__ import annotations

from random import Random

from moevolve.memory.trust import Evidence, Rate, Tried, least, rates, trusted, weighed


def tried(lesson: str, success: bool, twin: bool | None = None) -> Tried:
    return Tried(skill="s", lessons=[lesson], success=success, twin=twin)


def test_before_any_attempt_nobody_knows() -> None:
    assert (Evidence().trust, Evidence().helped, Evidence().expired) == (0.5, False, False)
    assert weighed({}, [tried("a", True), tried("a", False)], {}) == {}, "there is nothing to compare with"


def test_a_twin_says_what_the_lesson_changed() -> None:
    pairs = {
        "both right": (True, True),
        "rescued": (True, False),
        "ruined": (False, True),
        "both wrong": (False, False),
    }
    found = {
        name: weighed({}, [tried("a", ours, theirs)], {"s": Rate(5, 10)})["a"]
        for name, (ours, theirs) in pairs.items()
    }
    assert found["both right"] == found["both wrong"] == Evidence(0.0, 0.0)
    assert found["rescued"] == Evidence(1.0, 0.0) and found["ruined"] == Evidence(0.0, 1.0)


def test_without_a_twin_the_skills_rate_stands_in() -> None:
    without = rates({}, [tried("x", True, twin=each) for each in (True, False, False, False)])
    assert without == {"s": Rate(1, 4)}
    found = weighed({}, [tried("a", True), tried("b", False)], without)
    rate = without["s"].mean
    assert found == {"a": Evidence(1 - rate, 0.0), "b": Evidence(0.0, rate)}


def test_lessons_find_their_place_by_what_they_change() -> None:
    """A hundred attempts each: of the rate without memory, better, and worse."""
    draw = Random(1)
    without = {"s": Rate(40, 100)}
    chances = {"useless": without["s"].mean, "helps": 0.8, "harms": 0.05}
    evidence: dict[str, Evidence] = {}
    for _ in range(100):
        attempts = [tried(name, draw.random() < chance) for name, chance in chances.items()]
        evidence |= weighed(evidence, attempts, without)
    assert evidence["helps"].helped and evidence["helps"].trust > 0.7
    assert evidence["harms"].expired and evidence["harms"].standing.forgotten
    assert not evidence["useless"].expired and abs(evidence["useless"].trust - 0.5) < 0.15


def test_a_useless_lesson_seldom_passes_for_one_that_helps_or_harms() -> None:
    draw, judged = Random(2), 0
    for _ in range(200):
        evidence: dict[str, Evidence] = {}
        for _ in range(10):
            evidence |= weighed(evidence, [tried("a", draw.random() < 0.3)], {"s": Rate(30, 100)})
        judged += evidence["a"].helped or evidence["a"].expired
    assert judged <= 30


def test_what_was_earned_elsewhere_counts_for_a_little() -> None:
    assert trusted(0.5).trust == 0.5
    assert 0.5 < trusted(0.9).trust < 0.95
    assert trusted(0.1).trust < 0.5


def test_a_trust_alone_is_kept_by_the_least_evidence_that_has_it() -> None:
    for trust in (0.1, 0.25, 0.5, 0.6, 0.9):
        found = least(trust)
        assert abs(found.trust - trust) < 1e-12 and min(found.for_, found.against) == 0.0
        assert (found + Evidence(1.0, 0.0)).trust > trust > (found + Evidence(0.0, 1.0)).trust
    assert (least(0.5), least(1.0).for_ + 2) == (Evidence(), 64.0), "nothing is certain"
