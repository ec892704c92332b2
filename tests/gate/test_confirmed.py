"""Best confirmed levels: who holds them, and that small losses cannot add up."""

import pytest

from moevolve.gate.betting import Paired, PairedGate
from moevolve.gate.confirmed import BestLevel, begin, elsewhere, promoted

SKILLS = ["a", "b", "c"]


def promoted_gate(differences: dict[str, int], ties: int = 150, best: tuple[str, ...] = ()) -> PairedGate:
    """A gate that promoted: `differences[skill]` wins (losses where negative) beside `ties` ties at each skill."""
    gate = PairedGate(0.05, 0.05, 3, 3000, SKILLS, confirm_n=3000, best=best)
    for skill, held in [(skill, False) for skill in SKILLS] + [(skill, True) for skill in best]:
        count = differences[skill] if not held else 0
        won = [Paired(skill, 1.0, 0.0, held)] * max(0, count)
        lost = [Paired(skill, 0.0, 1.0, held)] * max(0, -count)
        gate.update([*won, *lost, *[Paired(skill, 1.0, 1.0, held)] * ties])
    assert gate.verdict.decision == "promote", gate.verdict
    return gate


def test_a_run_begins_with_the_levels_of_its_first_variant() -> None:
    levels = begin(SKILLS, "v0")
    assert levels["a"] == BestLevel(variant="v0", level=None, n=0)
    assert elsewhere(levels, "v0") == {}
    assert elsewhere(levels, "v1") == {"a": "v0", "b": "v0", "c": "v0"}


def test_a_new_champion_holds_what_it_gained_and_nothing_that_it_tied_or_lost() -> None:
    gate = promoted_gate({"a": 30, "b": 0, "c": -1}, ties=200)
    levels = promoted(begin(SKILLS, "v0"), gate, "v1", "v0")
    assert elsewhere(levels, "v1") == {"b": "v0", "c": "v0"}
    assert levels["a"] == BestLevel(variant="v1", level=1.0, n=230)


def test_a_level_that_another_variant_holds_is_taken_by_a_gain_over_that_variant_alone() -> None:
    gate = promoted_gate({"a": 30, "b": 20, "c": 0}, best=("b",))
    levels = promoted(begin(SKILLS, "v1") | {"b": BestLevel(variant="v0")}, gate, "v2", "v1")
    assert levels["a"].variant == "v2"
    assert levels["b"].variant == "v0"


def test_a_loss_to_the_best_level_stops_a_promotion_though_the_champion_is_beaten() -> None:
    # The candidate equals the champion at b, and both lie .10 below what b once was.
    gate = PairedGate(0.05, 0.05, 3, 3000, SKILLS, confirm_n=3000, best=["b"])
    for skill in SKILLS:
        gate.update([Paired(skill, 1.0, 0.0)] * 20 + [Paired(skill, 1.0, 1.0)] * 150)
    while gate.verdict.decision is None:
        assert [(want.skill, want.best) for want in gate.wants()] == [("b", True)]
        gate.update([Paired("b", 0.0, 1.0, True)] * 10 + [Paired("b", 1.0, 1.0, True)] * 90)
    assert gate.verdict.decision == "archive"
    assert gate.verdict.vetoes == ("b",)
    assert gate.verdict.bounds["b"] == pytest.approx(-0.2, abs=0.06)
