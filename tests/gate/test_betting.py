"""The gate: figures by hand, error and power by simulation, vetoes, and how batches are cut."""

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moevolve.errors import UsageError
from moevolve.gate.betting import STAKES, GateVerdict, PairedGate, log_capital

SKILLS = [f"branch/{number:02}" for number in range(12)]
ALPHA = 0.05

Row = tuple[str, float, float]
WIN, LOSS, TIE = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)


def gate(**changes: object) -> PairedGate:
    settings = {"alpha": ALPHA, "margin": 0.05, "min_n": 192, "max_n": 1536, "skills": SKILLS} | changes
    return PairedGate(**settings)  # type: ignore[arg-type]


def play(rng: Random, better: list[float], worse: list[float], **changes: object) -> GateVerdict:
    """Feeds batches of eight rounds in which skill k wins with better[k] and loses with worse[k]."""
    test = gate(**changes)
    while test.verdict.decision is None:
        batch: list[Row] = []
        for index in range(96):
            k = index % 12
            point = rng.random()
            pair = WIN if point < better[k] else LOSS if point < better[k] + worse[k] else TIE
            batch.append((SKILLS[k], *pair))
        test.update(batch)
    return test.verdict


def promoted(runs: int, better: list[float], worse: list[float], **changes: object) -> float:
    verdicts = [play(Random(f"{seed} {better}"), better, worse, **changes) for seed in range(runs)]
    return sum(verdict.decision == "promote" for verdict in verdicts) / runs


# ---------------------------------------------------------------- error


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ([0.10] * 12, [0.10] * 12),
        ([0.02] * 12, [0.02] * 12),
        ([0.40] * 12, [0.40] * 12),
        # Skills differ and their mean is 0: one large gain paid for by eleven losses.
        ([0.55] + [0.0] * 11, [0.0] + [0.05] * 11),
    ],
)
def test_a_candidate_that_is_not_better_is_seldom_promoted(better: list[float], worse: list[float]) -> None:
    # 500 nulls each, stopped as early as the gate likes. The true rates lie below .01, far from the bound.
    assert promoted(500, better, worse) <= ALPHA


def test_the_evidence_itself_keeps_its_error_without_any_other_rule() -> None:
    # No veto, no waiting, no futility: Ville's inequality alone, looked at after every round.
    crossings = 0
    for seed in range(2000):
        rng = Random(seed)
        counts = {1.0: 0, -1.0: 0, 0.0: 0}
        for _ in range(60):
            for _ in range(12):
                counts[rng.choices([1.0, -1.0, 0.0], [1, 1, 3])[0]] += 1
            if log_capital(counts, STAKES) >= math.log(1 / ALPHA):
                crossings += 1
                break
    assert crossings / 2000 <= ALPHA


# ---------------------------------------------------------------- power


def test_a_gain_of_a_twentieth_in_one_skill_is_found_in_a_few_hundred_tasks() -> None:
    verdicts = [play(Random(seed), [0.6] + [0.0] * 11, [0.0] * 12) for seed in range(50)]
    assert all(verdict.decision == "promote" for verdict in verdicts)
    assert sum(verdict.n for verdict in verdicts) / 50 < 400


def test_a_gain_among_much_churn_is_found() -> None:
    assert promoted(60, [0.12] * 12, [0.07] * 12) >= 0.85


def test_a_collapse_is_discarded_at_once() -> None:
    verdict = play(Random(0), [0.0] * 12, [0.5] * 12)
    assert verdict.decision == "discard"
    assert verdict.n == 96
    assert verdict.reason.startswith("worse than the champion")


def test_two_variants_that_answer_alike_do_not_use_up_the_budget() -> None:
    verdict = play(Random(0), [0.0] * 12, [0.0] * 12)
    assert verdict.decision == "archive"
    assert verdict.n < 1536 / 2
    assert verdict.evidence == 0.0


# ---------------------------------------------------------------- no skill may pay for the others


def test_harm_to_one_skill_is_a_veto_however_large_the_gain_elsewhere() -> None:
    verdicts = [play(Random(seed), [0.0] + [0.2] * 11, [0.6] + [0.02] * 11) for seed in range(30)]
    assert all(verdict.decision == "archive" for verdict in verdicts)
    assert all(verdict.vetoes == (SKILLS[0],) for verdict in verdicts)
    assert any("harms branch/00" in verdict.reason for verdict in verdicts)


