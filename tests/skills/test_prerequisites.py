"""Prerequisites: attempts go first to what a skill builds on."""

import math

from moevolve.skills.curriculum import UNREADY, by_amplification, by_practice
from moevolve.skills.mastery import Mastery
from moevolve.skills.prerequisites import readiness

REQUIRES = {"compose/both": ("text/sort", "text/reverse")}
LEVELS = {"text/sort": (1, 4), "text/reverse": (1, 4), "compose/both": (1, 6)}


def known(sort: float, reverse: float) -> Mastery:
    made = Mastery(LEVELS)
    for level in range(1, 5):
        made.observe("text/sort", level, 1000 * sort, 1000)
        made.observe("text/reverse", level, 1000 * reverse, 1000)
    return made


def test_a_skill_is_as_ready_as_the_least_of_its_prerequisites() -> None:
    ready = readiness(REQUIRES, known(0.9, 0.2))
    assert math.isclose(ready("compose/both", 2), 0.2, abs_tol=0.01)
    assert ready("text/sort", 2) == 1.0
    assert math.isclose(ready("compose/both", 6), 0.2, abs_tol=0.01), "beyond their top, their top counts"


def test_the_first_mastery_that_knows_a_prerequisite_speaks_for_it() -> None:
    other = Mastery({"compose/both": (1, 4)})
    ready = readiness({"compose/three": ("compose/both", "elsewhere/unknown")}, other, known(0.9, 0.9))
    assert ready("compose/three", 1) == other.estimates("compose/both")[1]


def test_a_skill_whose_prerequisites_fail_gets_fewer_attempts_and_some_all_the_same() -> None:
    made = known(0.9, 0.0)
    ready = readiness(REQUIRES, made)
    for weights, without in (
        (by_practice(made, made, ready), by_practice(made, made)),
        (by_amplification(made, made, ready), by_amplification(made, made)),
    ):
        assert weights["compose/both", 1] < 0.35 * without["compose/both", 1]
        assert weights["compose/both", 1] >= UNREADY * without["compose/both", 1]
        assert weights["text/reverse", 1] == without["text/reverse", 1]