def test_false_vetoes_stay_below_alpha() -> None:
    # Every skill exactly at its margin: -.05.
    verdicts = [play(Random(seed), [0.1] * 12, [0.15] * 12) for seed in range(300)]
    assert sum("harms" in verdict.reason for verdict in verdicts) / 300 <= ALPHA


def test_a_promotion_waits_for_enough_tasks_of_every_skill() -> None:
    test = gate(min_n=48)
    for _ in range(3):
        test.update([(SKILLS[0], *WIN)] * 30)
    assert test.verdict.evidence > math.log(1 / ALPHA)
    assert test.verdict.decision is None
    assert "waiting for enough tasks" in test.verdict.reason
    test.update([(skill, *TIE) for skill in SKILLS[1:] for _ in range(4)])
    assert test.verdict.decision == "promote"


def test_a_promotion_waits_for_a_skill_that_looks_worse_and_goes_on_when_it_recovers() -> None:
    test = gate(min_n=48)
    test.update([(SKILLS[0], *WIN)] * 30 + [(skill, *TIE) for skill in SKILLS[2:] for _ in range(4)])
    test.update([(SKILLS[1], *LOSS)] * 1 + [(SKILLS[1], *TIE)] * 5)
    assert test.verdict.decision is None
    assert SKILLS[1] in test.verdict.reason
    test.update([(SKILLS[1], *TIE)] * 10)
    assert test.verdict.decision == "promote"


# ---------------------------------------------------------------- figures


def test_figures_by_hand() -> None:
    test = gate(skills=["a", "b"], min_n=2, max_n=100)
    test.update([("a", 1.0, 0.0), ("a", 1.0, 1.0), ("b", 0.25, 0.5), ("b", 0.0, 1.0)])
    verdict = test.verdict
    assert (verdict.n, verdict.wins, verdict.losses) == (4, 1, 2)
    assert verdict.gain == -0.0625
    assert verdict.skills == {"a": 0.5, "b": -0.625}
    by_hand = [(1 + s) * (1 - 0.25 * s) * (1 - s) for s in STAKES]
    assert math.isclose(verdict.evidence, math.log(sum(by_hand) / len(by_hand)))
    against = [(1 - s) * (1 + 0.25 * s) * (1 + s) for s in STAKES]
    assert math.isclose(verdict.against, math.log(sum(against) / len(against)))


def test_before_any_task_nothing_is_known() -> None:
    verdict = gate().verdict
    assert verdict.decision is None
    assert (verdict.n, verdict.gain, verdict.evidence, verdict.skills) == (0, 0.0, 0.0, {})


@settings(max_examples=60)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.0, 0.3, 1.0])
        ),
        min_size=1,
        max_size=60,
    ),
    seed=st.integers(),
)
def test_figures_depend_on_the_tasks_and_not_on_their_order_or_cut(rows: list[Row], seed: int) -> None:
    whole = gate(skills=["a", "b"], min_n=10**6, max_n=10**6, alpha=1e-300)
    whole.update(rows)
    mixed = gate(skills=["a", "b"], min_n=10**6, max_n=10**6, alpha=1e-300)
    shuffled = list(rows)
    Random(seed).shuffle(shuffled)
    cut = len(rows) // 3
    mixed.update(shuffled[:cut])
    mixed.update([])
    mixed.update(shuffled[cut:])
    assert mixed.verdict == whole.verdict


@given(st.dictionaries(st.floats(-1, 1), st.integers(1, 10**6), max_size=6))
def test_capital_stays_finite(counts: dict[float, int]) -> None:
    assert math.isfinite(log_capital(counts, STAKES))


# ---------------------------------------------------------------- misuse


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gate(alpha=0.0), "0 < alpha < 1"),
        (lambda: gate(margin=1.0), "margin"),
        (lambda: gate(skills=[]), "at least one skill"),
        (lambda: gate(min_n=9, max_n=8), "between 1 and max_n = 8, not 9"),
        (lambda: gate().update([("text/other", 1.0, 0.0)]), "text/other"),
        (lambda: gate().update([(SKILLS[0], 1.5, 0.0)]), "scores lie in"),
        (lambda: gate().update([(SKILLS[0], math.nan, 0.0)]), "scores lie in"),
    ],
)
def test_misuse_is_named(call: Callable[[], None], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_a_decided_gate_takes_no_more_tasks() -> None:
    test = gate()
    test.update([(SKILLS[index % 12], *LOSS) for index in range(96)])
    assert test.verdict.decision == "discard"
    with pytest.raises(UsageError, match="has decided"):
        test.update([])
